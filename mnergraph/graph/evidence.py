"""What is known of a post beside its words, as node stores: objects, picture, and similar words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from mnergraph.graph.mapped import prefetch
from mnergraph.graph.pair import Object, Pair

#: The object that stands for none.
NOTHING = Object()
NO_BOX = (float("nan"),) * 4
_NOBODY = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class Neighbours(Protocol):
    """What the builder needs to know of similar words; `mnergraph.features.similar.SimilarWords` is one."""

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The words' neighbours: row in the table of vectors, place of the word they resemble, cosine."""


def object_store(
    pair: Pair, objects: Sequence[Object], region_width: int | None, classes: Mapping[str, int] | None
) -> dict[str, Any]:
    """Boxes and, where asked for, region vectors and classes of a post's objects; see `GraphBuilder`."""
    boxes = np.array([NO_BOX if thing.box is None else thing.box for thing in objects], dtype=np.float32)
    store: dict[str, Any] = {"box": tensor(boxes.reshape(-1, 4)), "num_nodes": len(objects)}
    if region_width is not None:
        store["has_x"] = torch.tensor([thing.region is not None for thing in objects], dtype=torch.bool)
        store["x"] = regions = torch.zeros(len(objects), region_width)
        for place, thing in enumerate(objects):
            if thing.region is not None:
                _require(thing.region, (region_width,), f"object {place}", pair)
                regions[place] = thing.region
    if classes is not None:
        other = len(classes) + 1
        ids = [0 if thing is NOTHING else classes.get(thing.label.lower(), other) for thing in objects]
        store["class_id"] = torch.tensor(ids, dtype=torch.long)
    return store


def image_store(pair: Pair, width: int | None, *, pool: bool) -> dict[str, Any]:
    """The picture's vectors as they are, or their mean alone; without a width, whether there is a picture."""
    if width is None:
        return {"num_nodes": int(pair.picture is not None or pair.image is not None)}
    rows = torch.zeros(0, width) if pair.image is None else pair.image
    _require(rows, (len(rows), width), "the picture", pair)
    if pool and len(rows) > 1:
        rows = prefetch(rows).float().mean(0, keepdim=True)
    return {"x": rows, "num_nodes": len(rows)}


def similar_store(pair: Pair, neighbours: Neighbours | None) -> dict[str, Any]:
    """The words' neighbours, none without a look-up."""
    rows, word, cosine = neighbours(pair.words) if neighbours else _NOBODY
    return {"row": tensor(rows), "word": tensor(word), "cosine": tensor(cosine), "num_nodes": len(rows)}


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor that may be written to without touching what others share."""
    return torch.from_numpy(array if array.base is None else array.copy())


def _require(features: Tensor, shape: tuple[int, ...], what: str, pair: Pair) -> None:
    if features.shape != shape:
        raise ValueError(
            f"post {pair.id!r}: the features of {what} are {list(features.shape)}, "
            f"the builder expects {list(shape)}"
        )
