"""A copy of a network with weights in bfloat16, used in its place for the time of a prediction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from copy import deepcopy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

Network = TypeVar("Network", bound=nn.Module)


@contextmanager
def in_bfloat16(network: PreTrainedModel) -> Iterator[None]:
    """Within it `in_use` returns a copy of a Hugging Face network whose weights, and states, are in bfloat16.

    The table of input embeddings, which may be the largest weight, is shared, and what is looked up in it is cast.
    The last hidden states are float32 again. Under autocast alone weights are cast once, but the input of every
    product is cast from the float32 of residuals and normalization. The network itself does not change, and other
    threads go on with it.

    Args:
        network: the network, which returns ``last_hidden_state``.
    """
    table = network.get_input_embeddings().weight
    weights = [weight for weight in network.parameters() if weight is not table and weight.dtype == torch.float32]
    casts = [nn.Parameter(weight.detach().to(torch.bfloat16), requires_grad=False) for weight in weights]
    copied = deepcopy(network, {id(table): table, **dict(zip(map(id, weights), casts, strict=True))})
    copied.get_input_embeddings().register_forward_hook(_in_bfloat16)
    copied.register_forward_hook(_with_float32_states)
    token = _COPIES.set({**_COPIES.get({}), network: copied})
    try:
        yield
    finally:
        _COPIES.reset(token)


def in_use(network: Network) -> Network:
    """Return the copy that this thread uses in a network's place, see `in_bfloat16`; without one the network."""
    found: Network = _COPIES.get({}).get(network, network)
    return found


#: The copies of this thread by network.
_COPIES: ContextVar[dict[nn.Module, Any]] = ContextVar("copies in bfloat16")


def _in_bfloat16(table: nn.Module, inputs: Any, output: Tensor) -> Tensor:
    return output.to(torch.bfloat16)


def _with_float32_states(network: nn.Module, inputs: Any, output: Any) -> Any:
    states: Tensor = output.last_hidden_state
    output.last_hidden_state = states.float()
    return output
