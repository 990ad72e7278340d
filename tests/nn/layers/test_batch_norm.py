"""Batch norm over nodes: the batch's statistics in training, the running ones in evaluation and for a single node."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from fakes import TO_TOKENS, awkward_posts, state, without_objects
from torch import Tensor, nn

from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.layers.batch_norm import AddBatchNorm
from mnergraph.nn.layers.hetero import HeteroLayer

WIDTH = 5


def layer(dropout: float = 0.0) -> AddBatchNorm:
    torch.manual_seed(0)
    made = AddBatchNorm(WIDTH, dropout).double()
    for weight in made.parameters():
        nn.init.normal_(weight)
    return made


def nodes(count: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    x, message = torch.randn(2, count, WIDTH, dtype=torch.float64)
    return x, message


def normalized(made: AddBatchNorm, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    norm = made.norm.module
    return norm.weight * (x - mean) / (variance + norm.eps).sqrt() + norm.bias


@torch.no_grad()
@pytest.mark.parametrize("count", [2, 7])
def test_training(count: int) -> None:
    made, (x, message) = layer().train(), nodes(count)
    total = x + message
    mean = sum(total) / count
    variance = sum((row - mean).square() for row in total) / count
    expected = torch.stack([normalized(made, row, mean, variance) for row in total])
    torch.testing.assert_close(made(x, message), expected, rtol=1e-10, atol=1e-10)
    # the running statistics move by a tenth, the variance is the unbiased one
    norm = made.norm.module
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * variance * count / (count - 1))


@torch.no_grad()
def test_evaluation_reads_each_node_alone() -> None:
    made, (x, message) = layer(), nodes(7)
    made.train()(x, message)
    made.eval()
    norm = made.norm.module
    before = norm.running_mean.clone()
    expected = torch.stack([normalized(made, row, norm.running_mean, norm.running_var) for row in x + message])
    torch.testing.assert_close(made(x, message), expected, rtol=1e-10, atol=1e-10)
    alone = torch.cat([made(x[i : i + 1], message[i : i + 1]) for i in range(7)])
    torch.testing.assert_close(alone, expected, rtol=1e-10, atol=1e-10)
    assert torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("count", [0, 1])
def test_a_single_node_and_none_use_the_running_statistics(count: int) -> None:
    made, (x, message) = layer(), nodes(7)
    made.train()(x, message)
    before = {name: value.clone() for name, value in made.state_dict().items()}
    x, message = (part[:count].requires_grad_() for part in (x, message))
    found = made(x, message)
    assert torch.equal(found, made.eval()(x, message))
    assert found.isfinite().all()
    found.sum().backward()
    assert all(weight.grad.isfinite().all() for weight in (x, message, *made.parameters()))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_dropout_of_the_message() -> None:
    made, (x, message) = layer(dropout=1.0), nodes(7)
    torch.testing.assert_close(made.train()(x, message), made(x, torch.zeros_like(message)))


@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_as_the_residual_of_a_layer(posts: list) -> None:
    graph = state(posts, width=WIDTH)
    torch.manual_seed(0)
    made = HeteroLayer({TO_TOKENS: GatedSum(WIDTH)}, residual=partial(AddBatchNorm, WIDTH)).train()
    found = made(graph).x["token"]
    torch.testing.assert_close(found.mean(0), torch.zeros(WIDTH), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.var(0, correction=0), torch.ones(WIDTH), atol=1e-3, rtol=0)
