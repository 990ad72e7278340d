"""Node types: objects that create the nodes of each type from a pair, with their features.

A node type of your own is one class; it needs no change in this package::

    class Hashtags(NodeType):
        name = "hashtag"

        def store(self, pair):
            index = [i for i, word in enumerate(pair.words) if word.startswith("#")]
            return {"word": torch.tensor(index, dtype=torch.long), "num_nodes": len(index)}

        def describe(self, data):
            return [{"label": data.pair.words[i]} for i in data["hashtag"].word.tolist()]

Given to a model (``Tagger(node_types=[Hashtags()], ...)``) or to `GraphBuilder`, its nodes are there for every
relation of the schema, in networkx graphs, in plots and in reports.
"""

from __future__ import annotations

import json
import warnings
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import EdgeType, pair_of, set_store, store_values
from mnergraph.graph.evidence_kinds import (
    DETECTED_OBJECTS,
    IMAGE_FEATURES,
    IMAGE_FILE,
    IMAGE_GRID,
    NEAREST_WORDS,
    OBJECT_CLASSES,
    REGION_FEATURES,
    lacking,
)
from mnergraph.graph.prefetch import prefetch
from mnergraph.labels import LabelSet
from mnergraph.pair import DetectedObject, Pair

#: Subtypes: the pieces of tokens, the characters of tokens, and the pieces of objects' labels.
PIECE, CHARACTER, LABEL_PIECE = "piece", "character", "label_piece"
#: The edge types that join them to their nodes.
PIECES: EdgeType = (PIECE, "part_of", "token")
CHARACTERS: EdgeType = (CHARACTER, "part_of", "token")
LABEL_PIECES: EdgeType = (LABEL_PIECE, "part_of", "object")
#: The label index of tokens of unlabelled pairs.
NO_LABEL = -1
#: Whether tokens are words, or the pieces of the text encoder's tokenizer.
Unit = Literal["words", "pieces"]
#: The object of a pair without any, where a model needs one.
PLACEHOLDER_OBJECT = DetectedObject()
NO_BOX = (float("nan"),) * 4
#: Pieces of text that a crop counts as in a batch: the patches of 16 x 16 pixels in 224 x 224.
CROP_PIECES = 196


class Tokenizer(Protocol):
    """What node types need of a tokenizer: `WordTokenizer`, or a `Vocabulary` or `Alphabet` of words."""

    start: tuple[int, ...]
    end: tuple[int, ...]

    def __call__(self, words: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the ids of every word's pieces, at least one each."""


class CropReader(Protocol):
    """What `Objects` needs to put pixels into object nodes, as `mnergraph.features.vision.crops.CropPixels` does."""

    def boxed(self, pair: Pair) -> Pair:
        """Return the pair, with the whole image as an object where no other object has a box."""

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return pixels ``[objects, 3, size, size]`` and which objects have any, ``[objects]``."""


class NearestWordLookup(Protocol):
    """What `NearestWordNodes` needs, as `mnergraph.features.text.nearest_words.NearestWords` does."""

    def __call__(self, words: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return, for all neighbors of the words, row in the vector table, index of the word, cosine."""


class NodeType(ABC):
    """Base class of node types: creates the node store of a pair.

    Attributes:
        name: the node type in schemas, such as ``"object"``.
        evidence_file: name of the JSON lines file, in the data set's folder, that this node type reads; every line
            has ``id`` and, under ``nodes``, what `parse` takes. None for node types without one.
    """

    name: str
    evidence_file: ClassVar[str | None] = None

    @property
    def subtypes(self) -> tuple[str, ...]:
        """Names of further node types that `add_to` creates, such as the pieces of tokens."""
        return ()

    @abstractmethod
    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the attributes of the pair's nodes.

        Returns:
            ``num_nodes`` and any tensors with one row per node; the same names for every pair.
        """

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add the nodes to the pair's graph; override it where there are sub-token nodes, too."""
        set_store(data, self.name, self.store(pair))

    def prepare(self, pair: Pair) -> Pair:
        """Return the pair as the graph is to hold it; by default unchanged."""
        return pair

    def load(self, data: HeteroData) -> dict[str, Any] | None:
        """Return tensors that are too large to keep for a whole data set, when the graph's batch is due.

        Returns:
            attributes to add to the store or to replace there; None where there are none.
        """
        return None

    def batch_cost(self, pair: Pair) -> int:
        """Return what these nodes take of a batch of `piece_batches` besides the text, in pieces; by default 0.

        Override it where nodes cost far more than a piece of text, such as those whose pixels go through a backbone.
        """
        return 0

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return the kinds of evidence that these nodes need and the pair lacks, such as ``("image features",)``."""
        return ()

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return for every node of a graph what plots, reports and networkx graphs show of it.

        Returns:
            one dict of JSON values per node; ``label`` is the text by which the node is shown.
        """
        return [{} for _ in range(data[self.name].num_nodes)]

    # --- evidence files ---------------------------------------------------------------------------------

    def parse(self, nodes: Any) -> Any:
        """Return what ``pair.extra[name]`` holds, from ``nodes`` of a line of the evidence file.

        Raises:
            ValueError: when it is malformed; the caller adds file and line.
        """
        return nodes

    def read_evidence(self, path: Path) -> dict[str, Any]:
        """Return the parsed evidence of every post id of a file.

        Raises:
            ValueError: for a malformed line, naming file and line.
        """
        evidence = {}
        for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                evidence[str(entry["id"])] = self.parse(entry["nodes"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                raise ValueError(
                    f'{path}:{number}: {error!r}; a line of {self.evidence_file} is {{"id": "7", "nodes": ...}} as '
                    f"{type(self).__name__}.parse takes it"
                ) from error
        return evidence


class Tokens(NodeType):
    """``token`` nodes and what they consist of: ``piece`` nodes, and ``character`` nodes.

    - ``token``: ``word`` (index of the word, -1 for a special token), ``starts_word``, and ``y`` (label index, -1
      for an unlabelled pair) when labels are given
    - ``piece``: ``input_ids``, joined to its token by ``(piece, part_of, token)``, when a tokenizer is given
    - ``character``: ``input_ids``, joined to its word by ``(character, part_of, token)``, when ``characters`` are
      given

    Args:
        tokenizer: turns words into pieces; None for no piece nodes.
        labels: the label set of ``y``; None leaves ``y`` out.
        unit: ``"words"``, or ``"pieces"``: every piece is a token, [CLS] and [SEP] among them, and later pieces of
            a word have the label X, as in the authors' released codes.
        characters: turns words into characters; None for no character nodes.
        max_pieces: with ``unit="pieces"``, the most pieces of a post, [CLS] and [SEP] among them: later ones are cut
            off, with a warning that names the post, as in the authors' released codes. Words without a piece have no
            token and are tagged as outside. None for no limit: the text encoder reads long posts in windows.

    Raises:
        ValueError: for pieces without a tokenizer or with characters, and for a limit of words.
    """

    name = "token"

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        labels: LabelSet | None = None,
        *,
        unit: Unit = "words",
        characters: Tokenizer | None = None,
        max_pieces: int | None = None,
    ) -> None:
        if max_pieces is not None and unit == "words":
            raise ValueError("max_pieces limits tokens that are pieces: give unit='pieces'")
        if unit == "pieces" and tokenizer is None:
            raise ValueError("unit='pieces' needs a tokenizer")
        if unit == "pieces" and characters is not None:
            raise ValueError("characters are those of words, so they can't go with unit='pieces'")
        self.tokenizer, self.labels, self.unit, self.characters = tokenizer, labels, unit, characters
        self.max_pieces = max_pieces
        self._start, self._end = (tokenizer.start, tokenizer.end) if tokenizer else ((), ())
        self._special = np.full(max(1, len(self._start), len(self._end)), -1)

    @property
    def subtypes(self) -> tuple[str, ...]:
        """Pieces and characters, if they are created."""
        return (PIECE,) * (self.tokenizer is not None) + (CHARACTER,) * (self.characters is not None)

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the token store alone; see the class."""
        return self._token_store(pair, self._pieces(pair))

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add tokens, pieces and characters to the pair's graph."""
        pieces = self._pieces(pair)
        if len(pieces) < len(pair.words) and self.tokenizer is not None:
            warnings.warn(
                f"post {pair.id!r} is cut at {self.max_pieces} pieces: its last {len(pair.words) - len(pieces)} of "
                f"{len(pair.words)} words are tagged as outside",
                stacklevel=2,
            )
        set_store(data, "token", self._token_store(pair, pieces))
        if self.tokenizer is not None:
            ids = np.array([*self._start, *chain.from_iterable(pieces), *self._end])
            set_store(data, PIECE, {"input_ids": to_tensor(ids), "num_nodes": len(ids)})
            if self.unit == "words":
                inner = _range(len(ids))[len(self._start) : len(ids) - len(self._end)]
                index = np.array([inner, _owners(pieces)])
            else:
                index = np.array([_range(len(ids))] * 2)
            set_store(data, PIECES, {"edge_index": to_tensor(index)})
        if self.characters is not None:
            add_subtokens(data, CHARACTERS, self.characters(pair.words))

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``word`` and the gold ``tag`` of every token; nothing for special tokens."""
        pair = pair_of(data)
        described: list[dict[str, Any]] = []
        for word in data["token"].word.tolist():
            tag = {} if pair.labels is None or word < 0 else {"tag": pair.labels[word]}
            described.append({"word": pair.words[word], **tag} if word >= 0 else {})
        return described

    def _pieces(self, pair: Pair) -> list[tuple[int, ...]]:
        """Return the pieces of every word that has any within the limit."""
        pieces = self.tokenizer(pair.words) if self.tokenizer else []
        if self.max_pieces is None:
            return pieces
        kept, left = [], max(1, self.max_pieces - len(self._start) - len(self._end))
        for ids in pieces:
            if not left:
                break
            kept.append(ids[:left])
            left -= len(kept[-1])
        return kept

    def _token_store(self, pair: Pair, pieces: Sequence[Sequence[int]]) -> dict[str, Any]:
        if self.unit == "words":
            word, starts = _range(len(pair.words)), np.ones(len(pair.words), dtype=bool)
        else:
            before, after = self._special[: len(self._start)], self._special[: len(self._end)]
            word = np.concatenate([before, _owners(pieces), after])
            starts = (word >= 0) & (word != np.concatenate([self._special[:1], word[:-1]]))
        store: dict[str, Any] = {"word": to_tensor(word), "starts_word": to_tensor(starts), "num_nodes": len(word)}
        if self.labels is not None:
            store["y"] = to_tensor(np.array(self._label_ids(pair, word, starts)))
        return store

    def _label_ids(self, pair: Pair, word: np.ndarray, starts: np.ndarray) -> list[int]:
        assert self.labels is not None
        if pair.labels is None:
            return [NO_LABEL] * len(word)
        try:
            word_labels = list(map(self.labels.index, pair.labels))
            if self.unit == "words":
                return word_labels
            before, after, later = map(self.labels.index, ("[CLS]", "[SEP]", "X"))
        except KeyError as error:
            raise ValueError(f"post {pair.id!r}: label {error.args[0]}") from None
        return [
            word_labels[w] if new else later if w >= 0 else before if position < len(self._start) else after
            for position, (w, new) in enumerate(zip(word, starts, strict=True))
        ]


class Objects(NodeType):
    """``object`` nodes: the pair's detected objects.

    ``box`` ``[n, 4]`` in pixels, xyxy (NaN for an object without a box). With ``region_dim`` also ``x``
    ``[n, region_dim]`` and ``has_x``. With ``classes`` also ``class_id``: 0 for the placeholder object, from 1 the
    index of the label among the classes, and len(classes) + 1 for any other label. With a tokenizer the labels'
    pieces are ``label_piece`` nodes, joined by ``(label_piece, part_of, object)``.

    Args:
        tokenizer: turns labels into pieces; None for no label pieces.
        region_dim: features of a region vector; None leaves region vectors out.
        classes: class names that labels are counted in, in any case; None leaves ``class_id`` out.
        add_placeholder: whether a pair without objects gets one object without label, box and region.
        max_objects: how many of a pair's objects are kept, the first ones, which are those of the best scores; None
            for all.
        require_region: whether objects without a region vector are left out, before they are counted.
        crop_reader: reads the objects' crops; nodes get ``pixels`` ``[n, 3, size, size]`` and ``has_x``. They are
            large, so `load` reads them when a batch is due.

    Raises:
        ValueError: for both pixels and region vectors.
    """

    name = "object"

    def __init__(
        self,
        tokenizer: Tokenizer | None = None,
        *,
        region_dim: int | None = None,
        classes: Sequence[str] | None = None,
        add_placeholder: bool = False,
        max_objects: int | None = None,
        require_region: bool = False,
        crop_reader: CropReader | None = None,
    ) -> None:
        if crop_reader is not None and region_dim is not None:
            raise ValueError("objects have pixels or region vectors: give crop_reader or region_dim, not both")
        if require_region and region_dim is None:
            raise ValueError("require_region leaves no objects without region_dim, the dimension of region vectors")
        self.tokenizer, self.region_dim, self.crop_reader = tokenizer, region_dim, crop_reader
        self.add_placeholder, self.max_objects, self.require_region = add_placeholder, max_objects, require_region
        self.classes = None
        if classes is not None:
            self.classes = {name.lower(): index for index, name in enumerate(classes, 1)}

    @property
    def subtypes(self) -> tuple[str, ...]:
        """The labels' pieces, if they are created."""
        return (LABEL_PIECE,) * (self.tokenizer is not None)

    def prepare(self, pair: Pair) -> Pair:
        """Return the pair with the objects that are kept; where pixels are used and no object has a box, its whole
        image becomes one.
        """
        if self.require_region and any(item.region is None for item in pair.objects):
            pair = replace(pair, objects=tuple(item for item in pair.objects if item.region is not None))
        if self.max_objects is not None and len(pair.objects) > self.max_objects:
            pair = replace(pair, objects=pair.objects[: self.max_objects])
        return pair if self.crop_reader is None else self.crop_reader.boxed(pair)

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return boxes and, where asked for, region vectors and classes; see the class.

        Raises:
            ValueError: for a region vector of another size; the message names the post.
        """
        objects = self._objects(pair)
        boxes = np.array([NO_BOX if item.box is None else item.box for item in objects], dtype=np.float32)
        store: dict[str, Any] = {"box": to_tensor(boxes.reshape(-1, 4)), "num_nodes": len(objects)}
        if self.region_dim is not None:
            store["has_x"] = torch.tensor([item.region is not None for item in objects], dtype=torch.bool)
            store["x"] = regions = torch.zeros(len(objects), self.region_dim)
            for index, item in enumerate(objects):
                if item.region is not None:
                    _check_shape(item.region, (self.region_dim,), f"object {index}", pair)
                    regions[index] = item.region
        if self.classes is not None:
            other = len(self.classes) + 1
            ids = [0 if item is PLACEHOLDER_OBJECT else self.classes.get(item.label.lower(), other) for item in objects]
            store["class_id"] = torch.tensor(ids, dtype=torch.long)
        return store

    def add_to(self, data: HeteroData, pair: Pair) -> None:
        """Add objects and their labels' pieces to the pair's graph."""
        set_store(data, "object", self.store(pair))
        if self.tokenizer is not None:
            labels = (item.label.split() for item in self._objects(pair))
            add_subtokens(data, LABEL_PIECES, [list(chain.from_iterable(self.tokenizer(words))) for words in labels])

    def load(self, data: HeteroData) -> dict[str, Any] | None:
        """Return the objects' pixels, where a crop reader is given."""
        if self.crop_reader is None:
            return None
        pixels, has_x = self.crop_reader(pair_of(data))
        return {"pixels": pixels, "has_x": has_x}

    def batch_cost(self, pair: Pair) -> int:
        """Return `CROP_PIECES` for every crop that is read; without boxes the whole image is one."""
        if self.crop_reader is None:
            return 0
        boxed = sum(item.box is not None for item in pair.objects[: self.max_objects])
        return CROP_PIECES * max(1, boxed)

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return what the pair lacks of objects, of classes among theirs, of region vectors and of pixels."""
        kinds = [DETECTED_OBJECTS]
        kinds += [REGION_FEATURES] * (self.region_dim is not None) + [IMAGE_FILE] * (self.crop_reader is not None)
        missing = lacking(pair, *kinds)
        if self.classes is None or any(item.label.lower() in self.classes for item in pair.objects):
            return missing
        return (*missing, OBJECT_CLASSES)

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``label``, ``box``, ``score`` and ``span`` of every object, as far as it has them."""
        described = []
        for item in pair_of(data).objects:
            values = {
                "label": item.label or None,
                "box": None if item.box is None else [float(side) for side in item.box],
                "score": item.score,
                "span": None if item.span is None else list(item.span),
            }
            described.append({name: value for name, value in values.items() if value is not None})
        return described + [{}] * (data["object"].num_nodes - len(described))

    def _objects(self, pair: Pair) -> tuple[DetectedObject, ...]:
        return pair.objects or ((PLACEHOLDER_OBJECT,) if self.add_placeholder else ())


class Images(NodeType):
    """``image`` nodes: the image's features ``x`` ``[regions, image_dim]``, none for a pair without features.

    Args:
        image_dim: features of a region; None for one node without features per image.
        pool: make one node of a grid, its mean.
        grid: whether the model's paper reads a grid of regions; a single vector is then reported as missing evidence.
    """

    name = "image"

    def __init__(self, image_dim: int | None = None, *, pool: bool = False, grid: bool = False) -> None:
        self.image_dim, self.pool, self.grid = image_dim, pool, grid

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the features as they are stored; `load` converts them.

        Raises:
            ValueError: for features of another size; the message names the post.
        """
        if self.image_dim is None:
            return {"num_nodes": int(pair.image_path is not None or pair.image_features is not None)}
        rows = torch.zeros(0, self.image_dim) if pair.image_features is None else pair.image_features
        _check_shape(rows, (len(rows), self.image_dim), "the image", pair)
        if self.pool and len(rows) > 1:
            rows = prefetch(rows).float().mean(0, keepdim=True)
        return {"x": rows, "num_nodes": len(rows)}

    def load(self, data: HeteroData) -> dict[str, Any] | None:
        """Return the features in memory, as float32."""
        if self.image_dim is None:
            return None
        return {"x": prefetch(store_values(data, "image")["x"]).float()}

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return ``("image features",)`` if the pair has none, ``("image grid",)`` if it has one vector for a grid."""
        if self.image_dim is None:
            return ()
        return lacking(pair, IMAGE_FEATURES, *[IMAGE_GRID] * self.grid)

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``image_path`` of every node."""
        path = pair_of(data).image_path
        return [{} if path is None else {"image_path": str(path)}] * data["image"].num_nodes


class Entities(NodeType):
    """``entity`` nodes: the pair's entity spans, where they are given beforehand."""

    name = "entity"

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the number of entities."""
        return {"num_nodes": len(pair.entities)}

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        """Return ``span`` and words of every entity."""
        pair = pair_of(data)
        return [{"span": list(span), "word": " ".join(pair.words[slice(*span)])} for span in pair.entities]


class NearestWordNodes(NodeType):
    """``similar`` nodes: the neighbors of the pair's words in a table of word vectors (MGCMT, section 3.2.1).

    ``row`` in the table, ``word`` that it is a neighbor of, and their ``cosine``.

    Args:
        lookup: finds neighbors; None for no nodes.
    """

    name = "similar"

    def __init__(self, lookup: NearestWordLookup | None = None) -> None:
        self.lookup = lookup

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the neighbors of all words."""
        rows, word, cosine = self.lookup(pair.words) if self.lookup else _NO_NEIGHBORS
        return {"row": to_tensor(rows), "word": to_tensor(word), "cosine": to_tensor(cosine), "num_nodes": len(rows)}

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return ``("nearest words",)`` if no word of the pair has a neighbor in the table."""
        return (NEAREST_WORDS,) if self.lookup and not len(self.lookup(pair.words)[0]) else ()


class Sentences(NodeType):
    """The ``sentence`` node: one per pair, with ``image_size`` ``[1, 2]``, width and height (NaN if unknown)."""

    name = "sentence"

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return the image's size."""
        size = torch.tensor([pair.size or NO_BOX[:2]], dtype=torch.float32)
        return {"image_size": size, "num_nodes": 1}


class CreatedNodes(NodeType):
    """A node type whose nodes a layer creates in the forward pass; the graph starts without any.

    Args:
        name: the node type.
    """

    def __init__(self, name: str) -> None:
        self.name = name

    def store(self, pair: Pair) -> dict[str, Any]:
        """Return no nodes."""
        return {"num_nodes": 0}


#: Node types that a builder creates by default for the names in a schema.
DEFAULT_NODE_TYPES: dict[str, type[NodeType]] = {
    "token": Tokens,
    "object": Objects,
    "image": Images,
    "entity": Entities,
    "similar": NearestWordNodes,
    "sentence": Sentences,
}


def add_subtokens(data: HeteroData, relation: EdgeType, pieces: Sequence[Sequence[int]]) -> None:
    """Add nodes for the pieces of every node of a type, each joined to the node that it is a part of.

    Args:
        data: the pair's graph.
        relation: (type of the pieces, name, type of the nodes).
        pieces: the ids of every node's pieces.
    """
    ids = np.array([*chain.from_iterable(pieces)], dtype=np.int64)
    set_store(data, relation[0], {"input_ids": to_tensor(ids), "num_nodes": len(ids)})
    set_store(data, relation, {"edge_index": to_tensor(np.array([_range(len(ids)), _owners(pieces)]))})


def to_tensor(array: np.ndarray) -> Tensor:
    """Return an array as a tensor that shares no memory with other arrays."""
    return torch.from_numpy(array if array.base is None else array.copy())


def _check_shape(features: Tensor, shape: tuple[int, ...], what: str, pair: Pair) -> None:
    if features.shape != shape:
        raise ValueError(
            f"post {pair.id!r}: the features of {what} are {list(features.shape)}, the builder expects {list(shape)}"
        )


def _owners(pieces: Sequence[Sequence[int]]) -> np.ndarray:
    """For every piece the index of what it is a part of."""
    return np.repeat(_range(len(pieces)), [len(ids) for ids in pieces])


def _range(length: int) -> np.ndarray:
    """0 to length - 1, a view of one long range where it suffices."""
    return _RANGE[:length] if length <= len(_RANGE) else np.arange(length)


_RANGE = np.arange(4096)
_NO_NEIGHBORS = (np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0, np.float32))
