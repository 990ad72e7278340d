"""A training step, a prediction, and their parts, as calls to time: each goes once through some batches."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch_geometric.data import Batch

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph import Layout
from mnergraph.models import Tagger

Call = Callable[[], None]
Precision = Literal["fp32", "bf16"]


def training_calls(
    model: Tagger, batches: Sequence[Batch], precision: Precision = "fp32", *, cast_cache: bool = True
) -> dict[str, Call]:
    """What a step of training does and what parts of it do alone.

    Args:
        model: the model.
        batches: what a call goes through.
        precision: fp32, or bf16 (autocast).
        cast_cache: whether autocast casts a weight once a forward, not at every use.

    Returns:
        ``step``: forward, backward and optimiser; ``losses``: all tasks' losses forward and backward, from
        emissions to their gradients; where the model has a Hugging Face encoder also ``encoder``, a step of
        it alone on the same pieces.
    """
    model.train()
    device = batches[0]["token"].y.device.type
    cast = _Cast(device, precision, cast_cache)
    with torch.no_grad(), cast():
        graphs = [model(batch) for batch in batches]

    def gradients(batch: Batch) -> None:
        with cast():
            loss = model.loss(model(batch))
        loss.backward()

    def losses(graph: Any) -> None:
        leaves = {name: scores.detach().requires_grad_() for name, scores in graph.emissions.items()}
        with cast():
            loss = model.loss(replace(graph, emissions=leaves))
        loss.backward()

    calls = {
        "step": _through(gradients, batches, _optimiser(model)),
        "losses": _through(losses, graphs, None),
    }
    if isinstance(model.encoder, TextEncoderModel):
        network = model.encoder.model

        def encoder(inputs: dict[str, torch.Tensor]) -> None:
            with cast():
                states = network(**inputs).last_hidden_state
            states.sum().backward()

        padded = [_inputs(batch) for batch in batches]
        calls["encoder"] = _through(encoder, padded, _optimiser(network))
    return calls


def prediction_calls(model: Tagger, batches: Sequence[Batch], precision: Precision = "fp32") -> dict[str, Call]:
    """What prediction does and what parts of it do alone.

    Returns:
        ``predict``: from batches to tags; ``decode``: from emissions to tags; where the model has a Hugging
        Face encoder also ``encoder``, the states of the same pieces. Each sets evaluation mode.
    """
    device = batches[0]["token"].y.device.type
    cast = _Cast(device, precision)

    def quietly(call: Callable[[Any], Any], things: Sequence[Any]) -> Call:
        def run() -> None:
            model.eval()
            with torch.inference_mode(), cast():
                for thing in things:
                    call(thing)

        return run

    model.eval()
    with torch.inference_mode(), cast():
        graphs = [model(batch) for batch in batches]
    calls = {
        "predict": quietly(lambda batch: model.decode_tags(model(batch)), batches),
        "decode": quietly(model.decode_tags, graphs),
    }
    if isinstance(model.encoder, TextEncoderModel):
        network = model.encoder.model
        calls["encoder"] = quietly(lambda given: network(**given), [_inputs(batch) for batch in batches])
    return calls


def in_turns(call: Call, reference: Call, repeats: int) -> dict[str, Any]:
    """Return the median CPU seconds of two calls in turns, and the median, lowest and highest of their quotients."""
    seconds: tuple[list[float], list[float]] = ([], [])
    for turn in range(repeats + 1):  # the first is not counted
        for some, timed in zip((call, reference), seconds, strict=True):
            began = time.process_time()
            some()
            if turn:
                timed.append(time.process_time() - began)
    ratios = [one / other for one, other in zip(*seconds, strict=True)]
    return {
        "seconds": [statistics.median(each) for each in seconds],
        "ratio": statistics.median(ratios),
        "lowest and highest": [min(ratios), max(ratios)],
    }


class _Cast:
    """Autocast to bf16, or nothing."""

    def __init__(self, device: str, precision: Precision, cache: bool = True) -> None:
        self.device, self.enabled, self.cache = device, precision == "bf16", cache

    def __call__(self) -> torch.autocast:
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.enabled, cache_enabled=self.cache)


def _through(call: Callable[[Any], None], things: Sequence[Any], optimiser: torch.optim.Optimizer | None) -> Call:
    def run() -> None:
        for thing in things:
            call(thing)
            if optimiser is not None:
                optimiser.step()
                optimiser.zero_grad()

    return run


def _optimiser(model: torch.nn.Module) -> torch.optim.Optimizer:
    return torch.optim.AdamW(model.parameters(), 1e-5, fused=True)


def _inputs(batch: Batch) -> dict[str, torch.Tensor]:
    """The batch's pieces, padded as the model's text encoder pads them."""
    layout = Layout(batch["piece"].ptr)
    return {"input_ids": layout.to_dense(batch["piece"].input_ids), "attention_mask": layout.mask.long()}
