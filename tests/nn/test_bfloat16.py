"""A copy of a network in bfloat16 in its place: the same numbers as the network cast, and nobody else sees it."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from copy import deepcopy

import pytest
import torch
from transformers import BertModel

from mnergraph import tiny_encoder
from mnergraph.nn.bfloat16 import in_bfloat16, in_use


@pytest.fixture
def network() -> BertModel:
    torch.manual_seed(0)
    found = tiny_encoder(["rome"]).model.eval()
    assert isinstance(found, BertModel)
    return found


@torch.no_grad()
def states(network: BertModel) -> torch.Tensor:
    ids = torch.arange(12).reshape(2, 6) + 5
    mask = torch.ones_like(ids)
    mask[1, 4:] = 0
    found: torch.Tensor = network(input_ids=ids, attention_mask=mask).last_hidden_state
    return found


def test_the_states_are_those_of_the_network_cast(network: BertModel) -> None:
    exact, cast = states(network), states(deepcopy(network).to(torch.bfloat16))
    with in_bfloat16(network):
        copied = in_use(network)
        found = states(copied)
    assert found.dtype == torch.float32
    assert torch.equal(found, cast.float())
    assert not torch.equal(found, exact)
    table = network.get_input_embeddings().weight
    assert copied.get_input_embeddings().weight is table, "the largest weight is not copied"
    assert {weight.dtype for weight in copied.parameters() if weight is not table} == {torch.bfloat16}
    # the network is as it was
    assert {weight.dtype for weight in network.parameters()} == {torch.float32}
    assert torch.equal(states(network), exact)
    assert in_use(network) is network


def test_weights_of_another_type_and_buffers_stay(network: BertModel) -> None:
    network.encoder.layer[1].to(torch.float64)
    network.register_buffer("angles", torch.ones(3))
    with in_bfloat16(network):
        copied = in_use(network)
        assert copied.angles.dtype == torch.float32
        assert {weight.dtype for weight in copied.encoder.layer[0].parameters()} == {torch.bfloat16}
        assert {weight.dtype for weight in copied.encoder.layer[1].parameters()} == {torch.float64}


def test_weights_used_twice_are_one_in_the_copy(network: BertModel) -> None:
    first, second = (layer.intermediate.dense for layer in network.encoder.layer)
    second.weight = first.weight
    with in_bfloat16(network):
        first, second = (layer.intermediate.dense for layer in in_use(network).encoder.layer)
        assert second.weight is first.weight


def test_another_thread_goes_on_with_the_network(network: BertModel) -> None:
    with ThreadPoolExecutor(1) as threads, in_bfloat16(network):
        assert in_use(network) is not network
        assert threads.submit(in_use, network).result() is network


def test_left_by_an_error_and_one_within_another(network: BertModel) -> None:
    other = deepcopy(network)
    with in_bfloat16(network):
        with suppress(ZeroDivisionError), in_bfloat16(other):
            assert in_use(network) is not network
            assert in_use(other) is not other
            raise ZeroDivisionError
        assert in_use(other) is other
        assert in_use(network) is not network
    assert in_use(network) is network
