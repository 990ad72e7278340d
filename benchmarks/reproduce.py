r"""Reproduce rows of the papers' tables: from a folder of posts and images to reported figures beside measured ones.

    uv run python -m benchmarks.reproduce --row UMGF/Twitter2017 --root DIR --plan true
    uv run python -m benchmarks.reproduce --row UMGF/Twitter2017 --root DIR

A row is a system on a data set, as its settings file describes it, and any of its ablations. The stages are the posts
(downloaded where they are not in the folder, then verified), a feature store for each extractor that the settings name,
one training run for each seed, and the table. Rows share the posts and the stores. What exists is not done again: a
killed run continues where it was, with the same command.
"""

from __future__ import annotations

import hashlib
import json
import re
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, is_dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from jsonargparse import auto_cli
from PIL import Image
from transformers import AutoConfig

from benchmarks.building import checked
from benchmarks.common import Usage, disk_bytes, measure, run_command
from benchmarks.experiment import SETTINGS, Experiment, read
from benchmarks.posts import Files
from benchmarks.table import table
from benchmarks.train import train
from mnergraph.cli.extract import features, wanted_images
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data import DATASETS, Evidence
from mnergraph.data.datasets.base import SPLITS, find_text_file
from mnergraph.data.datasets.download import fetch_images
from mnergraph.data.datasets.twitter import TwitterBenchmark
from mnergraph.data.verify import verify
from mnergraph.features.pretrained import skip_pretrained
from mnergraph.features.store.entries import image_key, to_store_entry
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.encoder import TINY
from mnergraph.features.text.noun_chunks import Phrase, RuleChunker
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.detectors import RCNNDetector
from mnergraph.features.vision.extractor import Extractor
from mnergraph.files import write_atomically
from mnergraph.training.checkpoints import has_checkpoint

#: File, beside the results, of the time, memory and disk that each stage took.
STAGES = "stages.jsonl"


@dataclass(frozen=True)
class Estimate:
    """Time and disk of a stage; None where they are not known before it has run once."""

    seconds: float | None = None
    bytes: float | None = None


class Stage(ABC):
    """A step of a reproduction, which can be asked whether it is done."""

    name: str

    @abstractmethod
    def state(self) -> str:
        """Return ``done``, or what is there already."""

    @abstractmethod
    def run(self) -> None:
        """Do what is not done."""

    def estimate(self) -> Estimate:
        """Return the expected time and disk of what is not done."""
        return Estimate()


class PostsStage(Stage):
    """The data set's texts and images, downloaded where they are not in the folder, and verified.

    Args:
        experiment: the experiment.
        files: the files of the data set.
    """

    def __init__(self, experiment: Experiment, files: Files) -> None:
        self.experiment, self.files = experiment, files
        self.name = f"posts of {experiment.data}"
        self.kind = DATASETS[experiment.data]

    @property
    def benchmark(self) -> bool:
        """Whether the data set is one that can be downloaded."""
        return issubclass(self.kind, TwitterBenchmark)

    @property
    def images(self) -> Path | None:
        """The folder of the images; None where there is none."""
        root = self.files.root
        places = [self.files.images] if self.files.images else [root / "images", root / "raw" / "images"]
        return next((place for place in places if place.is_dir()), None)

    def state(self) -> str:
        """Return ``done`` when the report of `verify` is that of these files."""
        texts = self._texts()
        if len(texts) < len(SPLITS):
            return f"{len(texts)} of {len(SPLITS)} texts"
        if self.images is None and self.experiment.extract:
            return "no images"
        return "done" if self._marker.is_file() and self._marker.read_text() == self._key() else "not verified"

    def run(self) -> None:
        """Download what is missing, verify all files, and print the report.

        Raises:
            FileNotFoundError: when there are no images and the data set has none to download.
            ConnectionError: when a download fails, with what to fetch by hand.
        """
        root = self.files.root
        root.mkdir(parents=True, exist_ok=True)
        if self.images is None and self.experiment.extract:
            if not self.benchmark:
                raise FileNotFoundError(f"there is no folder of images in {root}: give --images, or {root / 'images'}")
            fetch_images(root, self.experiment.data[7:11])
        options = {**self.experiment.data_options, **({"images": self.images} if self.files.images else {})}
        for split in SPLITS:
            data = self.kind(root, split, evidence=Evidence(), **options)
        print(verify(data, progress=self.experiment.trainer.progress), flush=True)
        self._marker.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(self._marker, self._key().encode())

    @property
    def _marker(self) -> Path:
        return self.files.root / "processed" / f"verified-{self.experiment.data}.txt"

    def _texts(self) -> list[Path]:
        folders = (self.files.root, self.files.root / "raw")
        texts = (next(filter(None, (find_text_file(folder, split) for folder in folders)), None) for split in SPLITS)
        return [path for path in texts if path is not None]

    def _key(self) -> str:
        paths = [*self._texts(), *(sorted(self.images.iterdir()) if self.images else ())]
        entries = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
        return hashlib.sha256(json.dumps(entries).encode()).hexdigest()


class ExtractionStage(Stage):
    """A feature store of the images, by one extractor.

    Args:
        extractor: the extractor.
        posts: the stage of the posts.
        stores: the folder of all stores.
        batch_size: images at once.
        workers: processes that open images.
        device: where the extractor runs.
        progress: whether to show a progress bar.
    """

    dtype: Literal["float16"] = "float16"

    def __init__(
        self,
        extractor: Extractor,
        posts: PostsStage,
        stores: Path,
        *,
        batch_size: int,
        workers: int,
        device: str,
        progress: bool,
    ) -> None:
        self.extractor, self.posts = extractor, posts
        self.batch_size, self.workers, self.device, self.progress = batch_size, workers, device, progress
        self.name = f"{type(extractor).__name__} {extractor.name}"
        settings = json.dumps(_plain(extractor), sort_keys=True)
        digest = hashlib.sha256(f"{self.name} {settings}".encode()).hexdigest()[:10]
        self.store = stores / f"{type(extractor).__name__}-{digest}"

    def state(self) -> str:
        """Return ``done`` when the store has all images of the posts, else how many."""
        keys = self._keys
        if keys is None:
            return "not started"
        try:
            store = FeatureStore(self.store, skip_corrupt=True)
        except FileNotFoundError:
            return f"0 of {len(keys)} images"
        there = sum(key in store for key in keys)
        return "done" if there == len(keys) else f"{there} of {len(keys)} images"

    def run(self) -> None:
        """Extract the features of the images that the store does not have."""
        images = self.posts.images
        assert images is not None
        features(
            images,
            self.store,
            self.extractor,
            posts=self.posts.files.root,
            dtype=self.dtype,
            batch_size=self.batch_size,
            workers=self.workers,
            device=self.device,
            progress=self.progress,
        )
        self.__dict__.pop("_keys", None)

    def estimate(self) -> Estimate:
        """Return time and disk, measured on one batch with random weights; unknown for models of a hub."""
        keys = self._keys
        if keys is None or not isinstance(self.extractor, BackboneGrid | RCNNDetector):
            return Estimate()
        store = FeatureStore(self.store, skip_corrupt=True) if (self.store / "manifest.json").is_file() else ()
        left = sum(key not in store for key in keys)
        noise = np.random.default_rng(0).integers(0, 255, (450, 600, 3), dtype=np.uint8)
        images, phrases = [Image.fromarray(noise)] * self.batch_size, [(Phrase("a person"),)] * self.batch_size
        with skip_pretrained():
            probe = replace(self.extractor)
            options: dict[str, Any] = {"device": self.device, "progress": False, "batch_size": self.batch_size}
            phrases_of = phrases if probe.needs_phrases else None
            list(probe.extract(images, phrases_of, **options))  # the first call is slower
            start = time.perf_counter()
            *_, evidence = probe.extract(images, phrases_of, **options)
            seconds = (time.perf_counter() - start) / self.batch_size
        stored = sum(rows.nbytes for rows in to_store_entry(evidence)[0].values()) / 2
        return Estimate(seconds * left, stored * left)

    @cached_property
    def _keys(self) -> set[str] | None:
        """The keys of all images of the posts; None before there are any."""
        images, root = self.posts.images, self.posts.files.root
        if images is None or len(self.posts._texts()) < len(SPLITS):
            return None
        chunker = self.extractor.chunker_for(RuleChunker())
        return {image_key(task.path, task.phrases) for task in wanted_images(images, root, chunker)}


class TrainingStage(Stage):
    """A training run with one seed, whose scores are added to the row's result file.

    Args:
        experiment: the experiment.
        files: the files of the data set, with the stores.
        seed: the seed.
        out: the result file.
        work: folder of the checkpoints.
        models: folder of the trained models; None to delete them.
        word_vectors: table of word vectors, if the experiment asks for nearest words.
    """

    def __init__(
        self,
        experiment: Experiment,
        files: Files,
        seed: int,
        *,
        out: Path,
        work: Path,
        models: Path | None,
        word_vectors: Path | None,
    ) -> None:
        self.experiment, self.files, self.seed = experiment, files, seed
        self.out, self.work, self.models, self.word_vectors = out, work, models, word_vectors
        self.name = f"{experiment.system} seed {seed}"

    def _runs(self) -> dict[str, Any]:
        return json.loads(self.out.read_text(encoding="utf-8"))["seeds"] if self.out.is_file() else {}

    def state(self) -> str:
        """Return ``done`` when the result file has the seed."""
        if str(self.seed) in self._runs():
            return "done"
        begun = any(map(has_checkpoint, self.work.glob(f"*/seed{self.seed}/checkpoints")))
        return "has a checkpoint" if begun else "not started"

    def run(self) -> None:
        """Train, score and write the result."""
        train(
            self.experiment,
            self.files,
            self.out,
            seeds=(self.seed,),
            word_vectors=self.word_vectors,
            keep_models=self.models,
            work=self.work,
        )

    def estimate(self) -> Estimate:
        """Return the time of the row's other seeds, if there are any."""
        seconds = [run["seconds"] for run in self._runs().values()]
        return Estimate(sum(seconds) / len(seconds)) if seconds else Estimate()


def reproduce(
    root: Path,
    row: str | None = None,
    ablation: str | None = None,
    table_of: str | None = None,
    all: bool = False,
    seeds: tuple[int, ...] = (0, 1, 2),
    plan: bool = False,
    images: Path | None = None,
    word_vectors: Path | None = None,
    encoder: str | None = None,
    protocol: tuple[Path, ...] = (),
    settings: Path = SETTINGS,
    out: Path | None = None,
    keep_models: bool = False,
    allow_missing: tuple[str, ...] = (),
    batch_size: int = 16,
    workers: int = 0,
    device: str = "cpu",
) -> None:
    """Reproduce rows of the papers' tables, and print reported and measured figures.

    Args:
        root: folder of the posts, and of all that is made: ``stores``, ``runs``, ``models``, ``results``. With --all it
            has a folder for the posts and stores of each data set: ``twitter2015``, ``twitter2017``, ``lookalikes``.
        row: a system on a data set, as in ``UMGF/Twitter2017``.
        ablation: one of the row's ablations, by the paper's name.
        table_of: all whole systems on this data set.
        all: all rows of all settings files, with their ablations.
        seeds: of the runs of every row.
        plan: whether to print the stages, what is done, and the expected time and disk, and to stop.
        images: folder of the images; by default ``images`` or ``raw/images`` of the root.
        word_vectors: table of word vectors of the rows that read nearest words (MGCMT).
        encoder: text encoder instead of that of the settings.
        protocol: settings files that override those of every row.
        settings: folder of the settings files.
        out: folder of the result files and of what the stages took; by default ``results`` of the root.
        keep_models: whether to keep the trained models, in ``models``.
        allow_missing: kinds of evidence that all posts may lack, besides those of the settings.
        batch_size: images at once in extraction.
        workers: processes that open images in extraction.
        device: where extractors run.

    Raises:
        ValueError: for an unknown row, and for what a row needs and is not given.
    """
    experiments = [
        replace(
            experiment,
            encoder=encoder or experiment.encoder,
            allow_missing=(*experiment.allow_missing, *allow_missing),
        )
        for experiment in select_rows(settings, row, ablation, table_of, all, protocol)
    ]
    results = out or root / "results"
    stages: dict[str, Stage] = {}
    for experiment in experiments:
        folder = root / folder_name(experiment.data) if all else root
        files = Files(folder, images)
        posts = stages.setdefault(f"posts {experiment.data}", PostsStage(experiment, files))
        assert isinstance(posts, PostsStage)
        stores = []
        for extractor in experiment.extract:
            extraction = ExtractionStage(
                extractor,
                posts,
                folder / "stores",
                batch_size=batch_size,
                workers=workers,
                device=device,
                progress=experiment.trainer.progress,
            )
            stages.setdefault(f"{extraction.store} {experiment.data}", extraction)
            stores.append(extraction.store)
        name = re.sub(r"\W+", "_", f"{experiment.data}_{experiment.system}".lower()).strip("_")
        for seed in seeds:
            stages[f"{name} {seed}"] = TrainingStage(
                experiment,
                replace(files, stores=tuple(stores)),
                seed,
                out=results / f"{name}.json",
                work=root / "runs" / name,
                models=root / "models" / name if keep_models else None,
                word_vectors=word_vectors if experiment.similar else None,
            )
    print(describe(list(stages.values())), flush=True)
    if all and images is not None:
        raise ValueError("--images are those of one data set; with --all they are in its folder of the root")
    faults = list(dict.fromkeys(fault for one in experiments for fault in find_faults(one, word_vectors)))
    if plan:
        print("".join(f"missing: {fault}\n" for fault in faults), end="")
        return
    if faults:
        raise ValueError("; ".join(faults))
    for number, stage in enumerate(stages.values(), 1):
        if stage.state() != "done":
            print(f"\n[{number}/{len(stages)}] {stage.name}", flush=True)
            before = disk_bytes(root)
            usage = measure(stage.run)
            grown = max(0, disk_bytes(root) - before)
            print(f"{_duration(usage.seconds)}, at most {usage.peak_mib:.0f} MiB of memory, {_size(grown)} of disk")
            _record(results / STAGES, stage.name, usage, grown)
    names = {experiment.system for experiment in experiments}
    against = "BERT-CRF" if "BERT-CRF" in names and len(names) > 1 else None
    print(f"\n{table(results, settings=settings, against=against)}")


def select_rows(
    settings: Path, row: str | None, ablation: str | None, table_of: str | None, all: bool, protocol: Iterable[Path]
) -> list[Experiment]:
    """Return the experiments of a row, of a table or of all tables.

    Raises:
        ValueError: when none or several of them are asked for, or there is no such row.
    """
    if sum((row is not None, table_of is not None, all)) != 1:
        raise ValueError("give one of --row SYSTEM/DATA, --table_of DATA and --all true")
    paths = {}
    for path in sorted(settings.glob("*.yaml")):
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
        paths[f"{entries['system']}/{entries['data']}"] = path
    if row is not None:
        if row not in paths:
            raise ValueError(f"there is no row {row!r}; there is {', '.join(paths)}")
        experiment = read(paths[row], *protocol)
        return [experiment if ablation is None else experiment.without(ablation)]
    whole = {name: read(path, *protocol) for name, path in paths.items()}
    if ablation is not None:
        raise ValueError("an ablation is one of a row: give --row")
    chosen = [one for one in whole.values() if table_of in (None, one.data)]
    if not chosen:
        raise ValueError(f"no settings are of {table_of!r}; there is {', '.join({one.data for one in whole.values()})}")
    return chosen if table_of else [part for one in chosen for part in (one, *map(one.without, one.ablations))]


def find_faults(experiment: Experiment, word_vectors: Path | None) -> list[str]:
    """Return what the experiment needs and does not have, before work starts.

    Raises:
        ValueError: for arguments that the model does not take.
    """
    checked(experiment)
    faults = []
    if experiment.similar and word_vectors is None:
        faults.append(f"{experiment.system} reads nearest words: give --word_vectors FILE, a table of word vectors")
    fault = _encoder_fault(experiment.encoder)
    return faults if fault is None else [*faults, fault]


@cache
def _encoder_fault(name: str) -> str | None:
    """Return why a text encoder can't be loaded, or None; asked once for each name, as a hub may take long."""
    if name == TINY or name.startswith("random:") or Path(name).is_file():
        return None
    try:
        AutoConfig.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        reason = str(error).partition("\n")[0]
        return f"the text encoder {name} is not available ({reason}): give --encoder, a folder or a name"
    return None


def folder_name(data: str) -> str:
    """Return the folder of a data set where several are in one root; Twitter-2017 and its cleaned form share one."""
    kind = DATASETS[data]
    return kind.folder_name if issubclass(kind, TwitterBenchmark) else data.lower()


def describe(stages: Sequence[Stage]) -> str:
    """Return the plan: a line per stage with its state and the expected time and disk."""
    lines = [("stage", "state", "time", "disk")]
    total = Estimate(0.0, 0.0)
    for stage in stages:
        state = stage.state()
        expected = Estimate(0.0, 0.0) if state == "done" else stage.estimate()
        total = Estimate((total.seconds or 0) + (expected.seconds or 0), (total.bytes or 0) + (expected.bytes or 0))
        lines.append((stage.name, state, _duration(expected.seconds), _size(expected.bytes)))
    lines.append(("all that can be estimated", "", _duration(total.seconds), _size(total.bytes)))
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60} h {minutes % 60:02} min" if minutes >= 60 else f"{minutes} min {rest:02} s"


def _size(count: float | None) -> str:
    return "unknown" if count is None else f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def _record(path: Path, name: str, usage: Usage, disk: int) -> None:
    """Add what a stage took to the file of all stages of these results."""
    path.parent.mkdir(parents=True, exist_ok=True)
    line = {"stage": name, "seconds": round(usage.seconds, 1), "peak MiB": round(usage.peak_mib), "bytes": disk}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")


def _plain(extractor: Extractor) -> dict[str, Any]:
    assert is_dataclass(extractor)
    return asdict(extractor)


def main(arguments: list[str] | None = None) -> None:
    """Parse the arguments and reproduce."""
    disable_malloc_trim()
    auto_cli(reproduce, args=arguments, as_positional=False)


if __name__ == "__main__":
    run_command(main)
