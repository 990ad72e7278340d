"""All scores from one pass over the posts: they are those of the functions that compute each."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from mnergraph import BatchConfig
from mnergraph.labels import tags_to_spans
from mnergraph.metrics.calibration import calibrate, entity_outcomes
from mnergraph.metrics.errors import count_errors
from mnergraph.metrics.schemes import score_schemes
from mnergraph.models import Tagger
from mnergraph.nn import Grounding
from mnergraph.pair import GroundedEntity, Pair
from mnergraph.training import evaluate, evaluate_in_detail
from mnergraph.training.evaluate import evaluate_grounding

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]


def with_boxes(pairs: list[Pair]) -> list[Pair]:
    """The posts with gold boxes: every entity is in the whole image."""
    boxes = ((0.0, 0.0, 8.0, 8.0),)
    found = [tags_to_spans(pair.labels or ()) for pair in pairs]
    return [
        replace(pair, size=(8, 8), grounding=tuple(GroundedEntity(*span, boxes) for span in spans))
        for pair, spans in zip(pairs, found, strict=True)
    ]


@pytest.fixture
def once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Counts the posts that models compute."""
    computed = []
    forward = Tagger.forward

    def counting(self: Tagger, data: Any) -> Any:
        computed.append(data.num_graphs)
        return forward(self, data)

    monkeypatch.setattr(Tagger, "forward", counting)
    return lambda: sum(computed)


@pytest.mark.parametrize("kind", ["BERT-CRF", "UMGF"])
def test_details_are_those_of_each_function(
    kind: str, build: Build, posts: Posts, once: Callable[[], int], tmp_path: Path
) -> None:
    model, some = build(kind), posts(23, 1)
    found = evaluate_in_detail(model, some, batching=BatchConfig(batch_pieces=80), progress=False)
    assert once() == 23
    gold = [post.labels or () for post in some]
    assert (found.scores, found.tags) == evaluate(model, some, progress=False)
    assert found.schemes == score_schemes(gold, found.tags)
    assert found.errors == count_errors(gold, found.tags)
    assert found.calibration == calibrate(*entity_outcomes(gold, found.entities))
    assert [[(e.start, e.end, e.type) for e in post] for post in found.entities] == [
        [tuple(span) for span in tags_to_spans(tags)] for tags in found.tags
    ]
    assert any(found.entities), "an untrained model finds something, so that there is something to compare"
    alone = [entity for post in some for entity in model.predict([post])[0]]
    together = [entity for post in found.entities for entity in post]
    assert [entity.score for entity in together] == pytest.approx([entity.score for entity in alone], abs=1e-5)
    assert found.grounding is None
    assert set(json.loads(json.dumps(found.to_dict()))) == {"scores", "schemes", "errors", "calibration"}
    for part in (found.scores, found.schemes, found.errors, found.calibration):
        assert part.table() in found.table()


def test_boxes_come_from_the_same_pass(build: Build, posts: Posts, once: Callable[[], int]) -> None:
    model = build("UMGF", grounding=Grounding(hidden_size=8, num_heads=2, dropout=0.0))
    some = with_boxes(posts(12, 1))
    found = evaluate_in_detail(model, some, progress=False)
    assert once() == 12
    assert found.grounding == evaluate_grounding(model, some, progress=False)[0]
    assert "GMNER" in found.table()
    assert "gmner" in found.to_dict()["grounding"]
    bare = posts(12, 1)
    with pytest.raises(ValueError, match="posts without gold boxes can't be scored"):
        evaluate_in_detail(model, bare, progress=False)
    assert evaluate_in_detail(model, bare, boxes=False, progress=False).grounding is None


def test_boxes_of_a_second_step(build: Build, posts: Posts) -> None:
    model, some = build("BERT-CRF"), with_boxes(posts(12, 1))
    found = evaluate_in_detail(model, some, ground=lambda pairs, entities: entities, progress=False)
    assert found.grounding == evaluate_grounding(model, some, ground=lambda _, entities: entities, progress=False)[0]


def test_no_entity_is_predicted(build: Build, posts: Posts) -> None:
    model = build("BERT-CRF")
    scores = model.layers[-1].linear
    nn.init.zeros_(scores.weight)
    nn.init.zeros_(scores.bias)
    scores.bias.data[model.labels.index("O")] = 99.0
    found = evaluate_in_detail(model, posts(5, 1), progress=False)
    assert found.calibration.count == 0
    assert found.errors.gold_total["missed"] == found.scores.lenient.gold > 0
    assert "calibration: no entity is predicted" in found.table()


def test_posts_without_labels(build: Build, posts: Posts) -> None:
    bare = [replace(post, labels=None) for post in posts(3, 1)]
    with pytest.raises(ValueError, match="posts without labels can't be trained on or scored"):
        evaluate_in_detail(build("BERT-CRF"), bare, progress=False)
