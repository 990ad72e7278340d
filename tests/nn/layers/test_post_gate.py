"""Gates of one number per post by loops, and messages exchanged between posts."""

from __future__ import annotations

import math

import pytest
import torch
from equations import scatter
from fakes import awkward_posts, post, state, without_objects
from torch import Tensor

from mnergraph.explain import record_attention
from mnergraph.nn.layers.post_gate import ExchangeMessages, PostGate, exchanged_task
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH = 8
either = pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])


def graph_of(posts: list[Pair], seed: int = 0) -> GraphState:
    """Posts with double features and messages of the objects."""
    graph = state(posts, width=WIDTH, seed=seed)
    graph = graph.update(**{name: x.double() for name, x in graph.x.items()})
    message = torch.randn(graph.x["token"].shape, generator=torch.Generator().manual_seed(seed + 1)).double()
    return graph.with_features("message", message, nodes_of="token")


def gate(exchanged_key: str | None = None) -> PostGate:
    made = PostGate(
        WIDTH,
        source="object",
        task="match",
        in_keys=("token", "message"),
        out_key="gated",
        exchanged_key=exchanged_key,
    ).double()
    scatter(made)
    return made


def rows(graph: GraphState, key: str) -> list[Tensor]:
    return list(graph.x[key].split(graph.layouts["token"].counts.tolist()))


def score(made: PostGate, words: Tensor, messages: Tensor) -> float:
    """w . the mean over the words of [word ; message] + b."""
    total = sum(torch.cat([x, m]) for x, m in zip(words, messages, strict=True)) / len(words)
    return float(made.linear.weight[0] @ total + made.linear.bias[0])


@torch.no_grad()
@either
def test_against_the_equation(posts: list[Pair]) -> None:
    made, graph = gate(), graph_of(posts)
    found = made(graph)
    for pair, words, messages, gated, value in zip(
        posts, *(rows(found, key) for key in ("token", "message", "gated")), found.emissions["match"], strict=True
    ):
        expected = score(made, words, messages)
        assert float(value) == pytest.approx(expected, abs=1e-10)
        p = 1 / (1 + math.exp(-expected)) if pair.objects else 0.0
        torch.testing.assert_close(gated, p * messages, rtol=1e-10, atol=1e-10)
    assert found.node_type_of("gated") == "token"
    assert torch.equal(found.x["message"], graph.x["message"])


@torch.no_grad()
def test_alone_equals_batched() -> None:
    made, posts = gate(), awkward_posts()
    graph = graph_of(posts)
    together = made(graph)
    for index, pair in enumerate(posts):
        alone = graph_of([pair]).update(**{key: rows(graph, key)[index] for key in ("token", "message")})
        torch.testing.assert_close(made(alone).x["gated"], rows(together, "gated")[index], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(made(alone).emissions["match"][0], together.emissions["match"][index])


@either
def test_gradients(posts: list[Pair]) -> None:
    """Of a batch without objects, too, they are zeros and not NaN, though its gates are closed."""
    made, graph = gate(), graph_of(posts)
    message = graph.x["message"].requires_grad_()
    made(graph.update(message=message)).x["gated"].sum().backward()
    has_objects = any(pair.objects for pair in posts)
    for tensor in (message, *made.parameters()):
        assert tensor.grad is not None
        assert tensor.grad.isfinite().all()
        assert bool(tensor.grad.any()) == has_objects


def test_recorded_as_gates_of_the_tokens() -> None:
    made, graph = torch.nn.Sequential(gate()), graph_of([post(5, 2, seed=1), post(3, 0, seed=2)])
    with record_attention(made) as record:
        found = made(graph)
    one, two = (recorded.gates[0] for recorded in record.posts)
    assert one.node_type == "token"
    torch.testing.assert_close(one.values, found.emissions["match"][0].sigmoid().float().expand(5))
    assert two.values.tolist() == [0.0] * 3


# --- exchange


def exchange() -> ExchangeMessages:
    return ExchangeMessages(source="object", in_key="message", out_key="exchanged")


def test_every_post_with_objects_gets_the_mean_message_of_the_next_one() -> None:
    posts = [post(4, 2, seed=1), post(3, 0, seed=2), post(6, 1, seed=3), post(1, 1, seed=4), post(2, 0, seed=5)]
    graph = graph_of(posts)
    found = exchange().train()(graph)
    means = [part.mean(0) for part in rows(graph, "message")]
    for index, foreign in ((0, 2), (2, 3), (3, 0), (1, 1), (4, 4)):
        expected = means[foreign].expand(len(posts[index].words), -1)
        torch.testing.assert_close(rows(found, "exchanged")[index], expected)
    assert found.node_type_of("exchanged") == "token"
    assert found.x["message"] is graph.x["message"]


@pytest.mark.parametrize("posts", [without_objects(), [post(4, 2, seed=1)], [post(4, 2, seed=1), post(3, 0, seed=2)]])
def test_a_batch_too_small_has_no_exchange(posts: list[Pair]) -> None:
    graph = graph_of(posts)
    assert exchange().train()(graph) is graph


def test_no_exchange_in_evaluation() -> None:
    graph = graph_of(awkward_posts())
    assert exchange().eval()(graph) is graph


@torch.no_grad()
def test_the_gate_scores_exchanged_messages_and_passes_none() -> None:
    posts = awkward_posts()
    graph = graph_of(posts)
    made = gate(exchanged_key="exchanged")
    found = made(exchange().train()(graph))
    scores = found.emissions[exchanged_task("match")]
    for index, (words, messages) in enumerate(zip(rows(found, "token"), rows(found, "exchanged"), strict=True)):
        assert float(scores[index]) == pytest.approx(score(made, words, messages), abs=1e-10)
    plain = made(graph)
    assert torch.equal(plain.x["gated"], found.x["gated"])
    assert plain.emissions.keys() == {"match"}


def test_unknown_features() -> None:
    graph = state(awkward_posts(), width=WIDTH)
    with pytest.raises(KeyError, match="no layer declared which nodes 'message' are features of"):
        gate()(graph.update(message=graph.x["token"]))
    with pytest.raises(KeyError, match="no layer declared which nodes 'message' are features of"):
        exchange().train()(graph.update(message=graph.x["token"]))
