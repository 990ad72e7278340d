"""Node stores of a pair: tokens and their pieces or characters, objects, image, entities, similar words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import EdgeType, fill
from mnergraph.graph.prefetch import prefetch
from mnergraph.labels import LabelSet
from mnergraph.pair import DetectedObject, Pair

#: The object that stands for none.
NOTHING = DetectedObject()


NO_BOX = (float("nan"),) * 4


_NOBODY = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))


class NearestWordLookup(Protocol):
    """What the builder needs to know of similar words; `mnergraph.features.text.nearest_words.NearestWords` is one."""

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The words' neighbours: row in the table of vectors, place of the word they resemble, cosine."""


def object_store(
    pair: Pair, objects: Sequence[DetectedObject], region_dim: int | None, classes: Mapping[str, int] | None
) -> dict[str, Any]:
    """Boxes and, where asked for, region vectors and classes of a post's objects; see `GraphBuilder`."""
    boxes = np.array([NO_BOX if thing.box is None else thing.box for thing in objects], dtype=np.float32)
    store: dict[str, Any] = {"box": tensor(boxes.reshape(-1, 4)), "num_nodes": len(objects)}
    if region_dim is not None:
        store["has_x"] = torch.tensor([thing.region is not None for thing in objects], dtype=torch.bool)
        store["x"] = regions = torch.zeros(len(objects), region_dim)
        for place, thing in enumerate(objects):
            if thing.region is not None:
                _require(thing.region, (region_dim,), f"object {place}", pair)
                regions[place] = thing.region
    if classes is not None:
        other = len(classes) + 1
        ids = [0 if thing is NOTHING else classes.get(thing.label.lower(), other) for thing in objects]
        store["class_id"] = torch.tensor(ids, dtype=torch.long)
    return store


def image_store(pair: Pair, width: int | None, *, pool: bool) -> dict[str, Any]:
    """The picture's vectors as they are, or their mean alone; without a width, whether there is a picture."""
    if width is None:
        return {"num_nodes": int(pair.image_path is not None or pair.image_features is not None)}
    rows = torch.zeros(0, width) if pair.image_features is None else pair.image_features
    _require(rows, (len(rows), width), "the picture", pair)
    if pool and len(rows) > 1:
        rows = prefetch(rows).float().mean(0, keepdim=True)
    return {"x": rows, "num_nodes": len(rows)}


def similar_store(pair: Pair, neighbours: NearestWordLookup | None) -> dict[str, Any]:
    """The words' neighbours, none without a look-up."""
    rows, word, cosine = neighbours(pair.words) if neighbours else _NOBODY
    return {"row": tensor(rows), "word": tensor(word), "cosine": tensor(cosine), "num_nodes": len(rows)}


def tensor(array: np.ndarray) -> Tensor:
    """An array as a tensor that may be written to without touching what others share."""
    return torch.from_numpy(array if array.base is None else array.copy())


def _require(features: Tensor, shape: tuple[int, ...], what: str, pair: Pair) -> None:
    if features.shape != shape:
        raise ValueError(
            f"post {pair.id!r}: the features of {what} are {list(features.shape)}, the builder expects {list(shape)}"
        )


PIECES: EdgeType = ("piece", "part_of", "token")


LABEL_PIECES: EdgeType = ("label_piece", "part_of", "object")


CHARACTERS: EdgeType = ("character", "part_of", "token")


NO_LABEL = -1


class Tokenizer(Protocol):
    """What the builder needs of a tokenizer: `WordTokenizer`, or a `Vocabulary` or `Alphabet` of words."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """The pieces of every word, at least one each."""


class Tokens:
    """Adds ``token`` and ``piece`` nodes to a post's graph; `GraphBuilder` tells what they hold.

    Args:
        tokenizer: turns words into pieces; without one there are no piece nodes.
        labels: the label set that ``y`` counts in.
        tokens: ``"words"``, or ``"pieces"``: every piece is a token, special ones among them.
    """

    def __init__(
        self, tokenizer: Tokenizer | None, labels: LabelSet | None, tokens: Literal["words", "pieces"]
    ) -> None:
        if tokens == "pieces" and tokenizer is None:
            raise ValueError("tokens='pieces' needs a tokenizer")
        self.tokenizer, self.labels, self.tokens = tokenizer, labels, tokens
        self.start, self.end = (tokenizer.start, tokenizer.end) if tokenizer else ((), ())
        self._none = np.full(max(1, len(self.start), len(self.end)), -1)

    def add(self, data: HeteroData, pair: Pair) -> None:
        """The nodes of this post's words, and of their pieces with what joins them."""
        pieces = self.tokenizer(pair.words) if self.tokenizer else []
        owner = np.repeat(_range(len(pieces)), [len(ids) for ids in pieces])
        if self.tokens == "words":
            word, starts = _range(len(pair.words)), np.ones(len(pair.words), dtype=bool)
        else:
            word = np.concatenate([self._none[: len(self.start)], owner, self._none[: len(self.end)]])
            starts = (word >= 0) & (word != np.concatenate([self._none[:1], word[:-1]]))
        token: dict[str, Any] = {
            "word": tensor(word),
            "starts_word": tensor(starts),
            "num_nodes": len(word),
        }
        if self.labels is not None:
            token["y"] = tensor(np.array(self._label_indices(pair, word, starts)))
        fill(data, "token", token)
        if self.tokenizer is None:
            return
        ids = np.array([*self.start, *chain.from_iterable(pieces), *self.end])
        fill(data, "piece", {"input_ids": tensor(ids), "num_nodes": len(ids)})
        if self.tokens == "words":
            index = np.array([_range(len(ids))[len(self.start) : len(ids) - len(self.end)], owner])
        else:
            index = np.array([_range(len(ids))] * 2)
        fill(data, PIECES, {"edge_index": tensor(index)})

    def _label_indices(self, pair: Pair, word: np.ndarray, starts: np.ndarray) -> list[int]:
        assert self.labels is not None
        if pair.labels is None:
            return [NO_LABEL] * len(word)
        try:
            of_word = list(map(self.labels.index, pair.labels))
            if self.tokens == "words":
                return of_word
            before, after, rest = map(self.labels.index, ("[CLS]", "[SEP]", "X"))
        except KeyError as error:
            raise ValueError(f"post {pair.id!r}: label {error.args[0]}") from None
        return [
            of_word[w] if new else rest if w >= 0 else before if place < len(self.start) else after
            for place, (w, new) in enumerate(zip(word, starts, strict=True))
        ]


def add_subtokens(data: HeteroData, relation: EdgeType, parts: Sequence[Sequence[int]]) -> None:
    """The ids of every node's parts as nodes of their own, each joined to the node it is a part of."""
    ids = np.array([*chain.from_iterable(parts)], dtype=np.int64)
    owner = np.repeat(_range(len(parts)), [len(of_node) for of_node in parts])
    fill(data, relation[0], {"input_ids": tensor(ids), "num_nodes": len(ids)})
    fill(data, relation, {"edge_index": tensor(np.array([_range(len(ids)), owner]))})


_RANGE = np.arange(4096)


def _range(length: int) -> np.ndarray:
    """0 to length - 1, a view of one long range where it suffices."""
    return _RANGE[:length] if length <= len(_RANGE) else np.arange(length)
