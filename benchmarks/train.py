r"""Train one system over several seeds, as a settings file describes it, and write one result file.

    uv run python -m benchmarks.train --settings benchmarks/settings/yu2020_umt_twitter2017.yaml --root DIR \
        --out benchmarks/results/x.json

The checkpoint is selected by dev F1; test is scored once per seed. Every entry of the settings can be overridden
as an argument, or by a further ``--settings`` file. An existing result file of the same settings and posts gets the
seeds that it lacks; one of other settings is refused.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import torch

from benchmarks.building import build
from benchmarks.common import commit, encoder_name, machine, run_command
from benchmarks.experiment import Experiment, options, part
from benchmarks.grounded_pictures import NOTE
from benchmarks.posts import Files, Posts, available, compute_features, load
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data.evidence import with_context
from mnergraph.data.missing_evidence import describe_missing, require_evidence
from mnergraph.files import write_atomically
from mnergraph.graph.context import count_trimmed, describe_trimmed
from mnergraph.metrics.scores import Scores, counts
from mnergraph.models import EVG, Tagger
from mnergraph.pair import Pair
from mnergraph.training import evaluate, fit
from mnergraph.training.build import build_model, text_encoder
from mnergraph.training.checkpoints import has_checkpoint
from mnergraph.training.evaluate import evaluate_grounding
from mnergraph.training.label_sets import warn_of_unknown_types

#: What to do about types that only dev or test has.
_TYPES = "--data_options '{mapping: {OTHER: MISC}}' renames types"


def train(
    experiment: Experiment,
    files: Files,
    out: Path,
    seeds: tuple[int, ...] = (0, 1, 2),
    ablation: str | None = None,
    word_vectors: Path | None = None,
    test_data: str | None = None,
    test: Files | None = None,
    keep_models: Path | None = None,
    work: Path | None = None,
) -> dict[str, Any]:
    """Train over the seeds, write the result after each, and return it.

    Args:
        experiment: the system, its training and its data set.
        files: the files of the data set.
        out: the result file.
        seeds: those of the runs.
        ablation: one of the experiment's ablations, by the paper's name.
        word_vectors: table in which nearest words are looked up, where the experiment asks for them.
        test_data: another data set to test on (cross-domain); dev stays that of the training data. OTHER of
            Twitter-2015 and MISC of Twitter-2017 count as the same type.
        test: the files of that one.
        keep_models: folder for the trained models, one folder for each seed; without it they are deleted.
        work: folder of the checkpoints, in which a killed run of the same settings and posts continues; without it a
            run starts anew.

    Returns:
        the content of the result file.

    Raises:
        MissingEvidenceError: when no post of a split has evidence of a kind that the model reads.
    """
    if ablation is not None:
        experiment = experiment.without(ablation)
    posts = load(experiment, files, test_data=test_data, test=test)
    probe = probe_for(experiment, posts, word_vectors)
    missing = check(experiment, posts, probe)
    posts = compute_features(experiment, posts)
    # figures on generated pictures are not those of the data set
    data = experiment.data + (", generated pictures" if (files.root / NOTE).is_file() else "")
    facts = {
        "benchmark": "train",
        "system": experiment.system,
        "model": experiment.model,
        "data": data,
        "test data": test_data or data,
        "experiment": _settings(experiment),
        "word vectors": None if word_vectors is None else word_vectors.name,
        "checksums": posts.checksums,
        "posts": {name: len(pairs) for name, pairs in posts.splits.items()},
        "evidence": posts.evidence,
        "stores": json.loads(json.dumps(posts.processor.config.stores)),
        "posts without evidence": missing,
    }
    if trimmed := left_out(probe, posts):
        facts["context left out"] = trimmed
    digest = hashlib.sha256(json.dumps(facts, default=str).encode()).hexdigest()[:10]
    result = _begun(out, facts)
    for seed in seeds:
        if str(seed) not in result["seeds"]:
            keep = keep_models and keep_models / f"seed{seed}"
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(temporary) if work is None else work / digest / f"seed{seed}"
                result["seeds"][str(seed)] = one_run(experiment, posts, seed, folder, word_vectors, keep=keep)
            runs = [*result["seeds"].values()]
            result["test"] = summary([run["test"] for run in runs])
            if all("grounding" in run for run in runs):
                result["grounding"] = grounding_summary([run["grounding"] for run in runs])
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, (json.dumps(result, indent=1, default=str) + "\n").encode())
            if work is not None:
                shutil.rmtree(folder)
    return result


def probe_for(experiment: Experiment, posts: Posts, word_vectors: Path | None = None) -> Tagger:
    """Return the experiment's model, which is only asked for what it reads; the random state is unchanged."""
    with torch.random.fork_rng(devices=[]):
        return build_for(experiment, posts, word_vectors, probe=True)


def check(experiment: Experiment, posts: Posts, model: Tagger) -> dict[str, dict[str, int]]:
    """Return how many posts of every split lack evidence of each kind that the experiment's model reads.

    Raises:
        MissingEvidenceError: when no post of a split has evidence of a kind, with how to get it.
    """
    warn_of_unknown_types(posts.labels, posts.splits, advice=_TYPES)
    missing = require_evidence(
        model.builder,
        posts.splits,
        available=partial(available, experiment, posts),
        allow_missing=experiment.allow_missing,
    )
    for name, kinds in missing.items():
        for line in describe_missing(kinds, len(posts.splits[name])):
            print(f"{name}: {line}", flush=True)
    return {name: {kind: len(ids) for kind, ids in kinds.items()} for name, kinds in missing.items()}


def left_out(model: Tagger, posts: Posts) -> dict[str, dict[str, int]]:
    """Return and print how much of every split's context the model leaves out; nothing for a model without context."""
    found = {}
    for name, pairs in posts.splits.items():
        if trimmed := count_trimmed(model.builder.node_types.values(), pairs):
            print(f"{name}: {describe_trimmed(trimmed, len(pairs))}", flush=True)
            found[name] = trimmed._asdict()
    return found


def build_for(experiment: Experiment, posts: Posts, word_vectors: Path | None, *, probe: bool = False) -> Tagger:
    """Return the experiment's model for the posts, see `build`."""
    return build(
        experiment,
        posts.splits,
        posts.labels,
        regions=posts.processor.regions,
        word_vectors=word_vectors,
        cache=posts.cache,
        probe=probe,
    )


def one_run(
    experiment: Experiment,
    posts: Posts,
    seed: int,
    folder: Path,
    word_vectors: Path | None = None,
    *,
    keep: Path | None = None,
) -> dict[str, Any]:
    """Train with one seed; return scores on dev and test, and the entities of every test post.

    Args:
        experiment: the system and its training.
        posts: the posts with all their features.
        seed: the seed.
        folder: folder of the checkpoints; a run that was killed there continues.
        word_vectors: table of word vectors, if the experiment asks for nearest words.
        keep: folder for the trained model; None to delete it.
    """
    start = time.perf_counter()
    splits, trainer = posts.splits, replace(experiment.trainer, seed=seed)
    lightning.seed_everything(seed, verbose=False)
    model = build_for(experiment, posts, word_vectors)
    resume = has_checkpoint(folder / "checkpoints")
    fit(model, splits["train"], splits["valid"], folder, optimizer=experiment.optimizer, trainer=trainer, resume=resume)
    evg = None if experiment.grounder is None else train_grounder(experiment, posts, seed, folder / "grounder")
    trained = time.perf_counter()
    if torch.cuda.is_available() and trainer.accelerator != "cpu":
        model.to("cuda")
        if evg is not None:
            evg.to("cuda")
    scores: dict[str, Scores] = {}
    for name in ("valid", "test"):
        scores[name], tags = evaluate(model, splits[name], progress=trainer.progress)
    changed = {
        name: evaluate(model, pairs, progress=trainer.progress)[0].to_dict()
        for name, pairs in other_contexts(model, splits["test"]).items()
    }
    grounding = None
    if evg is not None or model.grounding_head is not None:
        ground = None if evg is None else evg.ground
        grounding, _ = evaluate_grounding(model, splits["test"], ground=ground, progress=trainer.progress)
        print(grounding.table(), flush=True)
    right, predicted, gold = counts([pair.labels or () for pair in splits["test"]], tags).T
    print(f"{experiment.data} {experiment.system} seed {seed}:\n{scores['test'].table()}", flush=True)
    if keep is not None:
        model.metadata = {
            "data": {"name": experiment.data, "sha256": posts.checksums},
            "scores": {name: split.to_dict() for name, split in scores.items()},
            "tables": {name: split.table() for name, split in scores.items()},
        }
        model.processor_config = posts.processor.config
        model.save_pretrained(keep)
        if evg is not None:
            evg.processor_config = posts.processor.config
            evg.save_pretrained(keep.with_name(f"{keep.name}_grounder"))
    return {
        **{name: split.to_dict() for name, split in scores.items()},
        **({"test with other context": changed} if changed else {}),
        **({} if grounding is None else {"grounding": grounding.to_dict()}),
        # for `mnergraph.metrics.significance`, which compares systems post by post
        "entities by test post": {"right": _line(right), "predicted": _line(predicted), "gold": _line(gold)},
        "parameters": sum(weight.numel() for weight in model.parameters()),
        "training seconds": round(trained - start, 1),
        "seconds": round(time.perf_counter() - start, 1),
        "machine": machine(),
        "commit": commit(),
    }


def train_grounder(experiment: Experiment, posts: Posts, seed: int, folder: Path) -> EVG:
    """Return EVG trained on the gold entities with the experiment's encoder, optimizer and epochs.

    Args:
        experiment: its ``grounder`` has EVG's arguments.
        posts: the posts with all their features.
        seed: the seed.
        folder: folder of the checkpoints; a run that was killed there continues.
    """
    splits, trainer = posts.splits, replace(experiment.trainer, seed=seed, monitor=None)
    lightning.seed_everything(seed, verbose=False)
    encoder = text_encoder(experiment.encoder, splits["train"], EVG)
    model = build_model(EVG, encoder, posts.labels, splits["train"], arguments=experiment.grounder or {})
    resume = has_checkpoint(folder / "checkpoints")
    fit(model, splits["train"], splits["valid"], folder, optimizer=experiment.optimizer, trainer=trainer, resume=resume)
    assert isinstance(model, EVG)
    return model


def other_contexts(model: Tagger, pairs: Sequence[Pair]) -> dict[str, list[Pair]]:
    """Return posts without the context that a model reads, and with that of the next post; nothing for other models."""
    if model.context is None:
        return {}
    texts = [model.context.texts(pair) for pair in pairs]
    bare = [pair.without_context() for pair in pairs]
    others = (*texts[1:], *texts[:1])
    misleading = [with_context(pair, other) for pair, other in zip(bare, others, strict=True)]
    return {"none": bare, "another post's": misleading}


def summary(tests: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the means of the scores over the seeds, by type too, and the standard deviation of F1."""
    means = {}
    for how in ("lenient", "strict"):
        values = [one[how]["f1"] for one in tests]
        types = sorted({kind for one in tests for kind in one[f"{how}_by_type"]})
        means[how] = {
            **{name: statistics.mean(one[how][name] for one in tests) for name in ("precision", "recall", "f1")},
            "deviation": statistics.stdev(values) if len(values) > 1 else None,
            "types": {
                kind: statistics.mean(one[f"{how}_by_type"].get(kind, {"f1": 0.0})["f1"] for one in tests)
                for kind in types
            },
        }
    return means


def grounding_summary(tests: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the means over the seeds of GMNER, MNER and EEG, with the standard deviation of F1."""
    means: dict[str, dict[str, float | None]] = {}
    for metric in ("gmner", "mner", "eeg"):
        values = [one[metric]["f1"] for one in tests]
        means[metric] = {
            name: statistics.mean(one[metric][name] for one in tests) for name in ("precision", "recall", "f1")
        }
        means[metric]["deviation"] = statistics.stdev(values) if len(values) > 1 else None
    return means


def _settings(experiment: Experiment) -> dict[str, Any]:
    """Return the settings of an experiment that can change a score, as plain data."""
    kept = json.loads(json.dumps(asdict(experiment)))
    for name in ("source", "reported", "reported_grounding", "transferred", "ablations", "allow_missing"):
        del kept[name]
    for name in ("context", "grounder"):  # result files from before there were any have none
        if kept[name] is None:
            del kept[name]
    for name in ("seed", "progress", "logger", "save_every", "workers"):
        del kept["trainer"][name]
    for name in ("encoder", "caption_encoder"):
        if kept[name] is not None:
            kept[name] = encoder_name(kept[name])
    return kept


def _begun(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the result so far: the facts alone, or a file of the same facts with its seeds.

    Raises:
        FileExistsError: for a file of other facts, naming those that differ.
    """
    if not out.is_file():
        return {**facts, "seeds": {}}
    result: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    other = [name for name, value in facts.items() if result.get(name) != value]
    if other:
        raise FileExistsError(f"{out} is a result with another {', '.join(other)}; give another --out")
    return result


def _line(numbers: np.ndarray) -> str:
    return " ".join(map(str, numbers.tolist()))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse settings and arguments, and train."""
    disable_malloc_trim()
    parser = options()
    parser.add_class_arguments(Files)
    rest = parser.add_function_arguments(train, skip={"experiment", "files"})
    made = vars(parser.instantiate(parser.parse_args(arguments)))
    train(part(Experiment, made), part(Files, made), **{name: made[name] for name in rest})


if __name__ == "__main__":
    run_command(main)
