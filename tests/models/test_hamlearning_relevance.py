"""The image's relevance against its equations, sentence by sentence."""

from __future__ import annotations

import pytest
import torch
from fakes import SCHEMA, awkward_posts, post, state, without_objects

from mnergraph.graph import Complete, Relation, Schema
from mnergraph.models.hamlearning.layers import Relevance
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH, TEXT = 6, 8
RELEVANCE_SCHEMA = SCHEMA | Schema([Relation("sentence", "gates", "image", Complete())])
POSTS = [awkward_posts(), without_objects(), [post(1, 2, seed=1)], [post(3, 2, seed=1, image=False)]]
posts_of_all_kinds = pytest.mark.parametrize("posts", POSTS, ids=["awkward", "no object", "one", "no image"])
both = pytest.mark.parametrize("measured", [True, False], ids=["relevance", "no relevance"])


def relevance(measured: bool) -> Relevance:
    torch.manual_seed(0)
    return Relevance("visual image", "visual object", WIDTH, TEXT, measured=measured)


def visual_graph(posts: list[Pair]) -> GraphState:
    """Sentences as wide as the text, one image node per post at most, both of the view's width."""
    graph = state(posts, width=TEXT, schema=RELEVANCE_SCHEMA)
    images = graph.layouts["image"]
    assert images.counts.max() <= 1, "a grid enters as its mean, before this"
    return graph.update(
        **{f"visual {kind}": graph.x[kind][:, :WIDTH].clone().requires_grad_() for kind in ("image", "object")}
    )


@posts_of_all_kinds
@both
def test_equations(posts: list[Pair], measured: bool) -> None:
    """Eqs. 8-10, written out for one sentence after the other."""
    part, graph = relevance(measured), visual_graph(posts)
    found = part(graph)
    for s in range(graph.num_graphs):
        begin, end = graph.layouts["image"].ptr[s : s + 2].tolist()
        image = graph.x["visual image"][begin] if end > begin else torch.zeros(WIDTH)
        share = torch.ones(WIDTH)
        if measured:
            h = graph.x["sentence"][s]
            match = torch.tanh(h @ part.match.weight @ image)
            share = torch.tanh(part.sentence.weight @ h + part.image.weight @ image * match)
        begin, end = graph.layouts["object"].ptr[s : s + 2].tolist()
        for node in range(begin, end):
            expected = part.join(torch.cat([share * image, graph.x["visual object"][node]]))
            torch.testing.assert_close(found.x["visual object"][node], expected, atol=1e-5, rtol=1e-5)
    assert found.x["visual object"].shape == (graph.layouts["object"].num_nodes, TEXT)
    assert found.x["visual image"] is graph.x["visual image"], "the image itself stays"


@both
def test_gradients(measured: bool) -> None:
    part, graph = relevance(measured), visual_graph(awkward_posts())
    part(graph).x["visual object"].square().sum().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in part.parameters())
    assert graph.x["visual image"].grad is not None
    assert graph.x["visual image"].grad.any()


def test_not_saturated_at_initialization() -> None:
    """Eq. 8 sums over as many products as the text is wide."""
    torch.manual_seed(0)
    part = Relevance("semantic image", "semantic object", 768, 768)
    h, v = torch.randn(2, 200, 768)
    assert torch.tanh((h * part.match(v)).sum(-1)).abs().mean() < 0.8
