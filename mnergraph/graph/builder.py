"""A pair with its evidence becomes one HeteroData that holds every store of the schema, also empty ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Literal, Protocol

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import fill
from mnergraph.graph.node_stores import (
    CHARACTERS,
    LABEL_PIECES,
    NO_BOX,
    NOTHING,
    NearestWordLookup,
    Tokenizer,
    Tokens,
    add_subtokens,
    image_store,
    object_store,
    similar_store,
)
from mnergraph.graph.prefetch import prefetch
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.pair import Pair


class CropReader(Protocol):
    """What the builder needs to put pixels into object nodes; `mnergraph.features.vision.crops.CropPixels` is one."""

    def boxed(self, pair: Pair) -> Pair:
        """The pair, its whole picture an object where nothing else has a box."""

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Pixels ``[objects, 3, size, size]`` and which objects have any, ``[objects]``."""


class GraphBuilder:
    """Makes the graph of a post.

    Node stores, for the types that the schema names:

    - ``token``: ``word`` (which word it belongs to, -1 for a special token), ``starts_word``, and ``y``
      (label index, -1 where nobody annotated) when labels are given;
    - ``piece``: ``input_ids``, joined to its token by ``(piece, part_of, token)``, when a tokenizer is given;
    - ``character``: ``input_ids``, joined to its word by ``(character, part_of, token)``, when characters are
      given;
    - ``object``: ``box`` ``[n, 4]`` in pixels (NaN without one), and with ``region_dim`` also ``x``
      ``[n, region_dim]`` with ``has_x``; ``label_piece`` holds the pieces of the objects' labels;
      with ``classes`` also ``class_id``: the label's place among them from 1, one behind the last where it is
      none of them, 0 for the object that stands for none;
    - ``similar``: ``row`` (place among the vectors), ``word`` (the word that it resembles) and ``cosine``;
    - ``image``: ``x`` ``[grid, image_dim]``; ``entity``: ``num_nodes`` alone;
    - ``sentence``: one node, with ``picture_size`` ``[1, 2]``, width and height in pixels (NaN where nobody
      knows them).

    The pair itself is kept as ``data.pair``. Relations follow from the schema; complete ones are not stored.

    Args:
        schema: the node types and relations.
        tokenizer: turns words into pieces; without one there are no piece nodes.
        characters: turns words into characters, for models that read spelling; without it there are none.
        labels: the label set that ``y`` counts in.
        tokens: ``"words"``, or ``"pieces"`` as the released codes have it: every piece is a token, [CLS] and
            [SEP] among them, with X as the label of a word's later pieces.
        region_dim: width of the objects' region vectors; None leaves them out.
        image_dim: width of the picture's features; None leaves them out.
        pool_image: whether a grid becomes one image node, its mean.
        nearest_words: finds the words' neighbours in a table of vectors; without it there are no similar words.
        object_classes: names of the classes that objects' labels are counted in; None leaves that out.
        add_placeholder_object: whether a post without objects gets one that is nothing, without label, box or region.
        crop_reader: cuts the objects' pixels out of the picture, for a backbone that learns with the model: object
            nodes get ``pixels`` ``[n, 3, size, size]`` and ``has_x``. They are large, so `draft` leaves them
            out and `finish` adds them, batch by batch, in the workers of a loader.

    Raises:
        ValueError: for a pair whose features have another width, or whose labels are not in the label set;
            the message names the post.
    """

    def __init__(
        self,
        schema: Schema,
        *,
        tokenizer: Tokenizer | None = None,
        characters: Tokenizer | None = None,
        labels: LabelSet | None = None,
        tokens: Literal["words", "pieces"] = "words",
        region_dim: int | None = None,
        image_dim: int | None = None,
        pool_image: bool = False,
        nearest_words: NearestWordLookup | None = None,
        object_classes: Sequence[str] | None = None,
        add_placeholder_object: bool = False,
        crop_reader: CropReader | None = None,
    ) -> None:
        if crop_reader is not None and region_dim is not None:
            raise ValueError("objects have pixels or region vectors: give cuts or region_dim, not both")
        self.crop_reader = crop_reader
        if tokens == "pieces" and characters is not None:
            raise ValueError("characters are those of words, so they can't go with tokens='pieces'")
        self.characters = characters
        self.schema, self.tokenizer, self.tokens = schema, tokenizer, tokens
        self.region_dim, self.image_dim, self.pool_image = region_dim, image_dim, pool_image
        self.nearest_words, self.add_placeholder_object = nearest_words, add_placeholder_object
        self.object_classes = None
        if object_classes is not None:
            self.object_classes = {name.lower(): place for place, name in enumerate(object_classes, 1)}
        self._tokens = Tokens(tokenizer, labels, tokens)
        self._has = frozenset(schema.nodes)
        self._grown = [kind for kind in schema.nodes if kind not in _MADE]

    def __call__(self, pair: Pair) -> HeteroData:
        return self.load_image_tensors(self.build(pair))

    def load_image_tensors(self, build: HeteroData) -> HeteroData:
        """The graph with objects' pixels and the picture's features, if any; the draft stays as it is."""
        cut = self.crop_reader is not None and "object" in self._has
        shown = self.image_dim is not None and "image" in self._has
        data = copy.copy(build) if cut or shown else build
        if self.crop_reader is not None and cut:
            pixels, has = self.crop_reader(build._global_store._mapping["pair"])
            fill(data, "object", {**build["object"]._mapping, "pixels": pixels, "has_x": has})
        if shown:
            image = build["image"]._mapping
            fill(data, "image", {**image, "x": prefetch(image["x"]).float()})
        return data

    def build(self, pair: Pair) -> HeteroData:
        """The graph of a post without its objects' pixels, its picture's features where and as they lie."""
        data = HeteroData()
        if self.crop_reader is not None:
            pair = self.crop_reader.boxed(pair)
        data._global_store._mapping["pair"] = pair
        self._tokens.add(data, pair)
        if self.characters is not None:
            add_subtokens(data, CHARACTERS, self.characters(pair.words))
        if "object" in self._has:
            self._add_objects(data, pair)
        if "image" in self._has:
            fill(data, "image", image_store(pair, self.image_dim, pool=self.pool_image))
        if "entity" in self._has:
            fill(data, "entity", {"num_nodes": len(pair.entities)})
        if "sentence" in self._has:
            size = torch.tensor([pair.size or NO_BOX[:2]], dtype=torch.float32)
            fill(data, "sentence", {"picture_size": size, "num_nodes": 1})
        if "similar" in self._has:
            fill(data, "similar", similar_store(pair, self.nearest_words))
        for kind in self._grown:
            if kind not in data._node_store_dict:
                fill(data, kind, {"num_nodes": 0})
        self.schema.connect(data)
        return data

    def build_all(self, pairs: Iterable[Pair]) -> list[HeteroData]:
        """The graphs of many posts."""
        return [self(pair) for pair in pairs]

    def _add_objects(self, data: HeteroData, pair: Pair) -> None:
        objects = pair.objects or ((NOTHING,) if self.add_placeholder_object else ())
        fill(data, "object", object_store(pair, objects, self.region_dim, self.object_classes))
        if self.tokenizer is None:
            return
        pieces = [list(chain.from_iterable(self.tokenizer(thing.label.split()))) for thing in objects]
        add_subtokens(data, LABEL_PIECES, pieces)


_MADE = ("token", "object", "image", "entity", "sentence", "similar")
