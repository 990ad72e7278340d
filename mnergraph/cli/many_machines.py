"""`predict` and `features` with ``--engine ray``: files of posts on as many machines as there are."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tqdm.auto import tqdm

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.predictions import Errors
from mnergraph.data.chunker_config import chunker_config
from mnergraph.data.formats.jsonl import UnreadablePost
from mnergraph.engines import ray_data
from mnergraph.engines.columns import PostReader, rows_of
from mnergraph.engines.files import PostFiles, ResultFolder
from mnergraph.engines.images import ImageFiles
from mnergraph.engines.jobs import BuildContext, ExtractFeatures, PredictEntities, provides_texts
from mnergraph.features.pretrained import state_dict_sha256
from mnergraph.features.text.noun_chunks import Chunker
from mnergraph.features.vision.extractor import Extractor
from mnergraph.inference.predictor import Predictor
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.pair import Pair
from mnergraph.registry import LOADED
from mnergraph.training.interruption import keeps


def predict_posts(
    model: Path,
    inputs: Inputs,
    sources: StoreOptions,
    batching: BatchConfig,
    out: Path | None,
    grounder: Path | None,
    *,
    progress: bool,
) -> None:
    """Write the entities of files of posts into a folder of Parquet files; see `mnergraph.cli.predict.predict`.

    Raises:
        ValueError: for options that can't go with the engine, and when none of the posts can be predicted.
    """
    unused = [name for name in inputs.given if name not in ("posts", "images", "allow_paths")]
    if unused or inputs.posts is None or out is None:
        raise ValueError(
            "--engine ray reads --posts, a folder or file of Parquet or JSON lines, and writes into the folder --out"
            + (f"; {', '.join(unused)} can't go with it: such evidence stands in columns" if unused else "")
        )
    posts, results = PostFiles(address_of(inputs.posts)), ResultFolder(address_of(out))
    images = posts.folder if inputs.images is None else address_of(inputs.images)
    tagger = Tagger.from_pretrained(model)
    second = None if grounder is None else Tagger.from_pretrained(grounder)
    predictor = Predictor(
        tagger, batching=batching, stores=sources.stores, run_extractors=sources.run_extractors, grounder=second
    )
    predictor.require_evidence(
        _pairs(posts, images, inputs.allow_paths, predictor.processor.config.image_nodes),
        allow_missing=sources.allow_missing,
    )
    share = ray_data.connect(batching.workers)
    arguments = {
        "images": images,
        "allow_paths": inputs.allow_paths,
        "stores": tuple(map(str, sources.stores)),
        "run_extractors": sources.run_extractors,
        # an actor on a GPU has CPUs to spare for building graphs
        "batching": replace(batching, workers=2 if share.gpus else 0),
    }
    settings = {
        "job": "predict",
        "weights": state_dict_sha256(tagger),
        "grounder": None if second is None else state_dict_sha256(second),
        "posts": posts.address,
        "images": images,
        "allow_paths": inputs.allow_paths,
        "stores": [str(folder) for folder in sources.stores],
        "run_extractors": sources.run_extractors,
        "precision": batching.precision,
        "batch_pieces": batching.batch_pieces,
    }
    arguments |= {"model": str(model), "grounder": None if grounder is None else str(grounder), "modules": _plugins()}
    del predictor, tagger, second
    _run(PredictEntities, arguments, posts, results, settings, batching.workers, share, progress)


def extract_posts(
    extractor: Extractor,
    posts: Path,
    images: Path,
    out: Path,
    chunker: Chunker | None,
    dtype: Literal["float32", "float16", "bfloat16"],
    batch_size: int,
    workers: int,
    progress: bool,
) -> None:
    """Write the features of the images of files of posts into a folder of Parquet files; see `features`.

    Raises:
        ValueError: for a precision that Parquet does not have, and when none of the images gives anything.
    """
    if dtype == "bfloat16":
        raise ValueError("Parquet has no bfloat16: give --dtype float32 or float16")
    import pyarrow as pa

    files, results = PostFiles(address_of(posts)), ResultFolder(address_of(out))
    root = address_of(images)
    share = ray_data.connect(workers)
    settings = {
        "job": "features",
        "extractor": extractor.identity(),
        "chunker": None if chunker is None else chunker_config(chunker),
        "posts": files.address,
        "images": root,
        "dtype": dtype,
    }
    arguments: dict[str, Any] = {"images": root, "batch_size": batch_size, "modules": _plugins()}
    job: Any
    if provides_texts(extractor):
        job, numbers = BuildContext, pa.float32()
        arguments["extractors"] = [extractor]
    else:
        job, numbers = ExtractFeatures, pa.float16() if dtype == "float16" else pa.float32()
        arguments |= {"extractor": extractor, "chunker": chunker, "dtype": dtype}
    _run(job, arguments, files, results, settings, workers, share, progress, numbers)


def address_of(path: Path) -> str:
    """Return a path as text, an address with the slashes that pathlib makes one."""
    text = re.sub(r"^file:/(?=[^/])", "file:///", str(path))
    return re.sub(r"^([A-Za-z][A-Za-z0-9+.-]+):/(?=[^/])", r"\1://", text)


def _run(
    job: Any,
    arguments: Mapping[str, Any],
    posts: PostFiles,
    out: ResultFolder,
    settings: Mapping[str, Any],
    workers: int,
    share: ray_data.Share,
    progress: bool,
    numbers: Any = None,
) -> None:
    """Run a job, check that every post has a row, and say what is wrong with posts."""
    kept = f"what is done is in {out.address}; the same command goes on"
    silent = not progress or not sys.stderr.isatty()
    with tqdm(total=posts.rows, desc=settings["job"], unit="post", disable=silent) as bar, keeps(lambda: kept):
        known = ray_data.run(
            job,
            arguments,
            posts,
            out,
            settings=settings,
            workers=workers,
            share=share,
            columns=job.COLUMNS,
            numbers=numbers,
            progress=bar.update,
        )
    has_missing = "missing" in job.COLUMNS
    errors = Errors() if "entities" in job.COLUMNS else Errors("features", "read")
    missing = Counter[str]()
    for columns in out.read(["id", "error", *["missing"] * has_missing]):
        for id, error in zip(columns["id"], columns["error"], strict=True):
            errors.add({"id": str(id)} if error is None else {"id": str(id), "error": error})
        for kinds in columns.get("missing", ()):
            missing.update(kinds)
    if errors.total != posts.rows:
        raise ValueError(f"{out.address} has {errors.total:,} rows of {posts.rows:,} posts; delete it and run again")
    there = f", {known:,} of them there before" if known else ""
    print(f"{out.address}: {posts.rows:,} posts{there}")
    for kind, count in missing.most_common():
        print(f"{count:,} of {posts.rows:,} posts have no {kind}, which the model reads")
    errors.report()


def _pairs(posts: PostFiles, images: str, allow_paths: bool, image_nodes: str) -> Iterator[Pair | UnreadablePost]:
    """Yield the posts with what their columns say of their evidence; images in columns are not opened."""
    with ImageFiles(images, allow_paths=allow_paths) as files:
        reader = PostReader(files, image_nodes=image_nodes)
        for columns in posts.rows_to_check():
            rows = rows_of(columns)
            named = [row.pop("image", None) for row in rows]
            for post, image in zip(reader.read(rows), named, strict=True):
                yield post if image is None or not isinstance(post, Pair) else replace(post, image_path=Path("-"))


def _plugins() -> tuple[str, ...]:
    """Return the modules of one's own that are imported, for the actors."""
    return tuple(sorted(name for name in sys.modules if name.partition(".")[0] in LOADED))
