"""Occlusion: the change of each entity's probability when a relation, an object, a text or the image is removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

from torch import nn

from mnergraph.graph.collate import EdgeType
from mnergraph.labels import Entity, Span
from mnergraph.models.base import Tagger
from mnergraph.nn.state import GraphState
from mnergraph.pair import ContextText, Pair

OcclusionTarget = Literal["relation", "object", "context", "image"]


@dataclass(frozen=True)
class Effect:
    """The effect of removing one relation, one object, one text of the context, or the image.

    Attributes:
        what: which of the four was removed.
        removed: the relation, the index of the object or of the text in `Occlusion.pair`, or None for the image.
        change: for each entity its probability after the removal minus the one before.
    """

    what: OcclusionTarget
    removed: EdgeType | int | None
    change: tuple[float, ...]


@dataclass(frozen=True)
class Occlusion:
    """The entities that a model predicts in a post, and the effect of each removal on their probabilities.

    Attributes:
        pair: the post; its ``context`` are the texts that the model reads.
        entities: the predicted entities.
        effects: the effects.
    """

    pair: Pair
    entities: tuple[Entity, ...]
    effects: tuple[Effect, ...]

    def table(self) -> str:
        """Return a Markdown table, the strongest effect first."""
        texts = [" ".join(self.pair.words[entity.start : entity.end]) for entity in self.entities]
        header = [f"{text} = {entity.type}" for text, entity in zip(texts, self.entities, strict=True)]
        lines = [
            f"| without | {' | '.join(header)} |",
            f"|---|{'--:|' * len(header)}",
            f"| nothing | {' | '.join(f'{entity.score:.3f}' for entity in self.entities)} |",
        ]
        for effect in sorted(self.effects, key=lambda it: -max(map(abs, it.change), default=0.0)):
            change = " | ".join(f"{value:+.3f}" for value in effect.change)
            lines.append(f"| {self._name(effect)} | {change} |")
        return "\n".join(lines)

    def _name(self, effect: Effect) -> str:
        if isinstance(effect.removed, int) and effect.what == "context":
            return f"the {self.pair.context[effect.removed].source}"
        if isinstance(effect.removed, int):
            label = self.pair.objects[effect.removed].label
            return f"object {effect.removed}{label and f' ({label})'}"
        return "the image" if effect.removed is None else f"({', '.join(effect.removed)})"


def occlusion(
    model: Tagger,
    pair: Pair,
    *,
    what: Sequence[OcclusionTarget] = ("relation", "object", "context", "image"),
    batch_size: int = 32,
) -> Occlusion:
    """Return the effect of removing each relation, object and text, and the image, on the predicted entities.

    The entities are those predicted with nothing removed. Their probability is computed again after each removal,
    also where the model would then predict other entities. A removed relation has no edges in any layer; a removed
    object or text of the context is not in the post; without the image the post has no object, image feature, caption
    or context from it either.

    Args:
        model: the model; it predicts in evaluation mode.
        pair: the post, with the features that the model reads.
        what: what to remove.
        batch_size: posts per forward pass.

    Raises:
        ValueError: for another value in ``what``.
    """
    for target in what:
        if target not in get_args(OcclusionTarget):
            raise ValueError(f"what is among {', '.join(get_args(OcclusionTarget))}, not {target!r}")
    if model.context is not None:
        pair = replace(pair, context=model.context.texts(pair))
    graph = model.forward_examples([pair])
    tags = model.decode_tags(graph)[0]
    (entities,) = model.decode_entities(graph)
    effects = []
    if "relation" in what:
        for relation in graph.edges:
            with without_relations(model, relation):
                (scores,) = _probabilities(model, [pair], entities, tags, 1)
            effects.append(Effect("relation", relation, _change(scores, entities)))
    changed: list[tuple[OcclusionTarget, int | None, Pair]] = []
    if "object" in what:
        for index in range(len(pair.objects)):
            kept = (*pair.objects[:index], *pair.objects[index + 1 :])
            changed.append(("object", index, replace(pair, objects=kept)))
    if "context" in what and model.context is not None:
        for index, entry in enumerate(pair.context):
            emptied = (*pair.context[:index], ContextText(entry.source, ""), *pair.context[index + 1 :])
            changed.append(("context", index, replace(pair, context=emptied)))
    if "image" in what:
        changed.append(("image", None, pair.without_image()))
    all_scores = _probabilities(model, [other for *_, other in changed], entities, tags, batch_size)
    for (target, removed, _), scores in zip(changed, all_scores, strict=True):
        effects.append(Effect(target, removed, _change(scores, entities)))
    return Occlusion(pair, tuple(entities), tuple(effects))


@contextmanager
def without_relations(model: Tagger, *relations: EdgeType) -> Iterator[None]:
    """Remove all edges of these relations from every layer of the model inside a ``with`` block.

    Relations whose nodes are created during the forward pass can be removed, too.

    Raises:
        KeyError: when the model is called and its graphs have no such relation.
    """

    def remove(module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(arg.without_edges(*relations) if isinstance(arg, GraphState) else arg for arg in args)

    def check(module: nn.Module, args: Any, graph: GraphState) -> None:
        unknown = [relation for relation in relations if relation not in graph.edges]
        if unknown:
            raise KeyError(f"{unknown} is not in the graph, which has {', '.join(map(str, graph.edges))}")

    with ExitStack() as hooks:
        for module in model.layers.modules():
            hooks.callback(module.register_forward_pre_hook(remove).remove)
        hooks.callback(model.register_forward_hook(check).remove)
        yield


def _probabilities(
    model: Tagger, pairs: Sequence[Pair], entities: Sequence[Entity], tags: Sequence[str], batch_size: int
) -> list[list[float]]:
    """The probabilities of the same entities in other posts of the same words."""
    spans = [Span(entity.start, entity.end, entity.type) for entity in entities]
    scores: list[list[float]] = []
    for begin in range(0, len(pairs), batch_size):
        batch = pairs[begin : begin + batch_size]
        scores += model.span_probabilities(model.forward_examples(batch), [spans] * len(batch), [tags] * len(batch))
    return scores


def _change(scores: Sequence[float], entities: Sequence[Entity]) -> tuple[float, ...]:
    return tuple(score - entity.score for score, entity in zip(scores, entities, strict=True))
