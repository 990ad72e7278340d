r"""What a training step takes beside its encoder alone, and where its time goes.

    uv run python -m benchmarks.step_parts --out benchmarks/results/step_parts.json

Seconds are CPU seconds of this process on one thread, so that other work on the machine counts little; what is
compared is measured in turns, and of the quotients of each turn the median counts. Models, posts and batches are
those of `speed.py`. Of two figures the first is the step's, the second its encoder's. Shares are of the time that
torch's profiler counts without what an operation calls in turn. Where the processor multiplies bf16 without AMX,
products in bf16 may be slower than in fp32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.common import commit, flops, machine, write_result
from benchmarks.experiment import SETTINGS
from benchmarks.speed import chosen, model_for, posts_for, twitter_lengths
from benchmarks.steps import Call, Precision, in_turns, training_calls
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.training import GraphLoader

SYSTEMS = ("UMT", "UMGF", "GEI", "MGCMT", "HamLearning")
#: Operations of each part, by the beginning of their names.
PARTS = {
    "products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::baddbmm", "aten::mkldnn_linear", "mkldnn::"),
    "copy_": ("aten::copy_",),
    "optimiser": ("aten::_fused_adamw_", "aten::_foreach", "Optimizer."),
    "dropout": ("aten::bernoulli_", "aten::native_dropout", "aten::dropout"),
    "softmax": ("aten::_softmax", "aten::_log_softmax", "aten::softmax"),
    "fills": ("aten::fill_", "aten::zero_"),
}


def main(
    out: Path | None = None,
    systems: tuple[str, ...] = SYSTEMS,
    variant: str | None = None,
    settings: Path = SETTINGS,
    width: int = 768,
    heads: int = 12,
    layers: tuple[int, ...] = (4, 12),
    precisions: tuple[Precision, ...] = ("fp32", "bf16"),
    batch_size: int = 16,
    repeats: int = 5,
) -> dict[str, Any]:
    """Measures the systems over encoders, by default of BERT-base's width, prints a line each, and writes all if asked.

    Args:
        out: the result file, written after each system.
        systems: which.
        variant: "released" for what the authors' code computes; by default that of the settings.
        settings: folder of the settings files.
        width: of the encoders.
        heads: of the encoders.
        layers: of the encoders.
        precisions: fp32, bf16 (autocast) or both.
        batch_size: posts of the one batch.
        repeats: turns of which the median counts.
    """
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "benchmark": "step_parts",
        "machine": machine(),
        "commit": commit(),
        "batch size": batch_size,
        "variant": variant,
        "repeats": repeats,
        "systems": {},
    }
    for experiment in chosen(settings, systems):
        posts = posts_for(experiment, batch_size, twitter_lengths())
        if variant is not None:
            experiment = replace(experiment, arguments={**experiment.arguments, "variant": variant})
        found = result["systems"][experiment.system] = {}
        for depth in layers:
            for precision in precisions:
                torch.manual_seed(0)
                model = model_for(experiment, posts, (width, depth, heads))
                batches = list(GraphLoader(model.builder.build_all(posts), batch_size, shuffle=True))
                how = f"{depth} layers, {precision}"
                calls = training_calls(model, batches, precision)
                found[how] = measure(calls["step"], calls["encoder"], repeats)
                if precision == "bf16":
                    uncached = training_calls(model, batches, precision, cast_cache=False)["step"]
                    found[how]["casts at every use"] = measure(uncached, calls["step"], repeats)
                print(f"{experiment.system}, {how}: {_line(found[how])}", flush=True)
        if out is not None:
            write_result(result, out)
    return result


def measure(call: Call, reference: Call, repeats: int) -> dict[str, Any]:
    """Return a call over a reference by time and by operations, and the shares of the parts of both."""
    return {
        **in_turns(call, reference, repeats),
        "by operations": flops(call) / flops(reference),
        "shares": [shares(call), shares(reference)],
    }


def shares(call: Call) -> dict[str, float]:
    """Return the share of each part in a call's time; ``rest`` is what no part has."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        call()
    own = {event.key: event.self_cpu_time_total for event in profile.key_averages()}
    whole = sum(own.values())
    found = {
        part: sum(taken for name, taken in own.items() if name.startswith(names)) / whole
        for part, names in PARTS.items()
    }
    return found | {"rest": 1 - sum(found.values())}


def _line(found: Mapping[str, Any]) -> str:
    ratio, operations, (low, high) = found["ratio"], found["by operations"], found["lowest and highest"]
    parts = ", ".join(f"{part} {100 * share:.0f}%" for part, share in found["shares"][0].items())
    line = f"{ratio:.2f} ({low:.2f} to {high:.2f}) times its encoder, {operations:.2f} by operations"
    uncached = found.get("casts at every use")
    return f"{line}; {parts}" + (f"; without autocast's cache {uncached['ratio']:.2f} times" if uncached else "")


if __name__ == "__main__":
    disable_malloc_trim()
    auto_cli(main, as_positional=False)
