"""The command ``predict``: entities of posts as JSON lines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.models.batch_config import BatchConfig
from mnergraph.training.interruption import keeps


def predict(
    model: Path,
    inputs: Inputs,
    sources: StoreOptions = StoreOptions(),
    batching: BatchConfig = BatchConfig(),
    out: Path | None = None,
    resume: bool = False,
    grounder: Path | None = None,
    progress: bool = True,
    engine: Literal["local", "ray"] = "local",
) -> None:
    """Write the entities of a text with its image, or of a file of posts, as JSON lines.

    Args:
        model: folder of a saved model, or its name on the hub.
        inputs: the posts.
        sources: where the features of their images come from.
        batching: how posts are taken into batches, and the precision.
        out: file for the result, which is complete or not there; without it, the result is printed. A post that can't
            be read or predicted has "error" in the place of entities; where there are such posts, a last line counts
            them.
        resume: whether to go on from the lines that a stopped run has left beside out, if it has left any.
        grounder: folder of a saved model that grounds the entities in a second step (EVG), or its name on the hub.
        progress: whether to show a progress bar for a file of posts, unless the result itself is shown.
        engine: local, this process; or ray: as many processes as there are workers, on one machine or a cluster. Posts
            is then a folder or file of Parquet or JSON lines, and out a folder of Parquet files, which a further run
            of the same command completes.

    Raises:
        ValueError: when none of the posts can be predicted, after their lines are written.
    """
    if engine == "ray":
        from mnergraph.cli.many_machines import predict_posts

        predict_posts(model, inputs, sources, batching, out, grounder, progress=progress)
        return

    from tqdm.auto import tqdm

    from mnergraph.cli.predictions import Errors, count_same_posts, settings_of
    from mnergraph.inference.output_file import OutputFile, unfinished_path
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger

    if resume and (out is None or inputs.posts is None):
        raise ValueError("resume goes with posts and out: a file of posts, and a file for the result")
    stream = inputs.stream()  # what can't be read at all is an error before the model is loaded
    tagger = Tagger.from_pretrained(model)
    posts = stream.with_node_evidence(tagger.builder.node_types.values(), inputs.folders)
    predictor = Predictor(
        tagger,
        batching=batching,
        stores=sources.stores,
        run_extractors=sources.run_extractors,
        grounder=None if grounder is None else Tagger.from_pretrained(grounder),
    )
    if resume and out is not None and out.exists() and not unfinished_path(out).exists():
        print(f"{out}: complete, with {count_same_posts(out, posts):,} posts; delete it to predict them again")
        return
    predictor.require_evidence(posts, allow_missing=sources.allow_missing)
    silent = not progress or inputs.posts is None or (out is None and sys.stdout.isatty())
    errors = Errors()
    if out is None:
        with tqdm(total=len(posts), desc="predicting", unit="post", disable=silent) as bar:
            for line in predictor(posts, progress=bar.update):
                print(_as_json(errors.add(line)), flush=True)
        if errors.posts:
            print(_as_json(errors.line()), flush=True)
    else:
        run = settings_of(inputs, sources, predictor)
        with OutputFile(out, run, resume=resume, step=predictor.window) as file, keeps(file.describe_kept):
            for line in file.kept_lines():
                errors.add(line)
            rest = islice(posts, file.kept, None)
            with tqdm(total=len(posts), initial=file.kept, desc="predicting", unit="post", disable=silent) as bar:
                for lines in batched(predictor(rest, progress=bar.update), predictor.window):
                    file.write(_as_json(errors.add(line)) for line in lines)
            if errors.posts:
                file.write([_as_json(errors.line())])
    errors.report()


def batched(lines: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines in lists of a size; `itertools.batched` of Python 3.12."""
    waiting = iter(lines)
    while some := list(islice(waiting, size)):
        yield some


def _as_json(line: Mapping[str, Any]) -> str:
    """Return a result as JSON, in ASCII where its text can't be encoded."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(line)
    return text
