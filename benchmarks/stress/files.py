"""Damaged files: every reader ends in a result or in one line that names the file."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from benchmarks.stress import samples
from benchmarks.stress.report import Report, fault_of
from mnergraph.data.evidence import Evidence
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.formats.jsonl import read_posts
from mnergraph.features.store.entries import from_store_entry
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.models import Tagger

#: Trials at size 1.
TRIALS = 6000


def damaged_files(rng: random.Random, size: float, folder: Path) -> Report:
    """Read files in which bytes were changed, removed, added or exchanged.

    Args:
        rng: the source of chance.
        size: 1 for a few minutes.
        folder: an empty folder.
    """
    report = Report()
    whole, posts = folder / "whole", samples.make_posts(12)
    samples.write_dataset(whole, (8, 2, 2))
    lines = ({"id": pair.id, "text": " ".join(pair.words), "objects": [{"label": "hat"}]} for pair in posts)
    (whole / "posts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    samples.write_feature_file(whole / "features.safetensors")
    samples.write_word_vectors(whole / "vectors.txt")
    samples.write_store(whole / "store")
    samples.make_model().save_pretrained(whole / "model")

    def read_store(path: Path) -> None:
        store = FeatureStore(path.parent)
        for key in store:
            from_store_entry(store, key)

    read: dict[str, Callable[[Path], object]] = {
        "train.txt": read_conll,
        "posts.jsonl": read_posts,
        "objects.jsonl": lambda path: Evidence(objects=path).attach(posts),
        "captions.jsonl": lambda path: Evidence(captions=path).attach(posts),
        "features.safetensors": lambda path: Evidence(features=path).attach(posts),
        "vectors.txt": lambda path: NearestWords.from_file(path, samples.NAMES, progress=False),
        **{f"store/{path.name}": read_store for path in _files(whole / "store")},
        **{
            str(path.relative_to(whole)): lambda path: _load_model(path, folder / "damaged" / "model")
            for path in _files(whole / "model")
            if path.suffix != ".md"
        },
    }
    damaged = folder / "damaged"
    shutil.copytree(whole, damaged)
    for trial in range(max(2 * len(read), round(TRIALS * size))):
        # every kind in turn, so that a short run has them all
        name = list(read)[trial % len(read)]
        original = (whole / name).read_bytes()
        (damaged / name).write_bytes(damage(original, rng))
        report.count(name.partition("/")[0])
        fault = fault_of(read[name], damaged / name, names=(Path(name).name, str((damaged / name).parent)))
        if fault:
            kept = folder / f"fault{len(report.faults)}-{Path(name).name}"
            shutil.copy(damaged / name, kept)
            report.fault(f"{name}, damaged as {kept.name}: {fault}")
        (damaged / name).write_bytes(original)
    return report


def damage(content: bytes, rng: random.Random) -> bytes:
    """Return content with one to four random changes."""
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        begin = rng.randrange(len(changed) + 1)
        length = min(rng.choice((1, 1, 2, 8, 100)), len(changed) - begin)
        match rng.randrange(6):
            case 0:
                changed[begin : begin + length] = rng.randbytes(length)
            case 1:
                del changed[begin : begin + length]
            case 2:
                changed[begin:begin] = rng.randbytes(rng.choice((1, 4, 64)))
            case 3:
                del changed[begin:]
            case 4:
                changed[begin:begin] = changed[begin : begin + 50]
            case 5:
                changed[begin:begin] = rng.choice(_TOKENS)
    return bytes(changed)


#: What text formats react to.
_TOKENS = (b"\n", b"\r", b"\0", b'"', b"{", b"]", b"NaN", b"-1", b"1e999", b"null", b"\\ud800", b"\xff\xfe", b"IMGID:")


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)


def _load_model(path: Path, folder: Path) -> None:
    """Load a model and use it; damage to weights that stays a number changes only what is predicted."""
    Tagger.from_pretrained(folder).predict(samples.make_posts(2))
