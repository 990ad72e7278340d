"""Occlusion: each removal by hand gives the same change."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from fakes import AROUND, TO_TOKENS, TOKENS, awkward_posts, post, state
from recorded_stack import SHOWS, STACK_SCHEMA, build_stack
from torch import nn

from mnergraph.explain import occlusion, record_attention, without_relations
from mnergraph.graph import collate
from mnergraph.labels import Span
from mnergraph.models import UMGF, Tagger
from mnergraph.nn import GraphState
from mnergraph.pair import Pair

Make = Callable[..., UMGF]
FORMS = pytest.mark.parametrize("form", ["paper", "released"])


def certain(model: Tagger, pair: Pair, spans: list[Span], tags: list[str]) -> list[float]:
    graph = model(collate([model.builder(pair)]))
    return model.span_probabilities(graph, [spans], [tags])[0]


@FORMS
def test_each_removal_by_hand(form: str, umgf: Make) -> None:
    model, pair = umgf(form), post(6, 3, seed=2, grounded=0.5)
    result = occlusion(model, pair, batch_size=2)
    (entities,), (tags,) = model.predict([pair]), model.decode_tags(model.forward_examples([pair]))
    assert len(entities) > 1
    assert list(result.entities) == entities
    spans = [Span(e.start, e.end, e.type) for e in entities]
    changes = {effect.removed: effect.change for effect in result.effects}
    assert set(changes) == {*model.schema.relations, 0, 1, 2, None}
    assert len(changes) == len(result.effects)

    others: dict = {None: Pair(pair.words)}
    for number in range(3):
        left = [item for other, item in enumerate(pair.objects) if other != number]
        others[number] = replace(pair, objects=tuple(left))
    for dropped, other in others.items():
        expected = certain(model, other, spans, tags)
        now = [e.score + change for e, change in zip(entities, changes[dropped], strict=True)]
        assert now == pytest.approx(expected, abs=1e-5)
    assert max(map(abs, changes[None])) > 1e-4

    # a relation without edges: by the stack, layer by layer
    for relation in model.schema.relations:
        with torch.no_grad():
            graph = GraphState.from_batch(model.builder(pair), model.schema)
            edges = graph.edges[relation]
            empty = type(edges)(edges.src, edges.dst, torch.zeros(2, 0, dtype=torch.long))
            last = model.layers(replace(graph, edges={**graph.edges, relation: empty}))
            expected = model.span_probabilities(last, [spans], [tags])[0]
        now = [e.score + change for e, change in zip(entities, changes[relation], strict=True)]
        assert now == pytest.approx(expected, abs=1e-5)


def test_what_to_drop(umgf: Make) -> None:
    model, pair = umgf().train(), post(6, 2, seed=2)
    for what in ("relation", "object", "image"):
        assert {effect.what for effect in occlusion(model, pair, what=(what,)).effects} == {what}
    assert model.training
    with pytest.raises(ValueError, match="what is among relation, object, context, image, not 'objects'"):
        occlusion(model, pair, what=("objects",))


@FORMS
@pytest.mark.parametrize("pair", awkward_posts(), ids=lambda pair: pair.id)
def test_awkward_posts(form: str, pair: Pair, umgf: Make) -> None:
    result = occlusion(umgf(form), pair)
    assert len(result.effects) == 4 + len(pair.objects) + 1
    for effect in result.effects:
        assert len(effect.change) == len(result.entities)
        for entity, change in zip(result.entities, effect.change, strict=True):
            assert -1e-6 <= entity.score + change <= 1 + 1e-6
    assert result.table().count("\n") == 2 + len(result.effects)


def test_table(umgf: Make) -> None:
    pair = replace(post(6, 2, seed=2), words=("Ann", "saw", "Rome", "and", "Bob", "."))
    result = occlusion(umgf(), pair)
    lines = result.table().split("\n")
    for entity in result.entities:
        assert f"{' '.join(pair.words[entity.start : entity.end])} = {entity.type}" in lines[0]
    assert lines[2] == f"| nothing | {' | '.join(f'{e.score:.3f}' for e in result.entities)} |"
    names = [line.split(" | ")[0].removeprefix("| ") for line in lines[3:]]
    labels = [f" ({item.label})" if item.label else "" for item in pair.objects]
    objects = [f"object {number}{label}" for number, label in enumerate(labels)]
    assert set(names) == {"the image", *objects, *(f"({', '.join(r)})" for r in umgf().schema.relations)}
    sizes = [max(abs(float(cell)) for cell in line.strip("| ").split(" | ")[1:]) for line in lines[3:]]
    assert sizes == sorted(sizes, reverse=True)


def test_span_probabilities_equal_entity_scores(umgf: Make) -> None:
    for form in ("paper", "released"):
        model = umgf(form)
        graph = model.forward_examples(awkward_posts())
        result = model.decode_entities(graph)
        spans = [[Span(e.start, e.end, e.type) for e in entities] for entities in result]
        probabilities = model.span_probabilities(graph, spans, model.decode_tags(graph))
        assert probabilities == [[e.score for e in entities] for entities in result]


def test_removal_applies_to_every_layer_and_created_relations() -> None:
    stack, graph = build_stack().eval(), state(awkward_posts(), schema=STACK_SCHEMA)

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = stack

        def forward(self, graph: GraphState) -> GraphState:
            return self.layers(graph)

    model = Model()
    for relation in (TOKENS, TO_TOKENS, SHOWS):
        with record_attention(model) as record:
            with without_relations(model, relation):
                model(graph)
            model(graph)
        removed, full = record.calls
        assert sum(w.index.shape[1] for p in removed.posts for w in p.weights if w.relation == relation) == 0
        assert sum(w.index.shape[1] for p in full.posts for w in p.weights if w.relation == relation) > 0
        others = {w.relation for p in removed.posts for w in p.weights if w.index.shape[1]}
        assert len(others) == 4
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.modules())
    labelled = state(awkward_posts(), schema=STACK_SCHEMA).edges[AROUND]
    assert labelled.type is not None
    with without_relations(model, AROUND):
        left = model(state(awkward_posts(), schema=STACK_SCHEMA)).edges[AROUND]
    assert (len(left.type), len(left.attr), left.index.shape[1]) == (0, 0, 0)


def test_missing_relation(umgf: Make) -> None:
    model = umgf()
    with (
        without_relations(model, ("token", "loves", "token")),
        pytest.raises(KeyError, match=r"loves.* is not in the"),
    ):
        model.predict([post(2)])
    assert model.predict([post(2)]) is not None
