"""Columns of posts: read into posts, and made of results. Plain lists and numpy arrays, of no engine."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mnergraph.data.evidence import TooManyObjects
from mnergraph.data.formats.jsonl import UnreadablePost, parse_post
from mnergraph.engines.images import ImageFiles
from mnergraph.pair import Pair
from mnergraph.quoting import quoted

#: A batch of rows: by name a sequence with a value for every row, such as a list, a numpy array or a pandas series.
Columns = Mapping[str, Any]
Row = dict[str, Any]

#: The columns of a post that a line of posts.jsonl has, too.
LINE = ("text", "words", "image", "caption", "context", "objects", "width", "height", "extra")
#: The columns of image features: the regions row by row in one list, how many they are, and one vector.
TENSORS = ("grid", "grid_rows", "pooled")
#: All columns that are read; ``line`` is a line of posts.jsonl as it is, in the place of those of `LINE`.
POST_COLUMNS = ("id", "line", *LINE, *TENSORS)


def rows_of(columns: Columns) -> list[Row]:
    """Return the rows of a batch as dicts of plain Python values; what is null or NaN is left out.

    Arrays of numbers in `TENSORS` and regions of objects stay arrays.

    Raises:
        ValueError: when there is no column ``id``, or the columns are not of one length.
    """
    known = {name: columns[name] for name in POST_COLUMNS if name in columns}
    if "id" not in known:
        raise ValueError(f"there is no column id, but {', '.join(columns)}")
    lengths = {name: len(values) for name, values in known.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns have different lengths: {lengths}")
    rows: list[Row] = [{} for _ in range(lengths["id"])]
    for name, values in known.items():
        for row, value in zip(rows, values, strict=True):
            if not _is_null(value):
                row[name] = value if name in TENSORS else _plain(value)
    return rows


def _is_null(value: Any) -> bool:
    return value is None or (isinstance(value, float | np.floating) and value != value)


def _plain(value: Any) -> Any:
    """Return a value without numpy types, and without null fields of structs."""
    if isinstance(value, Mapping):
        return {name: item if name == "region" else _plain(item) for name, item in value.items() if not _is_null(item)}
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


class PostReader:
    """Reads posts from rows, by the rules of posts.jsonl.

    Args:
        files: where images are found.
        image_nodes: ``grid`` or ``pooled``: which image features a post takes.

    Attributes:
        refused: rows, by their place, whose images lead out of the folder of images; such posts have none.
        many: counts posts with more objects than a post may have.
    """

    def __init__(self, files: ImageFiles, *, image_nodes: str = "grid") -> None:
        self.files, self.image_nodes = files, image_nodes
        self.refused: set[int] = set()
        self.many = TooManyObjects()

    def read(self, rows: Sequence[Row]) -> Iterator[Pair | UnreadablePost]:
        """Yield the post of every row; for a row that holds none an `UnreadablePost`."""
        for place, row in enumerate(rows):
            id = str(row.get("id", ""))
            try:
                yield self._post(place, id, row)
            except (ValueError, RecursionError, OSError) as error:
                yield UnreadablePost(str(error), id)

    def _post(self, place: int, id: str, row: Row) -> Pair:
        line = line_of(row)
        objects = line.get("objects") or []
        objects = objects if isinstance(objects, list) else []
        regions = [item.get("region") if isinstance(item, dict) else None for item in objects]
        if any(region is not None for region in regions):
            line["objects"] = [{name: item[name] for name in item if name != "region"} for item in objects]
        image = line.pop("image", None)
        pair, named = parse_post(line | {"id": id})
        if any(region is not None for region in regions):
            with_regions = zip(pair.objects, regions, strict=True)
            pair = replace(pair, objects=tuple(replace(item, region=_vector(region)) for item, region in with_regions))
        features = self._image_features(row)
        if features is not None:
            pair = replace(pair, image_features=features)
        image = named if image is None else image
        if image is not None:
            path = self.files.path_of(image)
            if path is None:
                self.refused.add(place)
            else:
                pair = replace(pair, image_path=path)
        return self.many.limit(pair)

    def _image_features(self, row: Row) -> Tensor | None:
        """Return the rows of the image's features, ``[regions, width]``, or None."""
        values = row.get("grid" if self.image_nodes == "grid" else "pooled")
        if values is None:
            return None
        flat = _vector(values)
        assert flat is not None
        rows = int(row.get("grid_rows", 1)) if self.image_nodes == "grid" else 1
        if rows < 1 or flat.numel() % rows:
            raise ValueError(f"grid has {flat.numel()} numbers, which are not those of {rows} rows (grid_rows)")
        return flat.reshape(rows, -1)


def line_of(row: Row) -> Row:
    """Return what a line of posts.jsonl would have of a row.

    Raises:
        ValueError: for a ``line`` that is no JSON object, an ``extra`` that is no JSON, or an image without path and
            bytes.
    """
    line = {name: row[name] for name in LINE if name in row}
    if "line" in row:
        if line:
            raise ValueError(f"a post has either line or {', '.join(line)}")
        given = json.loads(row["line"])
        if not isinstance(given, dict):
            raise ValueError(f"line is {quoted(row['line'])}, which is no JSON object")
        return {**given}
    if isinstance(line.get("extra"), str):
        line["extra"] = json.loads(line["extra"])
    image = line.get("image")
    if isinstance(image, dict):  # as Hugging Face's data sets have it
        line["image"] = image.get("bytes") or image.get("path")
        if line["image"] is None:
            raise ValueError(f"image is {quoted(image)}; right is a path, bytes, or a struct of bytes and path")
    return line


def _vector(values: Any) -> Tensor | None:
    return None if values is None else torch.as_tensor(np.array(values, dtype=np.float32)).reshape(-1)


def columns_of(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return rows as columns of these names; what a row does not have is None."""
    rows = list(rows)
    return {name: [row.get(name) for row in rows] for name in names}


def encodable(text: str) -> str:
    """Return a text that has an UTF-8 form: halves of surrogate pairs are replaced by question marks."""
    return text.encode("utf-8", "replace").decode()
