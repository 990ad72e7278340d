"""What context costs: a training step and a prediction with contexts of some lengths against none.

    uv run python -m benchmarks.context --out benchmarks/results/context_cost.json

Medians of several runs, timed in turns within this one run; random weights of the encoder's shape, one batch of posts
of Twitter's lengths whose contexts fill the budget.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.common import LABELS, machine, random_encoder, some_posts, timed
from benchmarks.recording import SHAPES
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.graph import Agreement, Context, collate
from mnergraph.models import MODELS, Tagger
from mnergraph.pair import ContextText, Pair
from mnergraph.training.build import build_model

#: Words of more pieces than any budget here: the tiny tokenizer spells words of unknown letters.
LONG = ContextText("knowledge", "bcd fgh " * 400)


def posts_with(count: int, budget: int) -> list[Pair]:
    """Return posts whose context fills a budget, 0 for none."""
    return [replace(post, context=(LONG,) * (budget > 0)) for post in some_posts(count)]


def model_for(name: str, shape: str, context: Context | None) -> Tagger:
    """Return the model with a random encoder of a shape, the same weights in every call."""
    torch.manual_seed(0)
    return build_model(MODELS[name], random_encoder(*SHAPES[shape]), LABELS, [], arguments={"context": context})


def calls(model: Tagger, pairs: Sequence[Pair], precision: str) -> dict[str, Callable[[], Any]]:
    """Return a training step without the optimizer, and a prediction, on one batch."""
    data = collate(model.builder.build_all(pairs))
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32

    def step() -> None:
        model.train().zero_grad()
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            loss = model.loss(model(data))
        loss.backward()

    def predict() -> None:
        with torch.autocast("cpu", dtype, enabled=dtype is not torch.float32):
            model.predict(pairs)

    return {"step": step, "prediction": predict}


def main(
    out: Path | None = None,
    model: str = "BERT-CRF",
    shape: str = "minilm",
    budgets: Sequence[int] = (0, 64, 160),
    batch: int = 16,
    precision: str = "bf16",
    repeats: int = 9,
) -> None:
    """Measure each budget, and 64 pieces with the agreement of both views; print the figures, and write them if asked.

    Args:
        out: the result file.
        model: the model, as `mnergraph ls` names them.
        shape: of the text encoder, minilm or bert.
        budgets: word pieces of context; 0 is the model without.
        batch: posts at once.
        precision: bf16 or fp32.
        repeats: how often each thing is timed.
    """
    disable_malloc_trim()
    things: dict[str, Callable[[], Any]] = {}
    for budget in budgets:
        tagger = model_for(model, shape, Context(budget=budget) if budget else None)
        for name, call in calls(tagger, posts_with(batch, budget), precision).items():
            things[f"{name}, {budget}"] = call
    agreeing = model_for(model, shape, Context(budget=64, agreement=Agreement()))
    things["step, 64 with agreement"] = calls(agreeing, posts_with(batch, 64), precision)["step"]
    seconds = timed(things, repeats)
    ratios = {name: value / seconds[f"{name.split(',')[0]}, {budgets[0]}"] for name, value in seconds.items()}
    found = {
        "model": model,
        "encoder": shape,
        "batch": batch,
        "precision": precision,
        "seconds": seconds,
        f"against {budgets[0]} pieces": ratios,
        "machine": machine(),
    }
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
