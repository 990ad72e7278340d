"""Scores of a task: emitted, padded, scored and decoded."""

from __future__ import annotations

import pytest
import torch
from fakes import LABELS, awkward_posts, post, state, without_objects

from mnergraph.nn.crf import CRF
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.softmax import Softmax


def test_emit() -> None:
    graph = state(awkward_posts())
    emit = Emit("tags", 8, 5)
    torch.testing.assert_close(emit(graph).emissions["tags"], emit.linear(graph.x["token"]))
    both = Emit("spans", 11, 3, read=("encoded", "token"))
    encoded = torch.randn(graph.layouts["token"].nodes, 3)
    found = both(graph.update(encoded=encoded)).emissions
    torch.testing.assert_close(found["spans"], both.linear(torch.cat([encoded, graph.x["token"]], -1)))
    assert found.keys() == {"spans"}


@pytest.mark.parametrize("scorer", [CRF, Softmax])
@pytest.mark.parametrize(
    "posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"]
)
def test_a_task_batched_is_a_task_alone(scorer: type[CRF | Softmax], posts: list) -> None:
    torch.manual_seed(0)
    task, emit = Task("tags", scorer(LABELS.tags)), Emit("tags", 8, len(LABELS))
    graph = emit(state(posts))
    gold = torch.randint(len(LABELS), (graph.layouts["token"].nodes,))
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
        torch.testing.assert_close(
            losses[s], -task.scorer(alone, gold[rows][None], whole)[0], atol=1e-4, rtol=1e-5
        )
        assert torch.equal(best[rows], task.scorer.decode(alone, whole)[0])
    losses.sum().backward()
    assert all(
        p.grad is not None and p.grad.isfinite().all() for p in (*emit.parameters(), *task.parameters())
    )


def test_labels_out_of_range_are_refused() -> None:
    task = Task("tags", Softmax(LABELS.tags), weight=0.5)
    graph = Emit("tags", 8, len(LABELS))(state([post(2)]))
    assert task.weight == 0.5
    with pytest.raises(ValueError, match="tag -1 at row 0, step 1 is none of the 5 labels"):
        task.loss(graph, torch.tensor([0, -1]))
