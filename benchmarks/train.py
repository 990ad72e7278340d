r"""Trains one system over several seeds, as a settings file says, and writes one result file.

    uv run python -m benchmarks.train --settings benchmarks/settings/yu2020_umt_twitter2017.yaml --root DIR \
        --out benchmarks/results/x.json

The checkpoint is chosen on dev alone; test is touched once per seed. Every entry of the settings can be
overridden as an argument, or by a further ``--settings`` file. A result file that is there already, of the
same settings and posts, gets the seeds that it lacks; one of other settings is refused.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from benchmarks.building import build
from benchmarks.common import commit, machine
from benchmarks.experiment import Experiment, options, part
from benchmarks.posts import Files, Posts, load
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.metrics.scores import Scores, counts
from mnergraph.training import evaluate, fit


def train(
    experiment: Experiment,
    files: Files,
    out: Path,
    seeds: tuple[int, ...] = (0, 1, 2),
    ablation: str | None = None,
    word_vectors: Path | None = None,
    test_data: str | None = None,
    test: Files | None = None,
) -> dict[str, Any]:
    """Trains over the seeds and writes the result after each.

    Args:
        experiment: what is trained, how, and on what.
        files: where the data set lies.
        out: the result file.
        seeds: one run each.
        ablation: one of the experiment's ablations, by the paper's name.
        word_vectors: table in which similar words are looked up, where the experiment asks for them.
        test_data: another data set to test on (cross-domain); dev stays that of the training data. OTHER of
            Twitter-2015 and MISC of Twitter-2017 count as the same type.
        test: where that one lies.

    Returns:
        what the result file holds.
    """
    if ablation is not None:
        experiment = experiment.without(ablation)
    posts = load(experiment, files, test_data=test_data, test=test)
    result = _begun(
        out,
        {
            "benchmark": "train",
            "system": experiment.system,
            "model": experiment.model,
            "data": experiment.data,
            "test data": test_data or experiment.data,
            "experiment": _settings(experiment),
            "word vectors": None if word_vectors is None else word_vectors.name,
            "checksums": posts.checksums,
            "posts": {name: len(pairs) for name, pairs in posts.splits.items()},
            "evidence": posts.evidence,
        },
    )
    for seed in seeds:
        if str(seed) not in result["seeds"]:
            result["seeds"][str(seed)] = one_run(experiment, posts, seed, word_vectors)
            result["test"] = summary([run["test"] for run in result["seeds"].values()])
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(json.dumps(result, indent=1, default=str) + "\n", encoding="utf-8")
    return result


def one_run(experiment: Experiment, posts: Posts, seed: int, word_vectors: Path | None = None) -> dict[str, Any]:
    """Trains with one seed; scores on dev and test, and the entities of every test post."""
    began = time.perf_counter()
    splits, trainer = posts.splits, replace(experiment.trainer, seed=seed)
    lightning.seed_everything(seed, verbose=False)
    model = build(experiment, splits, posts.labels, word_vectors=word_vectors, cache=posts.cache)
    with tempfile.TemporaryDirectory() as folder:
        fit(model, splits["train"], splits["valid"], Path(folder), optimizer=experiment.optimizer, trainer=trainer)
    trained = time.perf_counter()
    if torch.cuda.is_available() and trainer.accelerator != "cpu":
        model.to("cuda")
    found: dict[str, Scores] = {}
    for name in ("valid", "test"):
        found[name], tags = evaluate(model, splits[name], progress=trainer.progress)
    right, predicted, gold = counts([pair.labels or () for pair in splits["test"]], tags).T
    print(f"{experiment.data} {experiment.system} seed {seed}:\n{found['test'].table()}", flush=True)
    return {
        **{name: scores.to_dict() for name, scores in found.items()},
        # a line each: `mnergraph.metrics.significance` compares systems post by post
        "entities by test post": {"right": _line(right), "predicted": _line(predicted), "gold": _line(gold)},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training seconds": round(trained - began, 1),
        "seconds": round(time.perf_counter() - began, 1),
        "machine": machine(),
        "commit": commit(),
    }


def summary(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Means of precision, recall, F1 and every type's F1 over the seeds, and F1's deviation."""
    found = {}
    for how in ("lenient", "strict"):
        values = [one[how]["f1"] for one in tests]
        types = sorted({kind for one in tests for kind in one[f"{how}_by_type"]})
        found[how] = {
            **{name: statistics.mean(one[how][name] for one in tests) for name in ("precision", "recall", "f1")},
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "types": {
                kind: statistics.mean(one[f"{how}_by_type"].get(kind, {"f1": 0.0})["f1"] for one in tests)
                for kind in types
            },
        }
    return found


def _settings(experiment: Experiment) -> dict[str, Any]:
    """What of an experiment can change a score, as plain data."""
    kept = json.loads(json.dumps(asdict(experiment)))
    for name in ("source", "reported", "transferred", "ablations"):
        del kept[name]
    for name in ("seed", "progress", "logger", "save_every", "workers"):
        del kept["trainer"][name]
    return kept


def _begun(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """The result so far: nothing but the facts, or a file of the same facts with the seeds it has.

    Raises:
        FileExistsError: when there is a file of other facts, naming those that differ.
    """
    if not out.is_file():
        return {**facts, "seeds": {}}
    there = json.loads(out.read_text(encoding="utf-8"))
    other = [name for name, value in facts.items() if there.get(name) != value]
    if other:
        raise FileExistsError(f"{out} is a result with another {', '.join(other)}; give another --out")
    return there


def _line(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Reads settings and arguments, and trains."""
    disable_malloc_trim()
    parser = options()
    parser.add_class_arguments(Files)
    rest = parser.add_function_arguments(train, skip={"experiment", "files"})
    made = vars(parser.instantiate(parser.parse_args(arguments)))
    train(part(Experiment, made), part(Files, made), **{name: made[name] for name in rest})


if __name__ == "__main__":
    main()
