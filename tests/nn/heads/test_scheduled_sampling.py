"""Scheduled sampling: which labels later layers are given, epoch by epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import LABELS, SCHEMA, make_builder, post
from torch import Tensor

from mnergraph.graph import collate
from mnergraph.nn.heads.scheduled_sampling import PredictedSpans, ScheduledSampling, ScheduledSamplingConfig
from mnergraph.nn.heads.tagging import span_label_ids
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

SPAN_IDS = span_label_ids(LABELS)
POSTS = [post(words, seed=words) for words in (3, 1, 7, 4)]


class Decoder:
    """Predicts 7 everywhere, and counts its calls."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, graph: GraphState) -> Tensor:
        self.calls += 1
        assert not torch.is_grad_enabled()
        return torch.full((graph.layouts["token"].num_nodes,), 7)


def graph_of(posts: list[Pair]) -> GraphState:
    return GraphState.from_batch(collate(make_builder(SCHEMA, labels=LABELS).build_all(posts)), SCHEMA)


def gold(posts: list[Pair]) -> list[int]:
    return [int(SPAN_IDS[LABELS.index(tag)]) for pair in posts for tag in pair.labels or ()]


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, [0, 0, 0, 0.225, 0.45, 0.675, 0.9, 0.9, 0.9]),
        ({"start_epoch": 0, "end_epoch": 1, "max_ratio": 1.0}, [0, 1, 1]),
        ({"start_epoch": 1, "end_epoch": 5, "max_ratio": 0.4}, [0, 0, 0.1, 0.2, 0.3, 0.4, 0.4]),
        ({"max_ratio": 0.0}, [0] * 9),
    ],
)
def test_share(settings: dict[str, float], expected: list[float]) -> None:
    config = ScheduledSamplingConfig(**settings)  # type: ignore[arg-type]
    layer = ScheduledSampling(Decoder(), SPAN_IDS, out_key="spans", config=config)
    assert float(layer.share) == 0.0, "gold before training"
    found = []
    for epoch in range(len(expected)):
        layer.on_epoch_start(epoch)
        found.append(float(layer.share))
    assert found == pytest.approx(expected)
    again = ScheduledSampling(Decoder(), SPAN_IDS, out_key="spans")
    again.load_state_dict(layer.state_dict())
    assert torch.equal(again.share, layer.share)
    assert layer.state_dict().keys() == {"share"}


def test_gold_in_training_predicted_in_evaluation() -> None:
    decode, graph = Decoder(), graph_of(POSTS)
    layer = ScheduledSampling(decode, SPAN_IDS, out_key="spans")
    output = layer.train()(graph)
    assert output.x["spans"].tolist() == gold(POSTS)
    assert output.node_type_of("spans") == "token"
    assert decode.calls == 0, "unused labels are not decoded"
    layer.share.fill_(1.0)
    assert layer(graph).x["spans"].tolist() == [7] * 15
    layer.share.fill_(0.0)
    assert layer.eval()(graph).x["spans"].tolist() == [7] * 15
    assert decode.calls == 2
    assert "spans" not in graph.x


def test_posts_without_labels_have_predicted_ones() -> None:
    posts = [POSTS[0], replace(POSTS[2], labels=None), POSTS[3]]
    found = ScheduledSampling(Decoder(), SPAN_IDS, out_key="spans").train()(graph_of(posts)).x["spans"]
    assert found.tolist() == gold(posts[:1]) + [7] * 7 + gold(posts[2:])


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_sentences_are_sampled_independently(share: float) -> None:
    torch.manual_seed(0)
    layer, graph = ScheduledSampling(Decoder(), SPAN_IDS, out_key="spans").train(), graph_of(POSTS)
    layer.share.fill_(share)
    lengths = [len(pair.words) for pair in POSTS]
    expected = torch.tensor(gold(POSTS)).split(lengths)
    draws = []
    for _ in range(600):
        rows = layer(graph).x["spans"].split(lengths)
        predicted = [bool((row == 7).all()) for row in rows]
        assert all(p or torch.equal(row, own) for p, row, own in zip(predicted, rows, expected, strict=True))
        draws.append(predicted)
    drawn = torch.tensor(draws).double()
    # 600 draws: 4 deviations are 0.08 at most
    assert drawn.mean(0).tolist() == pytest.approx([share] * 4, abs=0.08)
    together = (drawn[:, 0] * drawn[:, 1]).mean()
    assert float(together) == pytest.approx(share**2, abs=0.08)


def test_refusals() -> None:
    for first, last in ((3, 3), (4, 2), (-1, 2)):
        with pytest.raises(ValueError, match=f"rises from an epoch.* to a later one, not from {first} to {last}"):
            ScheduledSamplingConfig(start_epoch=first, end_epoch=last)
    for most in (-0.1, 1.1):
        with pytest.raises(ValueError, match=f"the share of predicted labels is 0 to 1, not {most}"):
            ScheduledSamplingConfig(max_ratio=most)


GOLD = [[(0, 2), (3, 4), (6, 8)], [], [(1, 3)]]
PREDICTED = [[(0, 1), (1, 4), (7, 9)], [(0, 1)], [(0, 2), (2, 5), (8, 9)]]


def test_predicted_spans_take_the_places_of_the_nearest_gold_ones() -> None:
    spans, calls = PredictedSpans(ScheduledSamplingConfig()), []

    def predict() -> list[list[tuple[int, int]]]:
        calls.append(torch.is_grad_enabled())
        return PREDICTED

    assert spans.train()(GOLD, predict) == GOLD
    assert not calls, "unused spans are not decoded"
    spans.share.fill_(1.0)
    # (0, 2) shares a word with both of the first two, and takes the first
    assert spans(GOLD, predict) == [[(0, 1), (1, 4), (7, 9)], [], [(0, 2)]]
    assert calls == [False]
    assert spans(GOLD, lambda: [[], [], [(3, 4)]]) == GOLD, "an entity that no span touches keeps its own"
    assert spans.eval()(GOLD, predict) == GOLD


def test_each_post_draws_whether_it_takes_predicted_spans() -> None:
    torch.manual_seed(0)
    spans = PredictedSpans(ScheduledSamplingConfig(start_epoch=0, end_epoch=2, max_ratio=0.6)).train()
    spans.on_epoch_start(1)
    taken = [
        [found != gold for found, gold in zip(spans(GOLD, lambda: PREDICTED), GOLD, strict=True)] for _ in range(600)
    ]
    # 600 draws: 4 deviations are 0.08 at most
    assert torch.tensor(taken).double().mean(0).tolist() == pytest.approx([0.3, 0.0, 0.3], abs=0.08)
