r"""Training on one process and on two, of the same global batches. Needs a machine with two idle cores.

    OMP_NUM_THREADS=1 uv run python -m benchmarks.devices --out benchmarks/results/devices.json

A process has one thread. With two, each computes half of a global batch, and gloo sums the gradients; with one, the
halves are computed one after the other and their gradients accumulated. Both take the same steps, so the weights are
equal but for rounding, where there is no dropout.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.common import LABELS, commit, machine, random_encoder, some_posts
from benchmarks.recording import SHAPES
from mnergraph.models import MODELS
from mnergraph.training import TrainerConfig, fit
from mnergraph.training.build import build_model


def seconds_of_a_run(model: str, shape: str, processes: int, posts: int, batch_size: int, precision: str) -> float:
    """Return the seconds of an epoch, start and scoring of 16 dev posts included."""
    torch.manual_seed(0)
    tagger = build_model(MODELS[model], random_encoder(*SHAPES[shape]), LABELS, [])
    several = {"strategy": "ddp_fork"} if processes > 1 else {"accumulate_grad_batches": 2}
    trainer = TrainerConfig(
        epochs=1,
        batch_size=batch_size // 2,
        devices=processes,
        precision=precision,
        accelerator="cpu",
        logger="none",
        progress=False,
        save_every=0,
        lightning=several,
    )
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        fit(tagger, some_posts(posts), some_posts(16, seed=1), Path(folder), trainer=trainer)
        return time.perf_counter() - start


def main(
    out: Path | None = None,
    model: str = "UMT",
    shape: str = "minilm",
    posts: int = 512,
    batch_size: int = 16,
    precision: str = "bf16-mixed",
    repeats: int = 3,
) -> dict[str, Any]:
    """Measures, prints and writes the figures.

    Args:
        out: the result file.
        model: the model, as `mnergraph ls` names it.
        shape: of the text encoder, a key of `benchmarks.recording.SHAPES`.
        posts: of a long run; one of a quarter is subtracted, so that starting does not count.
        batch_size: posts of a global batch.
        precision: Lightning's.
        repeats: runs of which the median counts.
    """
    torch.set_num_threads(1)
    found: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(repeats):
        for processes, rates in found.items():
            long, short = (
                seconds_of_a_run(model, shape, processes, number, batch_size, precision)
                for number in (posts, posts // 4)
            )
            rates.append((posts - posts // 4) / (long - short))
    one, two = (statistics.median(found[processes]) for processes in (1, 2))
    result = {
        "benchmark": "devices",
        "machine": machine(),
        "commit": commit(),
        "model": model,
        "encoder": shape,
        "precision": precision,
        "global batch": batch_size,
        "posts per second": {"one process": one, "two processes": two},
        "ratio": two / one,
    }
    print(json.dumps(result, indent=1))
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return result


if __name__ == "__main__":
    auto_cli(main)
