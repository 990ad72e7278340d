"""Nodes of several types as nodes of one."""

from __future__ import annotations

import pytest
import torch
from fakes import OBJECTS, SCHEMA, awkward_posts, layout, post, state, without_objects

from mnergraph.graph import Complete, EntityWords, Relation, Schema
from mnergraph.nn.merging import MergeNodes

SEES, AMONG = ("token", "sees", "visual"), ("visual", "attends", "visual")
SHOWS = ("visual", "shows", "token")
MERGED = SCHEMA | Schema(
    [Relation(*SEES, Complete()), Relation(*AMONG, Complete()), Relation(*SHOWS, EntityWords())],
    nodes=["image"],
)


@pytest.mark.parametrize(
    "posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"]
)
@pytest.mark.parametrize("of", [("image", "object"), ("object", "token", "image"), ("object",)])
def test_by_loops(posts: list, of: tuple[str, ...]) -> None:
    graph = state(posts, schema=MERGED)
    merged = MergeNodes(of, "visual", later=[SHOWS])(graph)
    rows, counts = [], []
    for place in range(len(posts)):
        mine = [
            graph.x[kind][row]
            for kind in of
            for row in range(int(graph.layouts[kind].ptr[place]), int(graph.layouts[kind].ptr[place + 1]))
        ]
        rows += mine
        counts.append(len(mine))
    assert merged.layouts["visual"].counts.tolist() == counts
    assert torch.equal(merged.x["visual"], torch.stack(rows) if rows else torch.zeros(0, 8))
    assert torch.equal(merged.layouts["visual"].ptr, layout(*counts).ptr)
    for key in (SEES, AMONG):
        assert merged.edges[key].complete
        assert merged.edges[key].dst is merged.layouts["visual"]
    assert merged.edges[SHOWS].index.shape == (2, 0)
    assert merged.edges[SHOWS].src is merged.layouts["visual"]
    # the parts stay
    assert merged.edges[OBJECTS] is graph.edges[OBJECTS]
    assert merged.x["object"] is graph.x["object"]


def test_gradients_go_back_to_the_parts() -> None:
    graph = state([post(2, 3, seed=1), post(3, 1, seed=2)], schema=MERGED)
    parts = {kind: graph.x[kind].requires_grad_() for kind in ("image", "object")}
    merged = MergeNodes(("image", "object"), "visual", later=[SHOWS])(graph).x["visual"]
    assert len(merged) == 2 + 4
    (merged * torch.arange(6.0)[:, None]).sum().backward()
    assert parts["image"].grad[:, 0].tolist() == [0, 4]
    assert parts["object"].grad[:, 0].tolist() == [1, 2, 3, 5]


def test_relations_that_nobody_draws_are_refused() -> None:
    graph = state([post(2, 3)], schema=MERGED)
    with pytest.raises(ValueError, match=r"growing visual nodes leaves \[\('visual', 'shows', 'token'\)\]"):
        MergeNodes(("image", "object"), "visual")(graph)
