"""Scores of a task: emissions, label transfer, padding, loss and decoding."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import LABELS, awkward_posts, post, state, without_objects
from torch import Tensor

from mnergraph.labels import LabelSet, tags_to_spans
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.heads.tagging import (
    LabelTransfer,
    SpanDetectionHead,
    TaggingHead,
    TaggingScores,
    conversion_matrix,
)
from mnergraph.nn.state import GraphState


def test_tagging_scores() -> None:
    graph = state(awkward_posts())
    emit = TaggingScores("tags", 8, 5)
    torch.testing.assert_close(emit(graph).emissions["tags"], emit.linear(graph.x["token"]))
    both = TaggingScores("spans", 11, 3, in_keys=("encoded", "token"))
    encoded = torch.randn(graph.layouts["token"].num_nodes, 3)
    found = both(graph.update(encoded=encoded)).emissions
    torch.testing.assert_close(found["spans"], both.linear(torch.cat([encoded, graph.x["token"]], -1)))
    assert found.keys() == {"spans"}


def with_gold(graph: GraphState, gold: Tensor) -> GraphState:
    """The graph with these gold labels of its tokens."""
    data = graph.data.clone()
    data["token"].y = gold
    return replace(graph, data=data)


@pytest.mark.parametrize("decoder", [CRF, IndependentTags])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"])
def test_batched_is_alone(decoder: type[CRF | IndependentTags], posts: list) -> None:
    torch.manual_seed(0)
    head, emit = TaggingHead(decoder(LABELS.tags), LABELS), TaggingScores("tags", 8, len(LABELS))
    graph = emit(state(posts))
    gold = torch.randint(len(LABELS), (graph.layouts["token"].num_nodes,))
    losses, tags = head.loss(with_gold(graph, gold)), head.decode_tags(graph)
    entities = head.decode(graph)
    assert losses.shape == (len(posts),)
    assert [len(row) for row in tags] == [len(pair.words) for pair in posts]
    start = 0
    for s, pair in enumerate(posts):
        rows = slice(start, start := start + len(pair.words))
        alone = graph.emissions["tags"][rows][None]
        whole = torch.ones(1, len(pair.words), dtype=torch.bool)
        torch.testing.assert_close(losses[s], -head.decoder(alone, gold[rows][None], whole)[0], atol=1e-4, rtol=1e-5)
        best = head.decoder.decode(alone, whole)[0].tolist()
        assert tags[s] == [LABELS.tags[label] for label in best]
        spans = tags_to_spans(tags[s])
        assert [(found.start, found.end, found.type) for found in entities[s]] == spans
        expected = head.decoder.span_probability(alone, whole, [spans])[0]
        assert [found.score for found in entities[s]] == pytest.approx(expected, abs=1e-5)
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*emit.parameters(), *head.parameters()))


def test_posts_without_labels_are_refused() -> None:
    head = TaggingHead(IndependentTags(LABELS.tags), LABELS, weight=0.5)
    graph = TaggingScores("tags", 8, len(LABELS))(state([replace(post(2), labels=None, id="7")]))
    assert (head.name, head.weight) == ("tags", 0.5)
    with pytest.raises(ValueError, match="posts without labels can't be trained on or scored: '7'"):
        head.loss(with_gold(graph, torch.tensor([-1, -1])))


def test_metrics_of_tags() -> None:
    head, pairs = TaggingHead(CRF(LABELS.tags), LABELS), awkward_posts()
    gold = [head.gold(pair) for pair in pairs]
    assert gold == [pair.labels for pair in pairs]
    assert head.metrics(gold, gold)["f1"] == head.metrics(gold, gold)["recall"] == 1.0
    wrong = [("O",) * len(tags) for tags in gold]
    assert head.metrics(gold, wrong) == {"f1": 0.0, "precision": 0.0, "recall": 0.0, "strict_f1": 0.0}


# --- span detection and label transfer


def emitted(posts: list) -> GraphState:
    """A graph with scores of spans and of tags."""
    return TaggingScores("tags", 8, len(LABELS))(TaggingScores("spans", 8, 3)(state(posts)))


@torch.no_grad()
@pytest.mark.parametrize(("own", "share"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize("learned", [True, False])
def test_label_transfer_against_the_equation(own: float, share: float, learned: bool) -> None:
    torch.manual_seed(0)
    graph = emitted([post(7, 3, seed=1), post(1, seed=2)])
    start = torch.randn(3, len(LABELS))
    transfer = LabelTransfer("spans", "tags", start, learned=learned, target_weight=own, source_weight=share)
    found = transfer(graph).emissions
    assert found["spans"] is graph.emissions["spans"]
    for row, (spans, tags) in enumerate(
        zip(graph.emissions["spans"].tolist(), graph.emissions["tags"].tolist(), strict=True)
    ):
        for y, tag in enumerate(tags):
            expected = own * tag + share * sum(spans[z] * float(start[z, y]) for z in range(3))
            assert float(found["tags"][row, y]) == pytest.approx(expected, abs=1e-5)
    assert transfer.matrix is not start
    assert torch.equal(transfer.state_dict()["matrix"], start), "saved, learned or not"


@pytest.mark.parametrize("learned", [True, False])
def test_label_transfer_has_a_gradient_if_learned(learned: bool) -> None:
    graph = emitted(awkward_posts())
    transfer = LabelTransfer("spans", "tags", conversion_matrix(LABELS), learned=learned)
    assert len(list(transfer.parameters())) == learned
    transfer(graph).emissions["tags"].sin().sum().backward()
    assert not learned or transfer.matrix.grad.all(), "also where it is 0 at initialization"


def test_label_transfer_of_a_missing_task() -> None:
    with pytest.raises(KeyError, match="borders"):
        LabelTransfer("borders", "tags", conversion_matrix(LABELS))(emitted([post(2)]))


@pytest.mark.parametrize(
    "labels",
    [
        LABELS,
        LabelSet.from_types(["MISC", "PER", "ORG", "LOC"]),
        LabelSet(("B-A", "X", "O", "I-B", "I-A", "PAD", "B-B", "[CLS]", "I-C")),
        LabelSet(("O",)),
    ],
    ids=len,
)
def test_conversion_matrix(labels: LabelSet) -> None:
    matrix = conversion_matrix(labels).tolist()
    assert len(matrix) == len(labels.span_labels)
    for span, row in zip(labels.span_labels, matrix, strict=True):
        can_become = [tag for tag in labels if tag == span or tag.startswith(f"{span}-")]
        expected = [1 / len(can_become) if tag in can_become else 0.0 for tag in labels]
        assert row == pytest.approx(expected), span


def without_types(gold: Tensor) -> Tensor:
    return torch.tensor([LABELS.span_labels.index(LABELS.tags[tag][0]) for tag in gold.tolist()])


@pytest.mark.parametrize("posts", [awkward_posts(), [post(1)]], ids=["awkward", "one"])
def test_span_detection_reads_the_tags_without_their_types(posts: list) -> None:
    torch.manual_seed(0)
    head, graph = SpanDetectionHead(LABELS, weight=0.3), emitted(posts)
    assert (head.name, head.weight, head.decoder.tags) == ("spans", 0.3, ("O", "B", "I"))
    layout = graph.layouts["token"]
    gold = torch.randint(len(LABELS), (layout.num_nodes,))
    expected = -head.decoder(
        layout.to_dense(graph.emissions["spans"]), layout.to_dense(without_types(gold)), layout.mask
    )
    torch.testing.assert_close(head.loss(with_gold(graph, gold)), expected)
    # a type that is mistaken costs nothing, a border that is does
    others = {"B-PER": "B-LOC", "I-LOC": "I-PER"}
    mistaken = torch.tensor([LABELS.index(others.get(LABELS.tags[t], LABELS.tags[t])) for t in gold.tolist()])
    assert torch.equal(head.loss(with_gold(graph, mistaken)), head.loss(with_gold(graph, gold)))
    moved = (gold + 1) % len(LABELS)
    assert not torch.equal(head.loss(with_gold(graph, moved)), head.loss(with_gold(graph, gold)))
    best = head.decode_labels(graph)
    assert torch.equal(
        best, layout.to_flat(head.decoder.decode(layout.to_dense(graph.emissions["spans"]), layout.mask))
    )
    assert [label for row in head.decode(graph) for label in row] == [head.labels.tags[label] for label in best]
    assert [len(row) for row in head.decode(graph)] == layout.counts.tolist()
    # what follows from the label set is not saved
    assert set(head.state_dict()) == {f"decoder.{name}" for name in CRF(("O", "B", "I")).state_dict()}
