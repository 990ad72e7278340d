"""Files that are complete or not there, also where the disk is full."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from mnergraph import LabelSet, tiny_encoder
from mnergraph.cli.main import main
from mnergraph.files import replacing, replacing_entries, write_atomically, write_tensors
from mnergraph.models import BERTCRF, Tagger

resource = pytest.importorskip("resource", reason="a limit on the size of files needs a Unix system")


@contextlib.contextmanager
def full_disk() -> Iterator[None]:
    """No file can grow beyond 50 kB, as on a disk that is almost full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A folder with a saved model and a file of the user's own."""
    torch.manual_seed(0)
    BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"])).save_pretrained(tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("mine")
    return tmp_path / "model"


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_replaced_when_complete(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with replacing(path) as unfinished:
        unfinished.write_text("new")
        assert path.read_bytes() == b"old"
    assert contents(tmp_path) == {"a.txt": b"new"}


@pytest.mark.parametrize("own", [True, False])
def test_kept_when_interrupted(tmp_path: Path, own: bool) -> None:
    path = tmp_path / "a.txt"
    write_atomically(path, b"old")
    with contextlib.suppress(KeyboardInterrupt), replacing(path, own=own) as unfinished:
        unfinished.write_text("half")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a.txt": b"old"}


def test_unfinished_files_of_several_processes(tmp_path: Path) -> None:
    with replacing(tmp_path / "a", own=True) as unfinished:
        assert str(os.getpid()) in unfinished.name
        unfinished.write_text("new")
    assert contents(tmp_path) == {"a": b"new"}


def test_full_disk(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a", b"old")
    with full_disk(), pytest.raises(OSError, match=r"can't be written \(File too large\): .*a"):
        write_atomically(tmp_path / "a", bytes(100_000))
    with full_disk(), pytest.raises(OSError, match=r"b\.safetensors can't be written"):
        write_tensors(tmp_path / "b.safetensors", {"x": torch.zeros(100_000)})
    assert contents(tmp_path) == {"a": b"old"}


def test_entries_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("mine")
    for content in ("old", "new"):
        with replacing_entries(tmp_path) as unfinished:
            (unfinished / "part").mkdir()
            (unfinished / "part" / content).write_text(content)
            (unfinished / "a.txt").write_text(content)
    assert contents(tmp_path) == {"a.txt": b"new", "kept.txt": b"mine", "part/new": b"new"}
    with contextlib.suppress(KeyboardInterrupt), replacing_entries(tmp_path) as unfinished:
        (unfinished / "a.txt").write_text("other")
        raise KeyboardInterrupt
    assert contents(tmp_path) == {"a.txt": b"new", "kept.txt": b"mine", "part/new": b"new"}


def test_saving_a_model_on_a_full_disk(saved: Path) -> None:
    before = contents(saved)
    model = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"]))
    with full_disk(), pytest.raises(OSError, match=r"can't be written"):
        model.save_pretrained(saved)
    assert contents(saved) == before
    assert Tagger.from_pretrained(saved).labels.types == ("PER",)


def test_saving_a_model_in_the_place_of_another(saved: Path) -> None:
    BERTCRF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"])).save_pretrained(saved)
    assert Tagger.from_pretrained(saved).labels.types == ("PER", "LOC")
    assert (saved / "notes.txt").read_text() == "mine"


def test_predictions_on_a_full_disk(saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    posts, out = tmp_path / "posts.jsonl", tmp_path / "out.jsonl"
    posts.write_text("".join(f'{{"id": "{number}", "text": "Paris {"x" * 200}"}}\n' for number in range(300)))
    out.write_text("old")
    command = ["predict", "--model", str(saved), "--posts", str(posts), "--out", str(out), "--progress", "false"]
    with full_disk(), pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "can't be written (File too large)" in error
    assert str(out) in error
    assert out.read_text() == "old"
    assert {path.name for path in tmp_path.iterdir()} == {"model", "posts.jsonl", "out.jsonl"}
