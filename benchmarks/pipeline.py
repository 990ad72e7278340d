"""Posts per second of `mnergraph.pipeline`, one by one and in batches, against the bare model.

    uv run python -m benchmarks.pipeline --out benchmarks/results/pipeline.json

The bare model gets the pairs made beforehand; the pipeline gets words and objects, and tells of every entity
its place and the object that supports it. Medians of several runs, timed in turns; random weights.
"""

from __future__ import annotations

import json
from pathlib import Path

from jsonargparse import auto_cli

import mnergraph
from benchmarks.common import LABELS, machine, random_encoder, some_posts, timed
from mnergraph.models import MODELS
from mnergraph.training.build import build_model

#: Width, layers and heads of the text encoder: all-MiniLM's and BERT-base's.
SHAPES = {"minilm": (384, 6, 12), "bert": (768, 12, 12)}


def main(
    out: Path | None = None,
    model: str = "UMGF",
    shape: str = "minilm",
    posts: int = 64,
    batch: int = 32,
    repeats: int = 5,
) -> None:
    """Measures, prints the figures, and writes them if asked.

    Args:
        out: the result file.
        model: the model, as `mnergraph ls` names it.
        shape: of the text encoder, minilm or bert.
        posts: how many are read in a run.
        batch: posts at once.
        repeats: how often each thing is timed.
    """
    tagger = build_model(MODELS[model], random_encoder(*SHAPES[shape]), LABELS, []).eval()
    pairs = some_posts(posts)
    reader = mnergraph.pipeline(tagger, batch_pieces=32 * batch)
    silent = mnergraph.pipeline(tagger, batch_pieces=32 * batch, return_boxes=False)

    def bare(size: int) -> None:
        for begin in range(0, posts, size):
            tagger.predict(pairs[begin : begin + size])

    def singly() -> None:
        for pair in pairs:
            reader(pair)

    seconds = timed(
        {
            "model, singly": lambda: bare(1),
            "pipeline, singly": singly,
            "model, batched": lambda: bare(batch),
            "pipeline, batched": lambda: reader(pairs),
            "pipeline without support, batched": lambda: silent(pairs),
        },
        repeats,
    )
    found: dict[str, object] = {f"{name}, posts/s": posts / value for name, value in seconds.items()}
    found["batched, share of the model"] = seconds["model, batched"] / seconds["pipeline, batched"]
    found |= {"model": model, "encoder": shape, "batch": batch, "machine": machine()}
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
