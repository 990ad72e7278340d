"""Speed of the parts: message passing, building and collating, the whole UMGF step. Needs a quiet machine.

    uv run python -m benchmarks.operators --out benchmarks/results/operators.json

Medians of several runs; every ratio compares two things timed in turns within this one run.
"""

from __future__ import annotations

import gc
import json
import resource
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch import Tensor, nn
from torch_geometric.data import Batch, HeteroData
from torch_geometric.nn import RGCNConv, TransformerConv

from benchmarks.common import LABELS, WORDS, allocated, flops, random_encoder, some_posts, timed
from benchmarks.steps import training_calls
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import Complete, Edges, GraphBuilder, Grounded, Layout, Objects, Relation, Schema, Tokens, collate
from mnergraph.graph.box_geometry import SPATIAL_LABELS, spatial_edges
from mnergraph.models import UMGF
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.conv.rgcn import RelationalConvolution
from mnergraph.nn.heads.crf import CRF


def complete_relation(words: int, repeats: int) -> dict[str, float]:
    """16 sentences of about so many words, width 512, 8 heads: dense attention against TransformerConv."""
    torch.manual_seed(0)
    counts = torch.randint(int(words * 0.75), int(words * 1.25) + 1, (16,))
    layout = Layout(torch.cat([torch.zeros(1, dtype=torch.long), counts.cumsum(0)]))
    index = Edges(layout, layout).index
    x = torch.randn(layout.num_nodes, 512, requires_grad=True)
    ours, theirs = RelationAttention(512, 8), TransformerConv(512, 64, heads=8, root_weight=False)
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
            # both pay for the linear maps, so this is the most that any operator with them could reach
            "times faster if the projections were all": found["message passing"] / found["projections"],
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
        torch.randn(words.num_nodes, 512, requires_grad=True),
        torch.randn(objects.num_nodes, 512, requires_grad=True),
    )
    gate = GatedSum(512)

    def run(reading: str) -> Callable[[], None]:
        return lambda: gate(o, x, Edges(objects, words, kept, layout=reading)).sum().backward()

    return timed({"dense": run("dense"), "sparse": run("sparse")}, repeats)


def spatial_convolution(graphs: int, repeats: int) -> dict[str, float]:
    """R-GCN over 17 boxes in each graph, their eleven spatial labels, width 512: ours against RGCNConv."""
    torch.manual_seed(0)
    layout, labels = Layout(torch.arange(graphs + 1) * 17), len(SPATIAL_LABELS)
    corners = torch.rand(layout.num_nodes, 2, 2) * 300
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1).split(17)
    found = [spatial_edges(some, some, (300, 300), same=True) for some in boxes]
    index = torch.cat([edges + 17 * place for place, (edges, _, _) in enumerate(found)], 1)
    kinds = torch.cat([kind for _, kind, _ in found])
    x = torch.randn(layout.num_nodes, 512, requires_grad=True)
    ours = RelationalConvolution(512, labels)
    theirs = RGCNConv(512, 512, labels, aggr="add", root_weight=False)
    seconds = timed(
        {
            "ours": lambda: ours(x, x, Edges(layout, layout, index, type=kinds)).sum().backward(),
            "RGCNConv": lambda: theirs(x, index, kinds).sum().backward(),
        },
        repeats,
    )
    return seconds | {
        "edges per receiver": index.shape[1] / layout.num_nodes,
        "times faster": seconds["RGCNConv"] / seconds["ours"],
    }


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


def building(repeats: int) -> dict[str, float]:
    """Graphs per second and core: built (words already known to the tokenizer), and collated by 16."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    complete = Schema([Relation("token", "a", "token", Complete()), Relation("object", "a", "object", Complete())])
    grounded = Schema([Relation("object", "g", "token", Grounded()), Relation("token", "g", "object", Grounded())])
    posts, tokenizer = some_posts(2000), tiny_encoder(WORDS).tokenizer
    found = {}
    for name, schema in (("tokens and objects", complete), ("UMGF", complete | grounded)):
        builder = GraphBuilder(schema, [Tokens(tokenizer, LABELS), Objects(tokenizer)])

        def build(builder: GraphBuilder = builder) -> list[Any]:
            return builder.build_all(posts)

        def collated(graphs: Sequence[HeteroData]) -> list[Batch]:
            return [collate(graphs[i : i + 16]) for i in range(0, 2000, 16)]

        graphs = build()
        gc.collect()
        gc.freeze()
        seconds = timed({"build": build, "collate": partial(collated, graphs)}, repeats)
        gc.unfreeze()
        found[f"{name}: built per second"] = 2000 / seconds["build"]
        found[f"{name}: collated per second"] = 2000 / seconds["collate"]
        found[f"{name}: built and collated per second"] = 2000 / sum(seconds.values())
    torch.set_num_threads(threads)
    return found


def whole_step(width: int, layers: int, heads: int, repeats: int) -> dict[str, float]:
    """Floating-point rate of UMGF's training step against its encoder's alone, the same 16 posts."""
    torch.manual_seed(0)
    model = UMGF(random_encoder(width, layers, heads), LABELS)
    calls = training_calls(model, [collate(model.builder.build_all(some_posts(16)))])
    steps = {name: calls[name] for name in ("step", "encoder")}
    operations = {name: flops(call) for name, call in steps.items()}
    seconds = timed(steps, repeats)
    rate = {name: operations[name] / seconds[name] / 1e9 for name in steps}
    return {
        "step seconds": seconds["step"],
        "encoder seconds": seconds["encoder"],
        "step GFLOP/s": rate["step"],
        "encoder GFLOP/s": rate["encoder"],
        "share of the encoder's rate": rate["step"] / rate["encoder"],
    }


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
        "R-GCN, 32 graphs": spatial_convolution(32, repeats),
        "R-GCN, 4 graphs": spatial_convolution(4, repeats),
        "crf 16 x 32": crf(16, 32, repeats),
        "crf 32 x 128": crf(32, 128, repeats),
        "building": building(repeats),
        "UMGF step, MiniLM shape": whole_step(384, 6, 12, repeats),
        "UMGF step, BERT-base shape": whole_step(768, 12, 12, max(3, repeats // 3)),
    }
    found["threads"] = torch.get_num_threads()
    found["cpu capability"] = torch.backends.cpu.get_cpu_capability()
    found["peak MiB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    text = json.dumps(found, indent=1, default=lambda value: value.item() if isinstance(value, Tensor) else str(value))
    print(text)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text + "\n")


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
