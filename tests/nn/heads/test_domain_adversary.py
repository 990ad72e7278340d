"""The domain classifier: its loss by loops, which way its gradients go, and posts that lack one type of nodes."""

from __future__ import annotations

import pytest
import torch
from equations import scatter
from fakes import awkward_posts, post, state, without_objects
from torch import Tensor, nn

from mnergraph.nn.heads.domain_adversary import DomainAdversaryHead
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH = 8


def head(**options: float) -> DomainAdversaryHead:
    made = DomainAdversaryHead(WIDTH, in_keys=("token", "object"), **options).double()
    scatter(made, std=0.8)
    return made


def graph_of(posts: list[Pair]) -> GraphState:
    graph = state(posts, width=WIDTH)
    return graph.update(**{name: x.double() for name, x in graph.x.items()})


def chances(made: DomainAdversaryHead, x: Tensor) -> Tensor:
    """D of every node, from the statistics of all of them in training, from the running ones in evaluation."""
    for part in made.classifier:
        if isinstance(part, nn.Linear):
            x = x @ part.weight.T + (0 if part.bias is None else part.bias)
        elif isinstance(part, nn.ReLU):
            x = x.clamp(min=0)
        else:
            norm = part.module
            mean, variance = norm.running_mean, norm.running_var
            if made.training:
                mean, variance = x.mean(0), x.var(0, correction=0)
            x = norm.weight * (x - mean) / (variance + norm.eps).sqrt() + norm.bias
    return 1 / (1 + (-x[:, 0]).exp())


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_against_the_formula(posts: list[Pair], training: bool) -> None:
    made, graph = head().train(training), graph_of(posts)
    tokens, objects = graph.layouts["token"], graph.layouts["object"]
    found = chances(made, torch.cat([graph.x["token"], graph.x["object"]]))
    of_words, of_objects = found.split([tokens.num_nodes, objects.num_nodes])
    expected = []
    for words, regions in zip(
        of_words.split(tokens.counts.tolist()), of_objects.split(objects.counts.tolist()), strict=True
    ):
        if not len(regions):
            expected.append(0.0)
            continue
        expected.append(
            float(-sum((1 - d).log() for d in words) / len(words) - sum(d.log() for d in regions) / len(regions))
        )
    torch.testing.assert_close(made.loss(graph), torch.tensor(expected).double(), rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_alone_equals_batched_in_evaluation() -> None:
    made, posts = head(), awkward_posts()
    made.loss(graph_of(posts))
    made.eval()
    graph = graph_of(posts)
    together = made.loss(graph)
    for index in range(len(posts)):
        alone = graph_of([posts[index]])
        rows = {}
        for name in ("token", "object"):
            begin, end = graph.layouts[name].ptr[index : index + 2].tolist()
            rows[name] = graph.x[name][begin:end]
        torch.testing.assert_close(made.loss(alone.update(**rows))[0], together[index], rtol=1e-10, atol=1e-10)


def test_each_type_counts_as_much() -> None:
    """Twice the same objects change nothing, nor do twice the same words."""
    made, posts = head().eval(), [post(6, 2, seed=1), post(6, 4, seed=1)]
    one, twice = (graph_of([pair]) for pair in posts)
    twice = twice.update(token=one.x["token"], object=one.x["object"].repeat(2, 1))
    torch.testing.assert_close(made.loss(one), made.loss(twice))


def test_gradients_are_reversed_before_the_classifier() -> None:
    made, graph = head(), graph_of(awkward_posts())
    x = graph.x["token"].requires_grad_()
    gradient: dict[float, Tensor] = {}
    own: list[tuple[Tensor, ...]] = []
    weights = list(made.parameters())
    for progress in (0.0, 0.5, 1.0):
        made.reversal.on_progress(progress)
        found = torch.autograd.grad(made.loss(graph.update(token=x)).sum(), [x, *weights])
        gradient[progress] = found[0]
        own.append(found[1:])
    for later in own[1:]:
        assert all(torch.equal(a, b) for a, b in zip(own[0], later, strict=True)), "its own are not reversed"
    assert not gradient[0.0].any()
    made.reversal.alpha.fill_(-1.0)  # not reversed
    (forward,) = torch.autograd.grad(made.loss(graph.update(token=x)).sum(), [x])
    torch.testing.assert_close(gradient[1.0], -forward * 0.9999092, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("posts", [without_objects(), [post(1, 0, seed=1)], [post(1, 1, seed=1)]])
def test_every_parameter_takes_part(posts: list[Pair]) -> None:
    made = head().train()
    losses = made.loss(graph_of(posts))
    losses.sum().backward()
    assert losses.isfinite().all()
    assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in made.parameters())


@torch.no_grad()
def test_decode() -> None:
    made, graph = head().eval(), graph_of(awkward_posts())
    found = made.decode(graph)
    assert [share is None for share in found] == [len(pair.objects) == 0 for pair in awkward_posts()]
    made.classifier[-1].weight.zero_()
    made.classifier[-1].bias.fill_(1.0)  # all are objects
    assert {share for share in made.decode(graph) if share is not None} == {0.5}
    assert not made.shown


def test_unknown_features() -> None:
    made, graph = DomainAdversaryHead(WIDTH, in_keys=("words", "object")), state(awkward_posts(), width=WIDTH)
    with pytest.raises(KeyError, match="no layer declared which nodes 'words' are features of"):
        made.loss(graph.update(words=graph.x["token"]))
    with pytest.raises(KeyError, match="words"):
        made.loss(graph)
    assert made.loss(graph.with_features("words", graph.x["token"], nodes_of="token")).shape == (8,)


def test_it_learns_to_tell_apart_and_the_layer_before_it_to_make_alike() -> None:
    torch.manual_seed(0)
    graph = graph_of([post(6, 3, seed=index) for index in range(8)])
    graph = graph.update(object=graph.x["object"] + 1.0)
    shares = {}
    for alpha in (0.0, 1.0):
        made, shift = head(), nn.Parameter(torch.zeros(WIDTH, dtype=torch.float64))
        made.reversal.alpha.fill_(alpha)
        optimizer = torch.optim.Adam([*made.parameters(), shift], lr=0.02)
        for _ in range(150):
            optimizer.zero_grad()
            made.loss(graph.update(object=graph.x["object"] + shift)).mean().backward()
            optimizer.step()
        shares[alpha] = float(shift.detach().mean())
    assert shares[0.0] == 0.0, "without reversal nothing before it is changed"
    assert shares[1.0] < -0.3, "with it the objects move towards the words"
