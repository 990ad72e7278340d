"""What a node or an edge of a post is, in words and plain numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch_geometric.data import HeteroData

from mnergraph.graph import Pair, Spatial
from mnergraph.graph.geometry import SPATIAL_LABELS
from mnergraph.graph.kinds import Kind
from mnergraph.insight.weights import PostRecord
from mnergraph.models import Entity


def describe_nodes(
    data: HeteroData, kind: str, *, record: PostRecord | None = None, entities: Sequence[Entity] = ()
) -> list[dict[str, Any]]:
    """For every node of a type what there is to say of it; nothing for types that nobody knows.

    Args:
        data: the graph of one post, which holds its pair.
        kind: the node type.
        record: tells the spans of entities that the model grew, and what merged nodes stand for.
        entities: the entities that a model found.
    """
    pair: Pair = data.pair
    if kind == "token":
        return [_token(pair, word, entities) for word in data["token"].word.tolist()]
    if kind == "object":
        return [
            _there(
                label=thing.label or None,
                box=None if thing.box is None else [float(side) for side in thing.box],
                score=thing.score,
                span=None if thing.words is None else list(thing.words),
            )
            for thing in pair.objects
        ]
    if kind == "image":
        return [_there(picture=pair.picture and str(pair.picture))] * data["image"].num_nodes
    if kind == "entity":
        spans = pair.entities if record is None else record.spans()
        return [{"span": list(span), "word": " ".join(pair.words[slice(*span)])} for span in spans]
    parts = [] if record is None else record.named(kind)[1:]
    told: list[dict[str, Any]] = [
        {"stands_for": f"{part} {place}"} for part, of in parts for place in range(of.stop - of.start)
    ]
    return told or [{}] * data[kind].num_nodes


def describe_edge(kind: Kind | None, features: Mapping[str, Any]) -> dict[str, Any]:
    """The name of the relation's kind, and label and geometry of a spatial edge."""
    if kind is None:
        return {}
    told: dict[str, Any] = {"kind": type(kind).__name__}
    if isinstance(kind, Spatial):
        distance, angle = features["edge_attr"]
        told |= {"label": SPATIAL_LABELS[features["edge_type"]], "distance": distance, "angle": angle}
    return told


def _token(pair: Pair, word: int, entities: Sequence[Entity]) -> dict[str, Any]:
    if word < 0:  # [CLS], [SEP]
        return {}
    told = _there(word=pair.words[word], tag=pair.labels and pair.labels[word])
    for found in entities:
        if found.start <= word < found.end:
            told |= {"entity": found.type, "entity_score": found.score}
    return told


def _there(**told: Any) -> dict[str, Any]:
    return {name: value for name, value in told.items() if value is not None}
