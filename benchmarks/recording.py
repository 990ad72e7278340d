"""What recording costs: a forward without it, with it, and after it, and the memory. Needs a quiet machine.

    uv run python -m benchmarks.recording --out benchmarks/results/recording.json

Medians of several runs, timed in turns within this one run; evaluation mode, random weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jsonargparse import auto_cli

from benchmarks.common import LABELS, allocated, random_encoder, some_posts, timed
from mnergraph.explain import record_attention
from mnergraph.graph import collate
from mnergraph.models import MODELS
from mnergraph.pair import Pair
from mnergraph.training.build import build_model

#: Width, layers and heads of the text encoder: all-MiniLM's and BERT-base's.
SHAPES = {"minilm": (384, 6, 12), "bert": (768, 12, 12)}
#: What posts carry, by the argument with which a model is told how wide it is.
WIDTHS = {"region_dim": 512, "image_dim": 512}


def seen_posts(count: int) -> list[Pair]:
    """The posts of `some_posts`, every object with a region vector, every picture with a grid of 7x7."""
    torch.manual_seed(0)
    posts = []
    for post in some_posts(count):
        objects = tuple(replace(thing, region=torch.randn(WIDTHS["region_dim"])) for thing in post.objects)
        posts.append(replace(post, objects=objects, image_features=torch.randn(49, WIDTHS["image_dim"])))
    return posts


def cost(name: str, shape: str, batch: int, repeats: int) -> dict[str, float]:
    """Seconds of one forward and MiB that it holds at most, recorded and not, and the size of the record."""
    posts = seen_posts(batch)
    model = build_model(MODELS[name], random_encoder(*SHAPES[shape]), LABELS, posts).eval()
    data = collate(model.builder.build_all(posts))

    @torch.inference_mode()
    def bare() -> None:
        model(data)

    def recorded() -> int:
        with record_attention(model) as record:
            bare()
        kept = [weights for call in record.calls for weights in call.captured]
        tensors = [x for found in kept for x in (found.values, found.index) if x is not None]
        return sum(x.numel() * x.element_size() for x in tensors)

    found = timed({"forward": bare, "recorded": recorded, "forward after a recording": bare}, repeats)
    return found | {
        "recorded / forward": found["recorded"] / found["forward"],
        "after / forward": found["forward after a recording"] / found["forward"],
        "forward MiB": allocated(bare),
        "recorded MiB": allocated(recorded),
        "record MiB": recorded() / 2**20,
    }


def main(
    out: Path | None = None,
    models: Sequence[str] = ("UMGF",),
    shape: str = "minilm",
    batch: int = 16,
    repeats: int = 15,
) -> None:
    """Measures each model, prints the figures, and writes them if asked.

    Args:
        out: the result file.
        models: the models, as `mnergraph ls` names them.
        shape: of the text encoder, minilm or bert.
        batch: posts at once.
        repeats: how often each thing is timed.
    """
    found: dict[str, object] = {name: cost(name, shape, batch, repeats) for name in models}
    found |= {"encoder": shape, "batch": batch, "threads": torch.get_num_threads()}
    text = json.dumps(found, indent=1)
    print(text)
    if out is not None:
        out.write_text(text + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
