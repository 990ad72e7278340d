"""The command ``train``: from a data set's folder to a saved model and result.json."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from mnergraph.data.datasets.base import PostDataset
from mnergraph.features.store.manifest import differences
from mnergraph.features.text.encoder import TINY, Encoder
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.files import write_atomically
from mnergraph.graph.context import Context, count_trimmed, describe_trimmed
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.training.config import OptimizerConfig, TrainerConfig
from mnergraph.training.interruption import keeps

MODEL, RESULT = "model", "result.json"
#: The settings with which a run began, in its folder.
SETTINGS = "settings.json"
#: Settings with which a run may be continued that began with others, if that is asked for.
_CHANGEABLE = ("optimizer.", "trainer.", "data.")
#: What to do about types that only dev or test has.
_TYPES = "--labels all takes the types of all splits, --data.mapping '{OTHER: MISC}' renames types"
#: Settings of the trainer that change no result.
_FREE = ("progress", "logger", "workers", "save_every")


def train(
    data: Callable[[Path, str], PostDataset],
    root: Path,
    model: Callable[[Encoder, LabelSet], Tagger],
    out: Path,
    encoder: str = TINY,
    regions: RegionEncoder | None = None,
    word_vectors: Path | None = None,
    stores: tuple[Path, ...] = (),
    context: tuple[str, ...] | Context | None = None,
    optimizer: OptimizerConfig = OptimizerConfig(),
    trainer: TrainerConfig = TrainerConfig(),
    labels: Literal["all"] | tuple[str, ...] | None = None,
    allow_missing: tuple[str, ...] = (),
    resume: bool = False,
    allow_changes: bool = False,
) -> dict[str, Any]:
    """Train a model, select its checkpoint by dev F1, and score it on dev and test; return the result.

    Args:
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder; what can be made or downloaded goes there.
        model: the model, one of those `mnergraph ls` shows.
        out: folder of the run: checkpoints, logs, the saved model and result.json.
        encoder: a Hugging Face text encoder, by name or folder, or tiny-random; for models over word vectors
            a text file of them, or random:WIDTH.
        regions: encodes boxes as region vectors; without it objects are represented by their labels alone.
        word_vectors: a table of word vectors, in which the nearest neighbours of all words are looked up,
            for models that read them (MGCMT).
        stores: folders of feature stores of the posts' images, read beside the files of evidence.
        context: texts about the posts that the encoder reads beside the sentence: their sources, such as
            "[caption, knowledge]", or "{sources: [caption], budget: 64, agreement: {weight: 0.5}}"; see context.jsonl.
            They take the place of a context that the model has by itself.
        optimizer: learning rates and their schedule.
        trainer: epochs, batches, devices and logs.
        allow_missing: kinds of evidence that the model reads and all posts of a split may lack, such as
            "grounded objects"; others that all posts lack are an error.
        labels: the entity types, such as "[PER, LOC]"; all for those of all splits, by default those of the training
            posts. Entities of other types count as missed.
        resume: continue an interrupted run of this folder; other options than its own are refused.
        allow_changes: with resume, take other options of the optimizer, the trainer and the data than those with which
            the run began, and write into result.json what was changed. Another model is refused in any case.

    Returns:
        the content of result.json.

    Raises:
        MissingEvidenceError: when no post of a split has evidence of a kind that the model reads.
        ValueError: when a run is resumed with other settings, naming each difference; when labels are named and
            training posts have others.
    """
    import lightning
    import torch

    from mnergraph.data.missing_evidence import describe_missing, require_evidence
    from mnergraph.data.processor import Processor, ProcessorConfig
    from mnergraph.features.text.nearest_words import NearestWords
    from mnergraph.training.build import build_model, nearest_words_options, text_encoder
    from mnergraph.training.callbacks import continue_from
    from mnergraph.training.checkpoints import LAST
    from mnergraph.training.evaluate import evaluate_in_detail
    from mnergraph.training.fit import fit, is_first_process
    from mnergraph.training.label_sets import choose_labels, warn_of_unknown_types

    start = time.perf_counter()
    splits = {name: data(root, name).with_stores(*stores) for name in ("train", "valid", "test")}
    cache = Path(splits["train"].processed_dir)
    lightning.seed_everything(trainer.seed, verbose=False)
    # raises before training what could not be saved after it
    config = ProcessorConfig.of(splits["train"].evidence, regions, allow_missing=allow_missing)
    processor = Processor(config, run_extractors=False)  # training posts have what stores and files have
    posts_of = {name: posts.pairs for name, posts in splits.items()}
    label_set = choose_labels(posts_of, labels)
    if is_first_process():
        warn_of_unknown_types(label_set, posts_of, advice=_TYPES)
    nearest_words = None
    if word_vectors is not None:
        words = (word for posts in splits.values() for pair in posts.pairs for word in pair.words)
        options = nearest_words_options(model)
        nearest_words = NearestWords.from_file(word_vectors, words, **options, cache=cache, progress=trainer.progress)
    tagger = build_model(
        model,
        text_encoder(encoder, splits["train"].pairs, model),
        label_set,
        splits["train"].pairs,
        regions=regions,
        nearest_words=nearest_words,
        context=Context(sources=context) if isinstance(context, tuple) else context,
    )
    node_types = tagger.builder.node_types.values()
    splits = {name: posts.with_node_evidence(node_types) for name, posts in splits.items()}
    missing = require_evidence(
        tagger.builder,
        {name: posts.pairs for name, posts in splits.items()},
        available=processor.available,
        allow_missing=allow_missing,
    )
    for name, kinds in missing.items():
        for line in describe_missing(kinds, len(splits[name])):
            if is_first_process():
                print(f"{name}: {line}")
    trimmed = {}
    for name, posts in splits.items():
        if counted := count_trimmed(node_types, posts.pairs):
            trimmed[name] = counted._asdict()
            if counted.words and is_first_process():
                print(f"{name}: {describe_trimmed(counted, len(posts))}")
    pairs = {
        name: processor.add_regions(posts.pairs, cache=cache, progress=trainer.progress)
        for name, posts in splits.items()
    }
    data_summary = _data_summary(splits)
    settings = {
        "model": type(tagger).__name__,
        "settings": tagger.hparams(),
        "labels": list(tagger.labels),
        "encoder": tagger.encoder.name,
        "word_vectors": word_vectors and word_vectors.name,
        "data": data_summary,
        "processor": asdict(processor.config),
        "optimizer": vars(optimizer),
        "trainer": {name: value for name, value in vars(trainer).items() if name not in _FREE},
    }
    begun = json.loads(json.dumps(settings, default=str))
    changes: list[list[str]] = []
    with _lock(out), keeps(lambda: continue_from(out / "checkpoints" / LAST)):
        if is_first_process():
            changes = _begin(out, begun, resume=resume, allow_changes=allow_changes)
            print(f"{type(tagger).__name__} on {type(splits['train']).__name__}\n{tagger.schema}", flush=True)
        fit(tagger, pairs["train"], pairs["valid"], out, optimizer=optimizer, trainer=trainer, resume=resume)
        # every device scores its share of the posts
        evaluations = {
            name: evaluate_in_detail(tagger, pairs[name], boxes=False, progress=trainer.progress)
            for name in ("valid", "test")
        }
        if not is_first_process():
            return {}
        tagger.metadata = {
            "data": data_summary | ({"license": license} if (license := splits["train"].license) else {}),
            "scores": {name: found.scores.to_dict() for name, found in evaluations.items()},
            "tables": {name: found.table() for name, found in evaluations.items()},
        }
        tagger.processor_config = processor.config
        tagger.save_pretrained(out / MODEL)
        result = {
            **{name: settings[name] for name in ("model", "settings", "labels", "encoder", "word_vectors", "data")},
            "posts without evidence": {
                name: {kind: len(ids) for kind, ids in kinds.items()} for name, kinds in missing.items()
            },
            **({"context left out": trimmed} if trimmed else {}),
            "optimizer": vars(optimizer),
            "trainer": vars(trainer),
            "changes": changes,
            "scores": tagger.metadata["scores"],
            "seconds": round(time.perf_counter() - start, 1),
            "versions": {name: version(name) for name in ("mnergraph", "torch", "torch-geometric", "transformers")},
            "machine": {"python": platform.python_version(), "threads": torch.get_num_threads()},
        }
        write_atomically(out / RESULT, (json.dumps(result, indent=2, default=str) + "\n").encode())
    for name, found in evaluations.items():
        print(f"\n{name}\n{found.scores.table()}")
    print(f"\nmodel: {out / MODEL}\nresult: {out / RESULT}")
    return result


@contextmanager
def _lock(out: Path) -> Iterator[None]:
    """Hold the folder of a run; the processes of further devices share the first one's hold.

    Raises:
        ValueError: when another process trains into the folder.
    """
    from mnergraph.training.fit import is_first_process

    if not is_first_process():
        yield
        return
    out.mkdir(parents=True, exist_ok=True)
    lock = FileLock(out / ".lock", timeout=0)  # of the system, which drops it when the process dies
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another process trains into {out}; wait for it, or give another out") from None
    try:
        yield
    finally:
        lock.release()


def _begin(out: Path, settings: dict[str, Any], *, resume: bool, allow_changes: bool) -> list[list[str]]:
    """Write the settings of a run into its folder; of a resumed run compare them with those that it began with.

    Returns:
        what was changed, a list for every time that the run was resumed with other settings.

    Raises:
        ValueError: for other settings, where they are not allowed to change.
    """
    path = out / SETTINGS
    changes: list[list[str]] = []
    if resume and path.is_file():
        before = json.loads(path.read_text(encoding="utf-8"))
        changes = before.pop("changes", [])
        changed = differences(settings, before)
        fixed = [line for line in changed if not line.startswith(_CHANGEABLE)]
        if fixed or (changed and not allow_changes):
            lines = "; ".join(fixed if allow_changes else changed)
            mend = "Give the same ones, or another out"
            mend += "" if fixed else "; --allow_changes true continues with them"
            raise ValueError(f"{out} is a run with other settings: {lines}. {mend}")
        if not changed:
            return changes
        changes = [*changes, changed]
        print(f"{out} continues with other settings: {'; '.join(changed)}", flush=True)
    elif (out / "checkpoints").exists():
        return changes
    out.mkdir(parents=True, exist_ok=True)
    content = {**settings, **({"changes": changes} if changes else {})}
    write_atomically(path, (json.dumps(content, indent=2) + "\n").encode())
    return changes


def _data_summary(splits: dict[str, PostDataset]) -> dict[str, Any]:
    """Return the data set's name, and the number of posts and the checksum of every split."""
    from mnergraph.features.vision.image_io import file_sha256

    return {
        "name": type(splits["train"]).__name__,
        **{f"{name} posts": len(posts) for name, posts in splits.items()},
        **{f"{name} sha256": file_sha256(posts.raw_paths[0]) for name, posts in splits.items()},
    }
