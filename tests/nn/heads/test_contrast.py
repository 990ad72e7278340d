"""Contrast of two vectors of a post within a batch: the loss by loops, and batches without negatives."""

from __future__ import annotations

import math

import pytest
import torch
from equations import scatter
from fakes import awkward_posts, post, state, without_objects
from torch import Tensor

from mnergraph.nn.heads.contrast import ContrastHead
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH, SIZE = 8, 5


def head(**options: float) -> ContrastHead:
    made = ContrastHead(WIDTH, WIDTH, SIZE, in_keys=("token", "object"), **options).double()
    scatter(made)
    return made


def graph_of(posts: list[Pair]) -> GraphState:
    graph = state(posts, width=WIDTH)
    return graph.update(**{name: x.double() for name, x in graph.x.items()})


def vectors(made: ContrastHead, graph: GraphState) -> list[tuple[Tensor, Tensor] | None]:
    """Text and image of every post that has both."""
    out: list[tuple[Tensor, Tensor] | None] = []
    for index in range(graph.num_graphs):
        pair = []
        for key, net in (("token", made.text), ("object", made.image)):
            begin, end = graph.layouts[key].ptr[index : index + 2].tolist()
            if begin < end:
                mean = sum(graph.x[key][begin:end]) / (end - begin)
                hidden = (net[0].weight @ mean + net[0].bias).clamp(min=0)
                pair.append(net[2].weight @ hidden + net[2].bias)
        out.append((pair[0], pair[1]) if len(pair) == 2 else None)
    return out


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a @ a).sqrt() / (b @ b).sqrt())


@torch.no_grad()
@pytest.mark.parametrize("balance", [0.0, 0.3, 1.0])
def test_against_the_formula(balance: float) -> None:
    made, graph = head(balance=balance, temperature=0.2).train(), graph_of(awkward_posts())
    losses, found = made.loss(graph).tolist(), vectors(made, graph)
    whole = [one for one in found if one is not None]
    assert 2 < len(whole) < len(found)
    for loss, one in zip(losses, found, strict=True):
        if one is None:
            assert loss == 0.0
            continue
        own = math.exp(cosine(*one) / 0.2)
        images = sum(math.exp(cosine(one[0], other[1]) / 0.2) for other in whole)
        texts = sum(math.exp(cosine(other[0], one[1]) / 0.2) for other in whole)
        expected = -balance * math.log(own / images) - (1 - balance) * math.log(own / texts)
        assert loss == pytest.approx(expected, abs=1e-10)


@torch.no_grad()
def test_posts_without_an_image_are_no_negatives() -> None:
    posts = [pair for pair in awkward_posts() if pair.objects]
    made = head().train()
    bare = without_objects()
    graph, more = graph_of(posts), graph_of([*bare, *posts])
    skipped = sum(len(pair.words) for pair in bare)
    token = torch.cat([more.x["token"][:skipped], graph.x["token"]])
    losses = made.loss(more.update(token=token, object=graph.x["object"]))
    torch.testing.assert_close(losses[len(bare) :], made.loss(graph), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("posts", [without_objects(), [post(4, 2, seed=1)], [post(4, 2, seed=1), *without_objects()]])
def test_without_negatives_the_loss_is_zero(posts: list[Pair]) -> None:
    made = head().train()
    losses = made.loss(graph_of(posts))
    torch.testing.assert_close(losses, torch.zeros(len(posts), dtype=torch.float64), rtol=0, atol=1e-12)
    losses.sum().backward()
    for weight in made.parameters():
        assert weight.grad is not None, "it takes part, which several devices need"
        assert weight.grad.isfinite().all()
        assert float(weight.grad.abs().max()) < 1e-12


def test_in_evaluation_the_loss_does_not_depend_on_the_batch() -> None:
    assert head().eval().loss(graph_of(awkward_posts())).tolist() == [0.0] * 8


def test_every_parameter_has_a_gradient() -> None:
    made = head().train()
    made.loss(graph_of(awkward_posts())).mean().backward()
    assert all(weight.grad is not None and weight.grad.any() for weight in made.parameters())


@torch.no_grad()
def test_decode() -> None:
    made, graph = head(), graph_of(awkward_posts())
    expected = [None if one is None else pytest.approx(cosine(*one)) for one in vectors(made, graph)]
    assert made.decode(graph) == expected
    assert not made.shown


def test_in_mixed_precision() -> None:
    made, graph = head().train().float(), state(awkward_posts(), width=WIDTH)
    with torch.autocast("cpu", torch.bfloat16):
        losses = made.loss(graph)
    assert losses.dtype == torch.float32
    torch.testing.assert_close(losses, made.loss(graph), atol=0.1, rtol=0.1)


def test_refusals() -> None:
    with pytest.raises(ValueError, match="the temperature is above 0, not 0"):
        head(temperature=0.0)
    with pytest.raises(ValueError, match=r"the balance of the two contrasts is 0 to 1, not 1\.5"):
        head(balance=1.5)
    made, graph = ContrastHead(WIDTH, WIDTH, SIZE, in_keys=("words", "object")).train(), state(awkward_posts())
    unknown = graph.update(words=graph.x["token"])
    with pytest.raises(KeyError, match="no layer declared which nodes 'words' are features of"):
        made.loss(unknown)
