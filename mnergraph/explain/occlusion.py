"""Occlusion: what dropping a relation, an object or the picture does to the entities of a post."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.labels import Entity, Span
from mnergraph.models.base import Tagger
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

OcclusionTarget = Literal["relation", "object", "picture"]


@dataclass(frozen=True)
class Effect:
    """What dropping one thing does.

    Attributes:
        what: what kind of thing was dropped.
        dropped: the relation, the object's place in the post, or None for the whole picture.
        change: for each entity its probability without the thing less that with it.
    """

    what: OcclusionTarget
    dropped: EdgeType | int | None
    change: tuple[float, ...]


@dataclass(frozen=True)
class Occlusion:
    """The entities that a model finds in a post, and what dropping each thing does to their probability."""

    pair: Pair
    entities: tuple[Entity, ...]
    effects: tuple[Effect, ...]

    def table(self) -> str:
        """A table in Markdown, the strongest effect first."""
        names = [" ".join(self.pair.words[found.start : found.end]) for found in self.entities]
        told = [f"{name} = {found.type}" for name, found in zip(names, self.entities, strict=True)]
        lines = [
            f"| without | {' | '.join(told)} |",
            f"|---|{'--:|' * len(told)}",
            f"| nothing | {' | '.join(f'{found.score:.3f}' for found in self.entities)} |",
        ]
        for effect in sorted(self.effects, key=lambda it: -max(map(abs, it.change), default=0.0)):
            change = " | ".join(f"{value:+.3f}" for value in effect.change)
            lines.append(f"| {self._name(effect)} | {change} |")
        return "\n".join(lines)

    def _name(self, effect: Effect) -> str:
        if isinstance(effect.dropped, int):
            label = self.pair.objects[effect.dropped].label
            return f"object {effect.dropped}{label and f' ({label})'}"
        return "the picture" if effect.dropped is None else f"({', '.join(effect.dropped)})"


def occlusion(
    model: Tagger,
    pair: Pair,
    *,
    what: Sequence[OcclusionTarget] = ("relation", "object", "picture"),
    batch_size: int = 32,
) -> Occlusion:
    """Which relations and objects mattered: drops each in turn and reads the post again (occlusion).

    The entities are those found with everything there; their probability is asked for again each time, also
    where the model would then find others. A dropped relation has no edge in any layer; a dropped object is
    not in the post; without the picture nothing is there that tells of it.

    Args:
        model: the model; the post is read in evaluation mode.
        pair: the post, with the features that the model reads.
        what: the kinds of things to drop.
        batch_size: posts at once.
    """
    for kind in what:
        if kind not in get_args(OcclusionTarget):
            raise ValueError(f"what is among {', '.join(get_args(OcclusionTarget))}, not {kind!r}")
    graph = model.forward_examples([pair])
    tags = model.decode_tags(graph)[0]
    (entities,) = model.decode_entities(graph)
    effects = []
    if "relation" in what:
        for relation in graph.edges:
            with without_relations(model, relation):
                (sure,) = _certainty(model, [pair], entities, tags, 1)
            effects.append(Effect("relation", relation, _change(sure, entities)))
    others: list[tuple[OcclusionTarget, int | None, Pair]] = []
    if "object" in what:
        for place in range(len(pair.objects)):
            left = (*pair.objects[:place], *pair.objects[place + 1 :])
            others.append(("object", place, replace(pair, objects=left)))
    if "picture" in what:
        others.append(("picture", None, pair.without_image()))
    found = _certainty(model, [other for *_, other in others], entities, tags, batch_size)
    for (kind, dropped, _), sure in zip(others, found, strict=True):
        effects.append(Effect(kind, dropped, _change(sure, entities)))
    return Occlusion(pair, tuple(entities), tuple(effects))


@contextmanager
def without_relations(model: Tagger, *relations: EdgeType) -> Iterator[None]:
    """While it lasts, no layer of the model has an edge of these relations, grown ones among them.

    Raises:
        KeyError: when the model is called and its graphs have no such relation.
    """

    def silence(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(_without_edges(given, relations) if isinstance(given, GraphState) else given for given in args)

    def check(module: nn.Module, args: Any, graph: GraphState) -> None:
        unknown = [relation for relation in relations if relation not in graph.edges]
        if unknown:
            raise KeyError(f"{unknown} is not in the graph, which has {', '.join(map(str, graph.edges))}")

    with ExitStack() as hooks:
        for module in model.layers.modules():
            hooks.callback(module.register_forward_pre_hook(silence).remove)
        hooks.callback(model.register_forward_hook(check).remove)
        yield


def _without_edges(graph: GraphState, relations: Sequence[EdgeType]) -> GraphState:
    silent = {}
    for relation in relations:
        edges = graph.edges.get(relation)
        if edges is not None and edges.index.shape[1]:
            kind, attr = (None if x is None else x[:0] for x in (edges.type, edges.attr))
            silent[relation] = Edges(edges.src, edges.dst, edges.index[:, :0], type=kind, attr=attr)
    return replace(graph, edges={**graph.edges, **silent})


def _certainty(
    model: Tagger, pairs: Sequence[Pair], entities: Sequence[Entity], tags: Sequence[str], batch_size: int
) -> list[list[float]]:
    """The probability of the same entities in other posts of the same words."""
    spans = [Span(found.start, found.end, found.type) for found in entities]
    sure: list[list[float]] = []
    for begin in range(0, len(pairs), batch_size):
        some = pairs[begin : begin + batch_size]
        sure += model.span_probabilities(model.forward_examples(some), [spans] * len(some), [tags] * len(some))
    return sure


def _change(sure: Sequence[float], entities: Sequence[Entity]) -> tuple[float, ...]:
    return tuple(now - found.score for now, found in zip(sure, entities, strict=True))
