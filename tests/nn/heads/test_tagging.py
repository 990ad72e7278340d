"""Scores of a task: emitted, hinted at, padded, scored and decoded."""

from __future__ import annotations

import pytest
import torch
from fakes import LABELS, awkward_posts, post, state, without_objects
from torch import Tensor

from mnergraph.labels import LabelSet
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.heads.tagging import LabelTransfer, TaggingScores, Task, conversion_matrix, span_task
from mnergraph.nn.state import GraphState


def test_emit() -> None:
    graph = state(awkward_posts())
    emit = TaggingScores("tags", 8, 5)
    torch.testing.assert_close(emit(graph).emissions["tags"], emit.linear(graph.x["token"]))
    both = TaggingScores("spans", 11, 3, in_keys=("encoded", "token"))
    encoded = torch.randn(graph.layouts["token"].num_nodes, 3)
    found = both(graph.update(encoded=encoded)).emissions
    torch.testing.assert_close(found["spans"], both.linear(torch.cat([encoded, graph.x["token"]], -1)))
    assert found.keys() == {"spans"}


@pytest.mark.parametrize("scorer", [CRF, IndependentTags])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"])
def test_a_task_batched_is_a_task_alone(scorer: type[CRF | IndependentTags], posts: list) -> None:
    torch.manual_seed(0)
    task, emit = Task("tags", scorer(LABELS.tags)), TaggingScores("tags", 8, len(LABELS))
    graph = emit(state(posts))
    gold = torch.randint(len(LABELS), (graph.layouts["token"].num_nodes,))
    losses, best = task.loss(graph, gold), task.decode(graph)
    assert losses.shape == (len(posts),)
    assert best.shape == gold.shape
    emissions, mask = task.scores(graph)
    assert emissions.shape == (*mask.shape, len(LABELS))
    assert mask.sum(1).tolist() == [len(pair.words) for pair in posts]
    start = 0
    for s, pair in enumerate(posts):
        rows = slice(start, start := start + len(pair.words))
        alone = graph.emissions["tags"][rows][None]
        whole = torch.ones(1, len(pair.words), dtype=torch.bool)
        torch.testing.assert_close(losses[s], -task.scorer(alone, gold[rows][None], whole)[0], atol=1e-4, rtol=1e-5)
        assert torch.equal(best[rows], task.scorer.decode(alone, whole)[0])
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in (*emit.parameters(), *task.parameters()))


def test_labels_out_of_range_are_refused() -> None:
    task = Task("tags", IndependentTags(LABELS.tags), weight=0.5)
    graph = TaggingScores("tags", 8, len(LABELS))(state([post(2)]))
    assert task.weight == 0.5
    with pytest.raises(ValueError, match="tag -1 at row 0, step 1 is none of the 5 labels"):
        task.loss(graph, torch.tensor([0, -1]))


# --- span detection and its hint


def emitted(posts: list) -> GraphState:
    """A graph with scores of spans and of tags."""
    return TaggingScores("tags", 8, len(LABELS))(TaggingScores("spans", 8, 3)(state(posts)))


@torch.no_grad()
@pytest.mark.parametrize(("own", "share"), [(1.0, 1.0), (0.5, 0.5), (1.0, 0.0)])
@pytest.mark.parametrize("learned", [True, False])
def test_hint_against_the_equation(own: float, share: float, learned: bool) -> None:
    torch.manual_seed(0)
    graph = emitted([post(7, 3, seed=1), post(1, seed=2)])
    start = torch.randn(3, len(LABELS))
    hint = LabelTransfer("spans", "tags", start, learned=learned, target_weight=own, source_weight=share)
    found = hint(graph).emissions
    assert found["spans"] is graph.emissions["spans"]
    for row, (spans, tags) in enumerate(
        zip(graph.emissions["spans"].tolist(), graph.emissions["tags"].tolist(), strict=True)
    ):
        for y, tag in enumerate(tags):
            wanted = own * tag + share * sum(spans[z] * float(start[z, y]) for z in range(3))
            assert float(found["tags"][row, y]) == pytest.approx(wanted, abs=1e-5)
    assert hint.matrix is not start
    assert torch.equal(hint.state_dict()["matrix"], start), "saved, learned or not"


@pytest.mark.parametrize("learned", [True, False])
def test_a_hint_learns_if_it_is_to(learned: bool) -> None:
    graph = emitted(awkward_posts())
    hint = LabelTransfer("spans", "tags", conversion_matrix(LABELS), learned=learned)
    assert len(list(hint.parameters())) == learned
    hint(graph).emissions["tags"].sin().sum().backward()
    assert not learned or hint.matrix.grad.all(), "also where it began at 0"


def test_a_hint_of_no_task() -> None:
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
        wanted = [1 / len(can_become) if tag in can_become else 0.0 for tag in labels]
        assert row == pytest.approx(wanted), span


def types_gone(gold: Tensor) -> Tensor:
    return torch.tensor([LABELS.span_labels.index(LABELS.tags[tag][0]) for tag in gold.tolist()])


@pytest.mark.parametrize("posts", [awkward_posts(), [post(1)]], ids=["awkward", "one"])
def test_span_detection_reads_the_tags_without_their_types(posts: list) -> None:
    torch.manual_seed(0)
    task, graph = span_task(LABELS, 0.3), emitted(posts)
    assert (task.name, task.weight, task.scorer.tags) == ("spans", 0.3, ("O", "B", "I"))
    gold = torch.randint(len(LABELS), (graph.layouts["token"].num_nodes,))
    emissions, mask = task.scores(graph)
    wanted = -task.scorer(emissions, graph.layouts["token"].to_dense(types_gone(gold)), mask)
    torch.testing.assert_close(task.loss(graph, gold), wanted)
    # a type that is mistaken costs nothing, a border that is does
    others = {"B-PER": "B-LOC", "I-LOC": "I-PER"}
    mistaken = torch.tensor([LABELS.index(others.get(LABELS.tags[t], LABELS.tags[t])) for t in gold.tolist()])
    assert torch.equal(task.loss(graph, mistaken), task.loss(graph, gold))
    plain = Task("spans", task.scorer)
    assert plain.reads is None
    torch.testing.assert_close(plain.loss(graph, types_gone(gold)), wanted)
    # what follows from the label set is not saved, so that checkpoints of both kinds load
    assert task.state_dict().keys() == plain.state_dict().keys()
    assert span_task(LABELS, 1.0, name="borders").name == "borders"
