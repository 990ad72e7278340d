"""A short form of the stress suite, and that it finds what it looks for."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from benchmarks.stress import files
from benchmarks.stress.__main__ import CHECKS, stress
from benchmarks.stress.report import Outcome, Report, fault_of

#: Those of one process; commands in processes of their own have tests elsewhere, and `kills` below.
IN_PROCESS = ["damaged_files", "odd_posts", "hostile_images", "many_posts"]


@pytest.mark.parametrize("check", IN_PROCESS)
def test_no_faults(check: str, tmp_path: Path) -> None:
    found = stress(seed=1, size=0.01, only=[check], out=tmp_path / "stress.json")["checks"][check]
    assert found["tried"]
    assert found["faults"] == []
    assert (tmp_path / "stress.json").is_file()


def test_kills(tmp_path: Path) -> None:
    found = CHECKS["kills"](random.Random(1), 0.01, tmp_path)
    assert sum(found.tried.values()) == 1
    assert found.faults == []


def test_a_fault_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> None:
        raise RuntimeError("bare")

    monkeypatch.setattr(files, "read_conll", fail)
    report = files.damaged_files(random.Random(0), 0.0, tmp_path)
    assert any(fault.startswith("train.txt, damaged as") and "RuntimeError: bare" in fault for fault in report.faults)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("a.txt:1: no tag"), None),
        (ValueError("no tag"), "names none of a.txt"),
        (KeyError("tag"), "a fault of mnergraph"),
        (ValueError("a.txt" + "x" * 5000), "an error of 5005 characters"),
        (TypeError("a.txt"), "TypeError: a.txt"),
        (SystemExit(3), "SystemExit: 3"),
    ],
)
def test_what_counts_as_a_fault(error: BaseException, expected: str | None) -> None:
    def fail() -> None:
        raise error

    found = fault_of(fail, names=["a.txt"])
    assert (found is None) if expected is None else (found is not None and expected in found)


def test_outcomes() -> None:
    assert Outcome(0, "done", "a warning").fault() is None
    assert Outcome(2, "", "mnergraph: no such file").fault() is None
    assert "status -9" in str(Outcome(-9, "", "").fault())
    assert Outcome(2, "", "Traceback (most recent call last)").fault()
    assert Outcome(2, "", "nothing of ours").fault()
    report = Report()
    report.fault("two\nlines")
    assert report.faults == ["two lines"]


def test_unknown_check() -> None:
    with pytest.raises(ValueError, match="no check 'everything'; there is damaged_files, odd_posts"):
        stress(only=["everything"])
