"""Commands that are killed, that find the disk full, or that run twice at once, in processes of their own."""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file

from benchmarks.stress import samples
from benchmarks.stress.images import EXTRACTOR
from benchmarks.stress.report import Outcome, Report, contents, end, run_here, start
from mnergraph.features.store.reader import FeatureStore

#: Kills, and full disks, of every command at size 1.
TRIALS = 10
#: A run of a smaller size takes one command, by chance.
SHORT = 0.1
#: Seconds until the work of a process begins.
STARTING = 4.0
#: Arguments of every command.
Arguments = tuple[object, ...]


@dataclass(frozen=True)
class Job:
    """A command, and what is left when it has ended.

    Attributes:
        arguments: of the command, given the folder to write to.
        result: what it has written, given that folder: equal for equal work.
        resume: further arguments of a run that continues a killed one.
    """

    arguments: Callable[[Path], Arguments]
    result: Callable[[Path], Any]
    resume: Arguments = ()


def jobs(data: Path) -> dict[str, Job]:
    """Return the commands that write something, on a folder as `prepare` makes it."""
    root, model = data / "posts", data / "model"
    posts = ("--data", "PostFolder", "--root", root)
    quiet = ("--progress", "false")
    return {
        "train": Job(
            lambda out: ("train", *posts, "--model", "BERT-CRF", "--out", out, *_TRAINER),
            lambda out: {
                "scores": json.loads((out / "result.json").read_text())["scores"],
                "weights": {name: rows.tolist() for name, rows in load_file(out / "model/model.safetensors").items()},
            },
            resume=("--resume", "true"),
        ),
        "features": Job(
            lambda out: ("features", "--images", root / "images", "--store", out, *EXTRACTOR, *_FLUSH, *quiet),
            lambda out: {key: _entry(FeatureStore(out), key) for key in sorted(FeatureStore(out))},
        ),
        "predict": Job(
            lambda out: (
                "predict",
                "--model",
                model,
                "--posts",
                data / "many.jsonl",
                "--out",
                out / "entities.jsonl",
                *quiet,
            ),
            contents,
        ),
        "export": Job(
            lambda out: ("export", "--store", data / "store", "--images", root / "images", "--out", out, *quiet),
            contents,
        ),
        "explain": Job(
            lambda out: ("explain", "--model", model, *posts, "--out", out / "page.html", *quiet, *_ALLOW),
            contents,
        ),
    }


#: 24 posts in batches of 4, a checkpoint every other step.
_TRAINER = tuple(
    part
    for name, value in {
        "epochs": 3,
        "batch_size": 4,
        "save_every": 2,
        "accelerator": "cpu",
        "progress": "false",
        "logger": "none",
    }.items()
    for part in (f"--trainer.{name}", value)
)
#: The posts have boxes without vectors.
_ALLOW = ("--allow_missing", "[region features]")
#: Every image is written when it is there.
_FLUSH = ("--flush_seconds", 0)


def prepare(data: Path) -> None:
    """Write what the jobs read: posts with images, a model, a store, and many posts to predict."""
    data.mkdir()
    samples.write_dataset(data / "posts")
    samples.make_model().save_pretrained(data / "model")
    pairs = samples.make_posts(400)
    lines = (json.dumps({"id": pair.id, "words": list(pair.words)}) + "\n" for pair in pairs)
    (data / "many.jsonl").write_text("".join(lines))
    samples.write_store_of(data / "posts" / "images", data / "store")


def _chosen_jobs(data: Path, rng: random.Random, size: float) -> dict[str, Job]:
    """Return the jobs on a folder that is made for them; a short run takes one, by chance."""
    prepare(data)
    every = jobs(data)
    names = list(every) if size >= SHORT else [rng.choice(list(every))]
    return {name: every[name] for name in names}


def one_thread() -> None:
    """Leave the other cores alone; called in a new process before its command."""
    os.environ["OMP_NUM_THREADS"] = "1"


def kills(rng: random.Random, size: float, folder: Path) -> Report:
    """Kill every command at random moments; the same command then gives the result of one that was not killed.

    Args:
        rng: the source of chance.
        size: 1 for some minutes.
        folder: an empty folder.
    """
    report, chosen = Report(), _chosen_jobs(folder / "data", rng, size)
    for name, job in chosen.items():
        whole = folder / f"{name}-whole"
        whole.mkdir()
        before = time.monotonic()
        _require(run_here(*job.arguments(whole)))
        seconds = STARTING + time.monotonic() - before
        expected = job.result(whole)
        for trial in range(max(1, round(TRIALS * size))):
            out = folder / f"{name}-{trial}"
            out.mkdir()
            process = start(*job.arguments(out), prepare=one_thread)
            moment = rng.uniform(0, seconds)
            time.sleep(moment)
            process.send_signal(rng.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
            killed = end(process)
            report.count(name)
            if "Traceback" in killed.err:
                report.fault(f"{name}: killed after {moment:.1f} s: {killed.err[-300:]}")
            again = _again(job, out)
            if fault := again.fault(allowed=(0,)):
                report.fault(f"{name}: killed after {moment:.1f} s, again: {fault}")
            elif job.result(out) != expected:
                report.fault(f"{name}: killed after {moment:.1f} s, another result")
            elif left := _unfinished(out):
                report.fault(f"{name}: killed after {moment:.1f} s, left over: {left[0].name}")
            shutil.rmtree(out)
        report.facts[f"{name}, seconds"] = round(seconds, 1)
    return report


def full_disk(rng: random.Random, size: float, folder: Path) -> Report:
    """Run every command where a file can't grow beyond a random size; what was there before is kept.

    Args:
        rng: the source of chance.
        size: 1 for some minutes.
        folder: an empty folder.
    """
    report, chosen = Report(), _chosen_jobs(folder / "data", rng, size)
    for name, job in chosen.items():
        for trial in range(max(1, round(TRIALS * size))):
            out = folder / f"{name}-{trial}"
            out.mkdir()
            for old in ("entities.jsonl", "page.html"):
                (out / old).write_text("old")
            limit = round(10 ** rng.uniform(2, 5.5))

            def limited(limit: int = limit) -> None:
                one_thread()
                resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

            outcome = end(start(*job.arguments(out), prepare=limited))
            report.count(name)
            if fault := outcome.fault():
                report.fault(f"{name} with files of {limit} bytes: {fault}")
            kept = [(out / old).read_text()[:3] == "old" for old in ("entities.jsonl", "page.html")]
            if outcome.status and not all(kept):
                report.fault(f"{name} with files of {limit} bytes: what was there is gone")
            if left := _unfinished(out):
                report.fault(f"{name} with files of {limit} bytes, left over: {left[0].name}")
            shutil.rmtree(out)
    return report


def two_at_once(rng: random.Random, size: float, folder: Path) -> Report:
    """Start a command twice into one folder; one wins or both agree, and the result is that of one alone.

    Args:
        rng: the source of chance.
        size: 1 for some minutes.
        folder: an empty folder.
    """
    report, chosen = Report(), _chosen_jobs(folder / "data", rng, size)
    for name, job in chosen.items():
        whole = folder / f"{name}-whole"
        whole.mkdir()
        _require(run_here(*job.arguments(whole)))
        for trial in range(max(1, round(TRIALS * size / 5))):
            out = folder / f"{name}-{trial}"
            out.mkdir()
            processes = []
            for _ in range(2):
                processes.append(start(*job.arguments(out), prepare=one_thread))
                time.sleep(rng.uniform(0, 1))
            ended = [end(process) for process in processes]
            report.count(name)
            faults = [fault for outcome in ended if (fault := outcome.fault())]
            if faults or all(outcome.status for outcome in ended):
                report.fault(f"{name} twice: {faults or [outcome.err[-200:] for outcome in ended]}")
            elif job.result(out) != job.result(whole):
                report.fault(f"{name} twice: another result than that of one alone")
            shutil.rmtree(out)
    return report


def two_devices(rng: random.Random, size: float, folder: Path) -> Report:
    """Train on two devices: scored as one process scores the saved model; killed and resumed, it ends.

    Args:
        rng: the source of chance.
        size: 1 for some minutes.
        folder: an empty folder.
    """
    report, data = Report(), folder / "data"
    prepare(data)
    train = jobs(data)["train"]
    two = ("--trainer.devices", 2, "--trainer.lightning", '{"strategy": "ddp"}')
    kill_at = [None] + [rng.uniform(5, 25) for _ in range(round(TRIALS * size / 3))]
    for trial, moment in enumerate(kill_at):
        out = folder / f"two-{trial}"
        out.mkdir()
        job = Job(lambda out: (*train.arguments(out), *two), train.result, train.resume)
        process = start(*job.arguments(out), prepare=one_thread)
        if moment is not None:
            time.sleep(moment)
            process.send_signal(signal.SIGTERM)
        outcome = end(process)
        if moment is not None and outcome.status:
            outcome = end(start(*job.arguments(out), *job.resume, prepare=one_thread))
            if "nothing to resume" in outcome.err:
                outcome = end(start(*job.arguments(out), prepare=one_thread))
        report.count("train" if moment is None else "killed and resumed")
        if fault := outcome.fault(allowed=(0,)):
            report.fault(f"two devices, killed after {moment} s: {fault}")
            continue
        scores = json.loads((out / "result.json").read_text())["scores"]["test"]
        posts = ("--data", "PostFolder", "--root", data / "posts", "--progress", "false")
        alone = run_here("evaluate", "--model", out / "model", *posts)
        report.count("scored alone")
        line = f"{100 * scores['lenient']['f1']:.2f}"
        if alone.fault(allowed=(0,)) or line not in alone.out:
            report.fault(f"two devices: {line} there, alone {alone.out[-300:]} {alone.err[-300:]}")
    return report


def _again(job: Job, out: Path) -> Outcome:
    """Run a job that was killed once more: what it has begun is continued, where it has begun something."""
    if job.resume:
        outcome = run_here(*job.arguments(out), *job.resume)
        if "nothing to resume" not in outcome.err:
            return outcome
    return run_here(*job.arguments(out))


def _unfinished(folder: Path) -> list[Path]:
    """Return the files and folders that a process could not complete."""
    return [path for path in folder.rglob("*") if "unfinished" in path.name]


def _require(outcome: Outcome) -> None:
    if outcome.status:
        raise ValueError(f"a command that nothing disturbs failed: {outcome.err[-500:]}")


def _entry(store: FeatureStore, key: str) -> Any:
    return store.info(key), {name: rows.tolist() for name, rows in store[key].items()}
