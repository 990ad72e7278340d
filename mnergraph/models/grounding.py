"""What the grounding of entities adds to a model: objects, where it has none, and the head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from torch import nn

from mnergraph.features.text.encoder import Encoder, TextEncoderModel
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import NodeType, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.entities import TAGS, EntityHead
from mnergraph.nn.heads.grounding import EntityGrounding, Grounding
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.placed_objects import BESIDE, grounding_objects

#: What grounding adds to a model's schema.
GROUNDING_SCHEMA = Schema([Relation(*BESIDE, Complete())])


def objects_for(grounding: Grounding, encoder: Encoder, schema: Schema, node_types: Iterable[NodeType]) -> Objects:
    """Return the node type of the objects that may show entities: the model's own, or labels and region vectors.

    Raises:
        ValueError: where the model's own objects have other region vectors than asked for, or an encoder without
            pieces reads no labels.
    """
    if not isinstance(encoder, TextEncoderModel):
        raise ValueError(
            f"grounding reads objects' labels with a Hugging Face encoder, and {encoder.name!r} is of another kind"
        )
    own = next((each for each in node_types if isinstance(each, Objects)), None)
    if own is None and "object" in schema.nodes:
        own = Objects(encoder.tokenizer)
    if own is None:
        return Objects(encoder.tokenizer, region_dim=grounding.region_dim)
    if grounding.region_dim not in (None, own.region_dim):
        raise ValueError(
            f"the model's objects have region vectors of {own.region_dim} features, grounding asks for "
            f"{grounding.region_dim}; leave out grounding.region_dim"
        )
    if own.tokenizer is None and own.region_dim is None:
        raise ValueError("the model's objects have neither labels nor region vectors, by which entities are grounded")
    return own


def grounding_parts(
    grounding: Grounding,
    encoder: Encoder,
    objects: Objects,
    layers: Iterable[nn.Module],
    heads: Sequence[Head],
) -> tuple[list[nn.Module], EntityGrounding]:
    """Return the layers and the head that ground a model's entities, from the features that its tags are scored from.

    Raises:
        ValueError: where no layer scores tags, or no head gives entities.
    """
    entities = next((head for head in heads if isinstance(head, EntityHead)), None)
    scores = [layer for layer in layers if isinstance(layer, TaggingScores) and layer.task == TAGS]
    if entities is None or not scores:
        raise ValueError(
            "grounding takes the features that tags are scored from (TaggingScores), and this model scores none"
        )
    encode = grounding_objects(
        grounding.hidden_size,
        grounding.num_heads,
        grounding.dropout,
        region_dim=objects.region_dim,
        label_dim=encoder.hidden_size if objects.tokenizer is not None else None,
    )
    return encode, EntityGrounding(entities, grounding, scores[-1].linear.in_features, in_keys=scores[-1].in_keys)
