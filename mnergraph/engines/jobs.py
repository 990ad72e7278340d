"""One callable class per job: made once with what the job needs, then called with batches of columns.

``job = PredictEntities("runs/umgf/model")``, then ``job({"id": ["7"], "text": ["Ann sings in Rome"]})`` returns
``{"id": ["7"], "entities": [[...]], "error": [None], ...}``. No engine is named here: Ray Data, Spark and Daft each
call such a class with batches, and so does a loop. Every row in gives one row out, in their order; what is wrong with
a row is text in ``error``, and the others are computed without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from mnergraph.data.formats.jsonl import UnreadablePost
from mnergraph.engines.columns import LINE, Columns, PostReader, Row, columns_of, encodable, line_of, rows_of
from mnergraph.engines.images import ImageFiles
from mnergraph.features.text.noun_chunks import Chunker, RuleChunker, noun_phrases
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import Extractor
from mnergraph.features.vision.image_io import ImageIssue
from mnergraph.inference.predictor import Predictor, describe_error
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import OF_ONE_POST
from mnergraph.pair import ContextText, Pair
from mnergraph.registry import load_plugins

#: What a row of `PredictEntities` lacks where its image leads out of the folder of images.
IMAGE_OUTSIDE = "image in its folder"


def default_device() -> str:
    """Return ``cuda`` where there is a GPU, else ``cpu``."""
    return "cuda" if torch.cuda.is_available() else "cpu"


class PredictEntities:
    """Entities of posts: `mnergraph.inference.Predictor` over columns.

    Called with columns ``id``, ``text`` or ``words``, and those of ``image`` (a path, or the bytes of a file),
    ``caption``, ``context``, ``objects``, ``width``, ``height``, ``extra``, ``grid``, ``grid_rows`` and ``pooled`` that
    there are, it returns

    - ``id``, as given, and ``text``
    - ``entities``: a list of dicts as `mnergraph predict` writes them; None for a post that can't be predicted
    - ``heads``: JSON of what further heads of the model predict; None where there are none
    - ``error``: what is wrong with the post; None where it was predicted
    - ``missing``: the kinds of evidence that the model reads and the post did not have

    Args:
        model: folder of a saved model, or its name on the hub.
        grounder: folder or name of a model that grounds the entities in a second step (EVG).
        images: where paths of images are looked up: a folder, or an address that pyarrow knows.
        allow_paths: whether images may lie anywhere, by absolute paths, ``..``, links and addresses.
        stores: folders of feature stores in which images are looked up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.
        batching: how posts are taken into batches, and the precision.
        device: of the model; by default a GPU where there is one.
        modules: modules with models or extractors of your own, imported first.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("id", "text", "entities", "heads", "error", "missing")

    def __init__(
        self,
        model: str | Path,
        *,
        grounder: str | Path | None = None,
        images: str = ".",
        allow_paths: bool = False,
        stores: Iterable[str | Path] = (),
        run_extractors: bool = True,
        batching: BatchConfig = BatchConfig(workers=0),
        device: str | None = None,
        modules: Sequence[str] = (),
    ) -> None:
        load_plugins(modules)
        self.images, self.allow_paths = images, allow_paths
        device = device or default_device()
        self.predictor = Predictor(
            Tagger.from_pretrained(model).to(device),
            batching=batching,
            stores=stores,
            run_extractors=run_extractors,
            grounder=None if grounder is None else Tagger.from_pretrained(grounder).to(device),
        )

    def __call__(self, columns: Columns) -> dict[str, list[Any]]:
        """Return the columns of the results, a row for every row, see the class.

        Raises:
            ValueError: when there is no column ``id``.
        """
        rows = rows_of(columns)
        found: list[Row] = []
        for begin in range(0, len(rows), self.predictor.window):
            found += self._predict(rows[begin : begin + self.predictor.window])
        return columns_of(found, self.COLUMNS)

    def _predict(self, rows: Sequence[Row]) -> list[Row]:
        with ImageFiles(self.images, allow_paths=self.allow_paths) as files:
            reader = PostReader(files, image_nodes=self.predictor.processor.config.image_nodes)
            posts = list(reader.read(rows))
            lines, missing = self._lines(posts)
        results = []
        for place, (row, line) in enumerate(zip(rows, lines, strict=True)):
            heads = {name: value for name, value in line.items() if name not in ("id", "text", "entities", "error")}
            results.append(
                {
                    "id": row.get("id"),
                    "text": encodable(line["text"]) if "text" in line else None,
                    "entities": line.get("entities"),
                    "heads": json.dumps(heads) if heads else None,
                    "error": encodable(line["error"]) if "error" in line else None,
                    "missing": [IMAGE_OUTSIDE] * (place in reader.refused),
                }
            )
        _add_missing(results, posts, missing)
        return results

    def _lines(
        self, posts: Sequence[Pair | UnreadablePost]
    ) -> tuple[list[dict[str, Any]], Mapping[str, Sequence[str]]]:
        """Return the lines of posts and what they lack; of one that fails outside of the model's batches its error."""
        try:
            return self.predictor.predict_window(posts)
        except OF_ONE_POST as error:
            if len(posts) == 1:
                (post,) = posts
                assert isinstance(post, Pair)
                return [{"id": post.id, "text": post.text, "error": describe_error(post, error)}], {}
        # halves until the posts that fail are alone
        half = len(posts) // 2
        first, without = self._lines(posts[:half])
        second, without_too = self._lines(posts[half:])
        kinds = dict.fromkeys([*without, *without_too])
        return first + second, {kind: [*without.get(kind, ()), *without_too.get(kind, ())] for kind in kinds}


def _add_missing(
    results: Sequence[Row], posts: Sequence[Pair | UnreadablePost], missing: Mapping[str, Sequence[str]]
) -> None:
    """Add to every row the kinds of evidence that its post lacks; of names ``id`` or ``id (fault of the image)``."""
    places: dict[str, list[int]] = {}
    for place, post in enumerate(posts):
        if isinstance(post, Pair):
            name = post.id or (post.image_path.name if post.image_path else "")
            places.setdefault(name, []).append(place)
    for kind, names in missing.items():
        for name in names:
            parts = name.split(" (")
            known = (" (".join(parts[:end]) for end in range(len(parts), 0, -1))
            for place in next((places[part] for part in known if part in places), ()):
                if kind not in results[place]["missing"]:
                    results[place]["missing"].append(kind)


class ExtractFeatures:
    """Features of images: an `Extractor` over columns.

    Called with columns ``id``, ``image`` (a path, or the bytes of a file) and, for an extractor that reads phrases or
    sentences, ``text`` or ``words``, it returns the post's columns with what the extractor found in the place of what
    they had, so that `PredictEntities` reads the result as it reads posts: ``objects`` with ``width`` and ``height``,
    each with its ``region`` vector; ``caption``; ``context``; ``grid``, regions row by row, ``grid_rows`` of them;
    ``pooled``; and ``error``: why the image gives nothing. The bytes of images are not returned.

    Args:
        extractor: what extracts the features.
        chunker: finds the noun phrases of a grounder, by default `RuleChunker`.
        images: where paths of images are looked up: a folder, or an address that pyarrow knows.
        allow_paths: whether images may lie anywhere, by absolute paths, ``..``, links and addresses.
        dtype: precision of the features.
        batch_size: images at once.
        device: of the network; by default a GPU where there is one.
        modules: modules with extractors of your own, imported first.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("id", *LINE, "grid", "grid_rows", "pooled", "error")

    def __init__(
        self,
        extractor: Extractor,
        *,
        chunker: Chunker | None = None,
        images: str = ".",
        allow_paths: bool = False,
        dtype: Literal["float32", "float16"] = "float32",
        batch_size: int = 16,
        device: str | None = None,
        modules: Sequence[str] = (),
    ) -> None:
        load_plugins(modules)
        self.dtype = np.dtype(dtype)
        self._run = _Extraction([extractor], chunker, images, allow_paths, batch_size, device or default_device())

    def __call__(self, columns: Columns) -> dict[str, list[Any]]:
        """Return the columns of the posts with their features, a row for every row, see the class."""
        results = []
        for row, (evidence,), error in self._run(rows_of(columns)):
            results.append({**self._columns(row, evidence), "error": error})
        return columns_of(results, self.COLUMNS)

    def _columns(self, row: Row, evidence: ImageEvidence) -> Row:
        found = _with_texts(row, evidence)
        if evidence.objects is not None and evidence.size is not None:
            found["width"], found["height"] = evidence.size
            found["objects"] = [
                {
                    "label": item.label,
                    "box": item.box and list(item.box),
                    "score": item.score,
                    "words": item.span and list(item.span),
                    "region": self._numbers(item.region),
                }
                for item in evidence.objects
            ]
        if evidence.grid is not None:
            found["grid"], found["grid_rows"] = self._numbers(evidence.grid), len(evidence.grid)
        if evidence.pooled is not None:
            found["pooled"] = self._numbers(evidence.pooled)
        return found

    def _numbers(self, rows: Tensor | None) -> np.ndarray | None:
        return None if rows is None else rows.float().cpu().numpy().reshape(-1).astype(self.dtype)


class BuildContext:
    """Texts about posts, such as captions, the text in images, and a language model's knowledge.

    Called with columns as `ExtractFeatures` is, it returns the post's columns with ``caption`` and ``context`` of the
    extractors, in the place of what the post had of these sources, and ``error``.

    Args:
        extractors: `Captioner`, `OCR`, `KnowledgeGenerator` or others that provide texts alone; each gets the post.
        images: where paths of images are looked up: a folder, or an address that pyarrow knows.
        allow_paths: whether images may lie anywhere, by absolute paths, ``..``, links and addresses.
        batch_size: images at once.
        device: of the networks; by default a GPU where there is one.
        modules: modules with extractors of your own, imported first.

    Raises:
        ValueError: for an extractor that provides more than texts.
    """

    COLUMNS: ClassVar[tuple[str, ...]] = ("id", *LINE, "error")

    def __init__(
        self,
        extractors: Sequence[Extractor],
        *,
        images: str = ".",
        allow_paths: bool = False,
        batch_size: int = 16,
        device: str | None = None,
        modules: Sequence[str] = (),
    ) -> None:
        load_plugins(modules)
        if others := [type(extractor).__name__ for extractor in extractors if not provides_texts(extractor)]:
            raise ValueError(f"{', '.join(others)} provides more than texts; ExtractFeatures keeps it")
        self._run = _Extraction(extractors, None, images, allow_paths, batch_size, device or default_device())

    def __call__(self, columns: Columns) -> dict[str, list[Any]]:
        """Return the columns of the posts with their texts, a row for every row, see the class."""
        results = []
        for row, evidence, error in self._run(rows_of(columns)):
            for found in evidence:
                row = _with_texts(row, found)
            results.append({**row, "error": error})
        return columns_of(results, self.COLUMNS)


def provides_texts(extractor: Extractor) -> bool:
    """Whether an extractor provides a caption or context, and nothing else."""
    return set(extractor.provides) <= {"caption", "context"}


class _Extraction:
    """Runs extractors on the images of rows."""

    def __init__(
        self,
        extractors: Sequence[Extractor],
        chunker: Chunker | None,
        images: str,
        allow_paths: bool,
        batch_size: int,
        device: str,
    ) -> None:
        self.extractors, self.images, self.allow_paths = extractors, images, allow_paths
        self.chunkers = [extractor.chunker_for(chunker or RuleChunker()) for extractor in extractors]
        self.batch_size, self.device = batch_size, device

    def __call__(self, rows: Sequence[Row]) -> list[tuple[Row, list[ImageEvidence], str | None]]:
        """Return every row without bytes of an image, what each extractor found in it, and why one found nothing."""
        with ImageFiles(self.images, allow_paths=self.allow_paths) as files:
            reader = PostReader(files)
            # an extractor that reads no text works on images without posts, too
            textless = {"words": ["-"]} if not any(self.chunkers) else {}
            posts = list(
                reader.read([row if {"text", "words", "line"} & row.keys() else row | textless for row in rows])
            )
            evidence = [
                self._extract(extractor, find, posts)
                for extractor, find in zip(self.extractors, self.chunkers, strict=True)
            ]
        results: list[tuple[Row, list[ImageEvidence], str | None]] = []
        for place, (row, post) in enumerate(zip(rows, posts, strict=True)):
            found = [each[place] for each in evidence]
            error = next((one.issue.detail for one in found if one.issue and not one.issue.usable), None)
            if isinstance(post, UnreadablePost):
                error = post.error
            elif place in reader.refused:
                error = "its image leads out of the folder of images"
            # what a faulty line holds may fit no type of a column
            kept = {"id": row.get("id")} if isinstance(post, UnreadablePost) and "line" in row else _without_bytes(row)
            results.append((kept, found, None if error is None else encodable(error)))
        return results

    def _extract(
        self, extractor: Extractor, find: Chunker | None, posts: Sequence[Pair | UnreadablePost]
    ) -> list[ImageEvidence]:
        found = [ImageEvidence() for _ in posts]
        places = [place for place, post in enumerate(posts) if isinstance(post, Pair) and post.image_path is not None]
        pairs = [post for post in posts if isinstance(post, Pair) and post.image_path is not None]
        for place, evidence in zip(places, self._extract_each(extractor, find, pairs), strict=True):
            found[place] = evidence
        return found

    def _extract_each(self, extractor: Extractor, find: Chunker | None, pairs: Sequence[Pair]) -> list[ImageEvidence]:
        """Return the evidence of posts with images; of one that the extractor fails on its error, as an issue."""
        if not pairs:
            return []
        phrases = None if find is None else [noun_phrases(pair.words, find) for pair in pairs]
        paths = [pair.image_path for pair in pairs if pair.image_path is not None]
        try:
            return list(
                extractor.extract(paths, phrases, batch_size=self.batch_size, device=self.device, progress=False)
            )
        except OF_ONE_POST as error:
            if len(pairs) == 1:
                detail = describe_error(pairs[0], error)
                return [ImageEvidence(issue=ImageIssue(pairs[0].id, "unfit", detail))]
        # halves until the posts that fail are alone
        half = len(pairs) // 2
        return self._extract_each(extractor, find, pairs[:half]) + self._extract_each(extractor, find, pairs[half:])


def _with_texts(row: Row, evidence: ImageEvidence) -> Row:
    """Return a row with the caption and the context that were found in the place of its own of these sources."""
    row = dict(row)
    if evidence.caption is not None:
        row["caption"] = evidence.caption
    if evidence.context is not None:
        had = tuple(ContextText(one["source"], one["text"]) for one in row.get("context", ()))
        pair = replace(evidence, size=None, objects=None).attach_to(Pair(("-",), context=had))
        row["context"] = [entry._asdict() for entry in pair.context]
    return row


def _without_bytes(row: Row) -> Row:
    """Return a row with the columns of `LINE` in the place of ``line``, without bytes of an image."""
    line = line_of(row) if "line" in row else row
    kept = {name: line[name] for name in LINE if line.get(name) is not None}
    image = kept.pop("image", None)
    image = image.get("path") if isinstance(image, dict) else image
    if isinstance(image, str):
        kept["image"] = image
    if not isinstance(kept.get("extra", ""), str):
        kept["extra"] = json.dumps(kept["extra"])
    return {"id": row.get("id"), **kept}
