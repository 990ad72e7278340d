"""What a grounding head costs: a training step and a prediction with it against those without.

    uv run python -m benchmarks.grounding_cost --out benchmarks/results/grounding_cost.json

CPU seconds of this process on one thread, in turns, and of the quotients of each turn the median, as in `step_parts`.
Posts are made up, of Twitter's lengths, with objects and gold boxes; text encoders are random, of BERT-base's shape.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.common import commit, machine, write_result
from benchmarks.experiment import SETTINGS
from benchmarks.speed import chosen, model_for, posts_for, twitter_lengths
from benchmarks.steps import Call, Precision, in_turns, prediction_calls, training_calls
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.labels import tags_to_spans
from mnergraph.models import Tagger
from mnergraph.nn import Grounding
from mnergraph.pair import Box, GroundedEntity, Pair
from mnergraph.training import GraphLoader

SYSTEMS = ("BERT-CRF", "UMT", "UMGF", "GEI", "HamLearning")
#: With the types' layer and the most that the head can do.
GROUNDING = Grounding(types="regions")


def grounded(posts: Sequence[Pair]) -> list[Pair]:
    """Return posts with gold boxes: each entity is shown by an object, or by none, in turns."""
    found = []
    for pair in posts:
        choices: list[tuple[Box, ...]] = [(), *((item.box,) for item in pair.objects if item.box is not None)]
        spans = tags_to_spans(pair.labels or ())
        boxes = (choices[number % len(choices)] for number in range(1, len(spans) + 1))
        entities = tuple(GroundedEntity(*span, each) for span, each in zip(spans, boxes, strict=True))
        found.append(replace(pair, grounding=entities))
    return found


def calls(model: Tagger, posts: Sequence[Pair], batch_size: int, precision: Precision) -> dict[str, Call]:
    """Return a training step and a prediction of one batch."""
    batches = list(GraphLoader(model.builder.build_all(posts), batch_size, shuffle=True))
    predicting = prediction_calls(model, batches, precision)
    return {"step": training_calls(model, batches, precision)["step"], "prediction": predicting["predict"]}


def main(
    out: Path | None = None,
    systems: tuple[str, ...] = SYSTEMS,
    settings: Path = SETTINGS,
    width: int = 768,
    layers: int = 12,
    heads: int = 12,
    precisions: tuple[Precision, ...] = ("fp32", "bf16"),
    batch_size: int = 16,
    repeats: int = 7,
) -> dict[str, Any]:
    """Measure the systems, print a line each, and write all if asked.

    Args:
        out: the result file, written after each system.
        systems: which.
        settings: folder of the settings files.
        width: of the encoders.
        layers: of the encoders.
        heads: of the encoders.
        precisions: fp32, bf16 (autocast) or both.
        batch_size: posts of the one batch.
        repeats: turns of which the median counts.
    """
    torch.set_num_threads(1)
    result: dict[str, Any] = {
        "benchmark": "grounding_cost",
        "machine": machine(),
        "commit": commit(),
        "batch size": batch_size,
        "repeats": repeats,
        "systems": {},
    }
    for experiment in chosen(settings, systems):
        posts = grounded(posts_for(experiment, batch_size, twitter_lengths()))
        found = result["systems"][experiment.system] = {}
        for precision in precisions:
            both = []
            for arguments in ({"grounding": vars(GROUNDING)}, {}):
                torch.manual_seed(0)
                one = replace(experiment, arguments=experiment.arguments | arguments)
                both.append(calls(model_for(one, posts, (width, layers, heads)), posts, batch_size, precision))
            for what in ("step", "prediction"):
                measured = found[f"{what}, {precision}"] = in_turns(both[0][what], both[1][what], repeats)
                low, high = measured["lowest and highest"]
                print(f"{experiment.system}, {what}, {precision}: {measured['ratio']:.3f} ({low:.3f} to {high:.3f})")
        if out is not None:
            write_result(result, out)
    return result


if __name__ == "__main__":
    disable_malloc_trim()
    auto_cli(main, as_positional=False)
