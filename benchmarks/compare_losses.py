r"""Losses, tags and graphs of every system, variant and ablation under one seed, to compare two states of the code.

    uv run python -m benchmarks.compare_losses --out before.json      # on one commit
    uv run python -m benchmarks.compare_losses --against before.json  # on another: exit status 1 if they differ

Random posts, a tiny random encoder, five steps of AdamW in training mode, then tags of other posts in
evaluation mode. Losses and sums of scores are compared to ``--tolerance``; tags, names of relations and
checksums of edges to the letter.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.common import LABELS, WORDS, commit, some_posts
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.text.word_embeddings import random_vectors
from mnergraph.graph import collate
from mnergraph.models import MODELS, Tagger
from mnergraph.models.umt import UMTVariant
from mnergraph.pair import Pair
from mnergraph.training.build import build_model

REGION_FEATURES, IMAGE, SIZE = 12, 10, (90, 60)
STEPS, RATE = 5, 3e-3
#: Each model's settings where they are not the defaults: small, and with all that it can read.
SMALL: dict[str, dict[str, Any]] = {
    "BiLSTM-CRF": {"hidden_size": 8},
    "CNN-BiLSTM-CRF": {"hidden_size": 8, "char_dim": 6, "filters": 5},
    "HBiLSTM-CRF": {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3},
    "BERT": {},
    "BERT-CRF": {},
    "MT-BERT-CRF": {"num_heads": 4, "image_dim": IMAGE},
    "UMT": {"num_heads": 4, "image_dim": IMAGE},
    "GVATT": {
        "hidden_size": 8,
        "char_dim": 6,
        "char_hidden_size": 3,
        "query_size": 7,
        "attention_size": 9,
        "image_dim": IMAGE,
    },
    "AdaCAN": {"hidden_size": 8, "char_dim": 6, "filters": 5, "attention_size": 9, "image_dim": IMAGE},
    "OCSGA": {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3, "attention_dropout": 0.1},
    "Object-AGBAN": {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3, "region_dim": REGION_FEATURES},
    "MAF": {"num_heads": 4, "image_dim": IMAGE},
    "MGCMT": {"num_heads": 4, "image_dim": IMAGE, "nearest_words": True},
    "UMGF": {"hidden_size": 16, "num_heads": 4, "region_dim": REGION_FEATURES},
    "GEI": {"hidden_size": 16, "num_heads": 4, "num_layers": 2, "region_dim": REGION_FEATURES, "image_dim": IMAGE},
    "MRC-MNER": {"num_heads": 4, "region_dim": REGION_FEATURES},
    "HamLearning": {"num_heads": 4, "region_dim": REGION_FEATURES, "image_dim": IMAGE},
    "HVPNeT": {"region_dim": REGION_FEATURES, "image_dim": IMAGE, "bottleneck_size": 8},
}
#: What each run adds to these; a run without a name is the model as the paper has it.
RUNS: dict[str, dict[str, dict[str, Any]]] = {
    **{name: {"": {}} for name in SMALL},
    "BERT-CRF": {"": {}, "constrained": {"constrain": True}, "mean of pieces": {"pooling": "mean"}},
    "GVATT": {"": {}, "over words": {}},
    "AdaCAN": {"": {}, "over words": {}},
    "OCSGA": {"": {}, "over words": {}},
    "Object-AGBAN": {"": {}, "over words": {}, "two glimpses": {"num_glimpses": 2}},
    "UMT": {
        "": {},
        "w/o Conversion Matrix": {"ablate": ["w/o Conversion Matrix"]},
        "fixed matrix": {"variant": UMTVariant(conversion_matrix="fixed")},
        "w/o Image-Aware WR": {"ablate": ["w/o Image-Aware WR"]},
        "w/o Visual Gate": {"ablate": ["w/o Visual Gate"]},
        "released": {"variant": "released"},
        "released, w/o Image-Aware WR": {"variant": "released", "ablate": ["w/o Image-Aware WR"]},
        "released, w/o Visual Gate": {"variant": "released", "ablate": ["w/o Visual Gate"]},
    },
    "UMGF": {
        "": {},
        "w/o Tar.": {"ablate": ["w/o Tar."], "image_dim": IMAGE},
        "w/o VCorr.": {"ablate": ["w/o VCorr."]},
        "w/o Ind.": {"ablate": ["w/o Ind."]},
        "regions alone": {"label_features": False},
        "labels alone": {"region_dim": None},
        "released": {"variant": "released", "num_layers": 3},
        "released, regions alone": {"variant": "released", "num_layers": 3, "label_features": False},
    },
    "GEI": {
        "": {},
        "- Entity-level interaction": {"ablate": ["- Entity-level interaction"]},
        "- Span Detection": {"ablate": ["- Span Detection"]},
        "+ Image Region": {"ablate": ["+ Image Region"]},
        "no image": {"image_dim": None},
    },
    "MGCMT": {
        "": {},
        "w/o SemAug": {"ablate": ["w/o SemAug"]},
        "w/o TextObj": {"ablate": ["w/o TextObj"]},
        "w/o TextImg": {"ablate": ["w/o TextImg"]},
        "w/o ESD": {"ablate": ["w/o ESD"]},
        "w/o basic-level": {"ablate": ["w/o basic-level"]},
        "w/o super-level": {"ablate": ["w/o super-level"]},
        "w/o uni-text": {"ablate": ["w/o uni-text"]},
        "w/o uni-img": {"ablate": ["w/o uni-img"]},
        "w/o uni-obj": {"ablate": ["w/o uni-obj"]},
        "labels in free text": {"label_features": True},
        "released": {"variant": "released"},
        "released, w/o SemAug": {"variant": "released", "ablate": ["w/o SemAug"]},
        "released, w/o TextObj": {"variant": "released", "ablate": ["w/o TextObj"]},
        "released, w/o TextImg": {"variant": "released", "ablate": ["w/o TextImg"]},
        "released, w/o ESD": {"variant": "released", "ablate": ["w/o ESD"]},
        "released, w/o basic-level": {"variant": "released", "ablate": ["w/o basic-level"]},
        "released, w/o super-level": {"variant": "released", "ablate": ["w/o super-level"]},
    },
    "HamLearning": {
        "": {},
        "w/o RGCN": {"ablate": ["w/o RGCN"]},
        "w/o ViT": {"ablate": ["w/o ViT"]},
        "w/o RM": {"ablate": ["w/o RM"]},
        "L = 1": {"num_iterations": 1},
    },
    "HVPNeT": {
        "": {},
        "Flat": {"ablate": ["Flat"]},
        "1T3": {"ablate": ["1T3"]},
        "OnlyObj": {"ablate": ["OnlyObj"]},
        "released": {"variant": "released"},
    },
}


def posts(count: int, seed: int) -> list[Pair]:
    """Random posts with entities of several words, boxes inside one another, phrases; some lack evidence."""
    chance = random.Random(seed)
    found = []
    for pair in some_posts(count, seed, image=(4, IMAGE), region=REGION_FEATURES):
        tags = list(pair.labels or ())
        for place in range(1, len(tags)):
            if tags[place] == "O" and tags[place - 1] != "O" and chance.random() < 0.5:
                tags[place] = "I" + tags[place - 1][1:]
        objects = []
        for item in pair.objects:
            left, top = chance.randrange(60), chance.randrange(40)
            right, bottom = left + 10 + chance.randrange(20), top + 5 + chance.randrange(15)
            start = chance.randrange(len(pair.words))
            phrase = (start, min(len(pair.words), start + 2)) if chance.random() < 0.6 else None
            label = chance.choice(["person", "dog", "a soccer player", ""])
            box = (left, top, right, bottom) if chance.random() < 0.9 else None
            objects.append(replace(item, label=label, box=box, span=phrase))
        changes: dict[str, Any] = {"labels": tuple(tags), "objects": tuple(objects), "size": SIZE}
        lacking = chance.random()
        if lacking < 0.15:
            found.append(replace(pair, **changes).without_image())
        else:
            found.append(replace(pair, **changes))
    return found


def build(name: str, run: str) -> Tagger:
    """The model of a run, small and with the weights of seed 0."""
    torch.manual_seed(0)
    arguments = {**SMALL[name], **RUNS[name][run]}
    if arguments.get("nearest_words"):
        table = torch.randn(len(WORDS), 6, generator=torch.Generator().manual_seed(1))
        arguments["nearest_words"] = NearestWords.from_table(WORDS, table, WORDS, progress=False)
    over_words = "BiLSTM" in name or run == "over words"
    words = [word for pair in posts(24, 0) for word in pair.words]
    encoder = random_vectors(words, 10) if over_words else tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    return build_model(MODELS[name], encoder, LABELS, [], arguments=arguments)


def edges_of(model: Tagger, pairs: list[Pair]) -> dict[str, Any]:
    """For every relation of the posts' graphs, complete ones written out: edges and a checksum."""
    graphs = [model.schema.materialize(model.builder(replace(pair, labels=None))) for pair in pairs]
    found = {}
    for key in sorted(model.schema.metadata()[1]):
        digest = hashlib.sha256()
        count = 0
        for graph in graphs:
            store = graph[key]
            count += store.edge_index.shape[1]
            for kept in ("edge_index", "edge_type", "edge_attr"):
                values = store.get(kept)
                if isinstance(values, Tensor):
                    digest.update(repr(values.double().mul(1e4).round().long().tolist()).encode())
        found[", ".join(key)] = {"edges": count, "sha256": digest.hexdigest()[:16]}
    return found


def measured(name: str, run: str, train: list[Pair], dev: list[Pair]) -> dict[str, Any]:
    """Losses of the steps, tags and score sums of the dev posts, edges of their graphs."""
    model = build(name, run)
    edges = edges_of(model, dev)
    batches = [collate(model.builder.build_all(train[place::STEPS])) for place in range(STEPS)]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE)
    model.train()
    torch.manual_seed(0)
    losses = []
    for batch in batches:
        optimizer.zero_grad()
        loss = model.loss(model(batch))
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    model.eval()
    with torch.no_grad():
        graph = model(collate(model.builder.build_all(dev)))
        tags = model.decode_tags(graph)
        scores = {task: values.double().abs().mean().item() for task, values in graph.emissions.items()}
    return {
        "losses": losses,
        "scores": scores,
        "tags": [" ".join(row) for row in tags],
        "edges": edges,
        "parameters": sum(param.numel() for param in model.parameters()),
    }


def differences(before: Any, after: Any, tolerance: float, where: str = "") -> list[str]:
    """Where two results differ, a line each."""
    if isinstance(before, dict) and isinstance(after, dict):
        lines = [f"{where}: {key} is in one only" for key in before.keys() ^ after.keys()]
        for key in before.keys() & after.keys():
            lines += differences(before[key], after[key], tolerance, f"{where} / {key}" if where else key)
        return lines
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            line
            for place, (old, new) in enumerate(zip(before, after, strict=True))
            for line in differences(old, new, tolerance, f"{where}[{place}]")
        ]
    if isinstance(before, float) and isinstance(after, float):
        close = abs(before - after) <= tolerance * max(1.0, abs(before))
        return [] if close else [f"{where}: {before!r} before, {after!r} after"]
    return [] if before == after else [f"{where}: {before!r} before, {after!r} after"]


def largest_difference(before: Any, after: Any) -> float:
    """The largest relative difference of two numbers at the same place."""
    if isinstance(before, dict):
        return max((largest_difference(before[key], after[key]) for key in before), default=0.0)
    if isinstance(before, list):
        return max((largest_difference(*two) for two in zip(before, after, strict=True)), default=0.0)
    return abs(before - after) / max(1.0, abs(before)) if isinstance(before, float) else 0.0


def every(measure: Callable[..., dict[str, Any]] = measured) -> dict[str, Any]:
    """All runs by the name of system and run."""
    train, dev = posts(40, 0), posts(16, 1)
    return {f"{name} {run}".strip(): measure(name, run, train, dev) for name, runs in RUNS.items() for run in runs}


def main() -> None:
    """Reads the arguments, runs everything, writes or compares."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--against", type=Path, help="file of another state of the code to compare with")
    parser.add_argument("--tolerance", type=float, default=1e-6, help="relative, of losses and scores")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found = {"commit": commit(), "runs": every()}
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if arguments.against:
        before = json.loads(arguments.against.read_text(encoding="utf-8"))["runs"]
        lines = differences(before, found["runs"], arguments.tolerance)
        print("\n".join(lines[:50]))
        if lines:
            raise SystemExit(f"{len(lines)} differences in {len(before)} runs")
        print(f"{len(before)} runs are equal; largest difference {largest_difference(before, found['runs']):.1e}")


if __name__ == "__main__":
    main()
