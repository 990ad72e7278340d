"""Speed of the parts: message passing, building and collating, the whole UMGF step. Needs a quiet machine.

    uv run python benchmarks/operators.py --out results/operators.json

Medians of several runs; every ratio compares two things timed in turns within this one run.
"""

from __future__ import annotations

import gc
import json
import random
import resource
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from torch_geometric.nn import TransformerConv
from transformers import BertConfig, BertModel

from mnergraph.features.backbone import Backbone, tiny
from mnergraph.graph import (
    Complete,
    Edges,
    GraphBuilder,
    Grounded,
    Layout,
    Object,
    Pair,
    Relation,
    Schema,
    collate,
)
from mnergraph.labels import Labels
from mnergraph.models import UMGF
from mnergraph.nn.attention import Attention
from mnergraph.nn.crf import CRF
from mnergraph.nn.gates import GatedSum

LABELS = Labels.of_types(["LOC", "MISC", "ORG", "PER"])
WORDS = ["paris", "the", "march", "in", "concert", "tonight", "new", "people", "love", "photo"]


def timed(things: dict[str, Callable[[], Any]], repeats: int) -> dict[str, float]:
    """Median seconds of each, taken in turns after two calls to warm up."""
    for call in things.values():
        call(), call()
    seconds: dict[str, list[float]] = {name: [] for name in things}
    for _ in range(repeats):
        for name, call in things.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def allocated(call: Callable[[], Any]) -> float:
    """MiB that a call holds at most, by the profiler's count of allocations."""
    with torch.profiler.profile(profile_memory=True) as profile:
        call()
    held = most = 0
    for event in sorted(profile.profiler.kineto_results.events(), key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most / 2**20


def complete_relation(words: int, repeats: int) -> dict[str, float]:
    """16 sentences of about so many words, width 512, 8 heads: dense attention against TransformerConv."""
    torch.manual_seed(0)
    counts = torch.randint(int(words * 0.75), int(words * 1.25) + 1, (16,))
    layout = Layout(torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]))
    index = Edges(layout, layout).index
    x = torch.randn(layout.nodes, 512, requires_grad=True)
    ours, theirs = Attention(512, 8), TransformerConv(512, 64, heads=8, root_weight=False)
    output = nn.Linear(512, 512)

    def dense() -> None:
        ours(x, x, Edges(layout, layout)).sum().backward()

    def passed() -> None:
        output(theirs(x, index)).sum().backward()

    def projections() -> None:
        (ours.query(x) + ours.key(x) + ours.value(x) + ours.output(x)).sum().backward()

    found = timed({"dense": dense, "message passing": passed, "projections": projections}, repeats)
    memory = {"dense MiB": allocated(dense), "message passing MiB": allocated(passed)}
    return (
        found
        | memory
        | {
            "times faster": found["message passing"] / found["dense"],
            "times less memory": memory["message passing MiB"] / memory["dense MiB"],
        }
    )


def gated_sum(share: float, repeats: int) -> dict[str, float]:
    """UMGF's gated sum, 16 sentences of 48 words and 5 objects, width 512, this share of the pairs joined."""
    torch.manual_seed(0)
    words, objects = (Layout(torch.arange(17) * count) for count in (48, 5))
    index = Edges(objects, words).index
    kept = index[:, torch.rand(index.shape[1]) < share]
    x, o = (
        torch.randn(words.nodes, 512, requires_grad=True),
        torch.randn(objects.nodes, 512, requires_grad=True),
    )
    gate = GatedSum(512)

    def run(reading: str) -> Callable[[], None]:
        return lambda: gate(x, o, Edges(objects, words, kept, reading=reading)).sum().backward()

    return timed({"dense": run("dense"), "sparse": run("sparse")}, repeats)


def crf(sentences: int, slots: int, repeats: int) -> dict[str, float]:
    """Our CRF against pytorch-crf: loss with gradients, and decoding."""
    import torchcrf

    torch.manual_seed(0)
    ours, theirs = CRF(LABELS.tags), torchcrf.CRF(len(LABELS), batch_first=True)
    emissions = torch.randn(sentences, slots, len(LABELS), requires_grad=True)
    tags = torch.randint(len(LABELS), (sentences, slots))
    mask = torch.arange(slots) < torch.randint(slots // 2, slots + 1, (sentences, 1))
    mask[0] = True
    found = timed(
        {
            "loss": lambda: ours(emissions, tags, mask).sum().backward(),
            "pytorch-crf loss": lambda: theirs(emissions, tags, mask).backward(),
            "decode": lambda: ours.decode(emissions, mask),
            "pytorch-crf decode": lambda: theirs.decode(emissions, mask),
        },
        repeats,
    )
    return found | {
        "loss times faster": found["pytorch-crf loss"] / found["loss"],
        "decode times faster": found["pytorch-crf decode"] / found["decode"],
    }


def some_posts(count: int, seed: int = 0) -> list[Pair]:
    """Posts of Twitter-2015's shape: 16 words of 3 pieces on average, with up to 5 objects."""
    chance = random.Random(seed)
    posts = []
    for place in range(count):
        # the tiny tokenizer spells what it does not know, so a word has as many pieces as letters
        lengths = chance.choices(range(1, 6), k=chance.randint(4, 28))
        words = tuple("".join(chance.choices("bcdfgh", k=length)) for length in lengths)
        objects = tuple(
            Object(chance.choice(["person", "dog", "traffic light"]), (0.0, 0.0, 9.0, 9.0))
            for _ in range(chance.randint(0, 5))
        )
        posts.append(Pair(words, tuple(["O"] * len(words)), str(place), objects=objects, size=(10, 10)))
    return posts


def building(repeats: int) -> dict[str, float]:
    """Graphs per second and core: built (words already known to the tokenizer), and collated by 16."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    complete = Schema(
        [Relation("token", "a", "token", Complete()), Relation("object", "a", "object", Complete())]
    )
    grounded = Schema(
        [Relation("object", "g", "token", Grounded()), Relation("token", "g", "object", Grounded())]
    )
    posts = some_posts(2000)
    found = {}
    for name, schema in (("tokens and objects", complete), ("UMGF", complete | grounded)):
        builder = GraphBuilder(schema, tokenizer=tiny(WORDS).pieces, labels=LABELS)

        def build(builder: GraphBuilder = builder) -> list[Any]:
            return builder.build(posts)

        graphs = build()
        gc.collect()
        gc.freeze()
        seconds = timed(
            {
                "build": build,
                "collate": lambda graphs=graphs: [collate(graphs[i : i + 16]) for i in range(0, 2000, 16)],
            },
            repeats,
        )
        found[f"{name}: built per second"] = 2000 / seconds["build"]
        found[f"{name}: collated per second"] = 2000 / seconds["collate"]
        found[f"{name}: built and collated per second"] = 2000 / sum(seconds.values())
    torch.set_num_threads(threads)
    return found


def random_bert(width: int, layers: int, heads: int) -> Backbone:
    """A randomly initialised encoder of this shape, with BERT's vocabulary in size and a tiny tokenizer."""
    config = BertConfig(
        vocab_size=30522,
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        intermediate_size=4 * width,
    )
    return Backbone(BertModel(config, add_pooling_layer=False), tiny(WORDS).pieces, "random")


def whole_step(width: int, layers: int, heads: int, repeats: int) -> dict[str, float]:
    """Floating-point rate of UMGF's training step against its encoder's alone, the same 16 posts."""
    torch.manual_seed(0)
    encoder = random_bert(width, layers, heads)
    model = UMGF(encoder, LABELS)
    batch = collate(model.builder.build(some_posts(16)))
    layout = Layout(batch["piece"].ptr)
    ids, mask = layout.pad(batch["piece"].input_ids), layout.mask.long()
    ours = torch.optim.AdamW(model.parameters(), 1e-5, fused=True)
    theirs = torch.optim.AdamW(encoder.model.parameters(), 1e-5, fused=True)

    def forward_backward() -> None:
        model.loss(model(batch)).backward()

    def encoder_forward_backward() -> None:
        encoder.model(input_ids=ids, attention_mask=mask).last_hidden_state.sum().backward()

    def stepped(call: Callable[[], None], optimiser: torch.optim.Optimizer) -> Callable[[], None]:
        def step() -> None:
            call()
            optimiser.step()
            optimiser.zero_grad()

        return step

    flops = {"step": _flops(forward_backward), "encoder": _flops(encoder_forward_backward)}
    seconds = timed(
        {"step": stepped(forward_backward, ours), "encoder": stepped(encoder_forward_backward, theirs)},
        repeats,
    )
    rate = {name: flops[name] / seconds[name] / 1e9 for name in flops}
    return {
        "step seconds": seconds["step"],
        "encoder seconds": seconds["encoder"],
        "step GFLOP/s": rate["step"],
        "encoder GFLOP/s": rate["encoder"],
        "share of the encoder's rate": rate["step"] / rate["encoder"],
    }


def _flops(call: Callable[[], None]) -> int:
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()


def main(out: Path | None = None, repeats: int = 9) -> None:
    """Measures all of it, prints it, and writes it if asked.

    Args:
        out: the result file.
        repeats: how often each thing is timed.
    """
    found: dict[str, Any] = {
        "complete relation, 32 words": complete_relation(32, repeats),
        "complete relation, 128 words": complete_relation(128, max(3, repeats // 3)),
        "gated sum, 10% joined": gated_sum(0.1, repeats),
        "gated sum, all joined": gated_sum(1.0, repeats),
        "crf 16 x 32": crf(16, 32, repeats),
        "crf 32 x 128": crf(32, 128, repeats),
        "building": building(repeats),
        "UMGF step, MiniLM shape": whole_step(384, 6, 12, repeats),
        "UMGF step, BERT-base shape": whole_step(768, 12, 12, max(3, repeats // 3)),
    }
    found["threads"] = torch.get_num_threads()
    found["cpu capability"] = torch.backends.cpu.get_cpu_capability()
    found["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = json.dumps(
        found, indent=1, default=lambda value: value.item() if isinstance(value, Tensor) else str(value)
    )
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
