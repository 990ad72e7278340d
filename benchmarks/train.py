r"""Trains a model on a benchmark over several seeds and writes one result file.

    uv run python benchmarks/train.py --data Twitter2017 --root DIR --model BERT-CRF --encoder DIR \
        --out benchmarks/results/x.json

The checkpoint is chosen on dev alone; test is touched once per seed. The file holds the scores of every seed,
lenient and strict, with versions, commit, checksums, time and machine.
"""

from __future__ import annotations

import json
import platform
import statistics
import subprocess
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
from jsonargparse import auto_cli

from mnergraph.data import DATASETS, Evidence, checksum
from mnergraph.features.backbone import pretrained
from mnergraph.labels import Labels
from mnergraph.models import MODELS
from mnergraph.training import Loop, Optimisation, evaluate, fit


def train(
    data: str,
    root: Path,
    model: str,
    encoder: Path,
    out: Path,
    captions: Path | None = None,
    seeds: tuple[int, ...] = (0, 1, 2),
    optimisation: Optimisation = Optimisation(),
    loop: Loop = Loop(),
    options: dict[str, Any] | None = None,
) -> None:
    """Trains over the seeds and writes the result.

    Args:
        data: Twitter2015 or Twitter2017.
        root: folder of the text.
        model: BERT, BERT-CRF or UMGF.
        encoder: folder of the text encoder, or its name on the hub.
        out: the result file.
        captions: captions.jsonl whose noun phrases become objects.
        seeds: one run each.
        optimisation: how weights learn.
        loop: how long and on what; its seed is replaced by each of the seeds.
        options: further arguments of the model.
    """
    evidence = Evidence(captions=captions)
    splits = {name: DATASETS[data](root, name, evidence=evidence) for name in ("train", "valid", "test")}
    labels = Labels(splits["train"].tags)
    result: dict[str, Any] = {
        "data": data,
        "model": model,
        "encoder": encoder.name,
        "captions": captions is not None,
        "optimisation": vars(optimisation),
        "loop": vars(loop),
        "options": options,
        "checksums": {name: checksum(posts.raw_paths[0]) for name, posts in splits.items()},
        "posts": {name: len(posts) for name, posts in splits.items()},
        "machine": machine(),
        "seeds": {},
    }
    for seed in seeds:
        began = time.perf_counter()
        lightning.seed_everything(seed, verbose=False)
        tagger = MODELS[model](pretrained(encoder), labels, **(options or {}))
        with tempfile.TemporaryDirectory() as folder:
            how = Loop(**{**vars(loop), "seed": seed})
            fit(
                tagger,
                splits["train"].pairs,
                splits["valid"].pairs,
                Path(folder),
                optimisation=optimisation,
                loop=how,
            )
        scores = {name: evaluate(tagger, splits[name].pairs, progress=False)[0] for name in ("valid", "test")}
        result["seeds"][seed] = {name: score.to_dict() for name, score in scores.items()}
        result["seeds"][seed]["seconds"] = round(time.perf_counter() - began, 1)
        result["test"] = summary([one["test"] for one in result["seeds"].values()])
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=1, default=str) + "\n")
        print(f"{data} {model} seed {seed}:\n{scores['test'].table()}", flush=True)


def summary(tests: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of the F1 over the seeds, lenient and strict."""
    found = {}
    for how in ("lenient", "strict"):
        values = [one[how]["f1"] for one in tests]
        found[how] = {
            "f1": statistics.mean(values),
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
    return found


def machine() -> dict[str, Any]:
    """Where and with what this ran."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, check=False
    )
    packages = ("torch", "torch-geometric", "transformers", "lightning")
    return {
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cpu capability": torch.backends.cpu.get_cpu_capability(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in packages},
        "commit": commit.stdout.strip(),
    }


if __name__ == "__main__":
    auto_cli(train, as_positional=False)
