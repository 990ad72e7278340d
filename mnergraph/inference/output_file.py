"""A file of results that is complete or not there, and that a killed run goes on writing."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from mnergraph.files import disk_errors, fsync, write_atomically


def unfinished_path(path: Path) -> Path:
    """Return the path of the lines that a stopped run leaves beside a result."""
    return path.with_name(f"{path.name}.unfinished")


class OutputFile:
    """A file of JSON lines, written beside its place until it is complete; use it as a context manager.

    When the block ends without an error, the file appears at ``path``. Otherwise the lines that were written stay in
    ``<path>.unfinished``, and ``<path>.unfinished.json`` has what they were computed with, for ``resume``.

    Args:
        path: the file.
        run: what determines its lines, as plain JSON values by name.
        resume: whether to go on from the lines that an earlier run has left, if it has left any.
        step: lines of a window: after a kill amid one, its lines are written again.

    Attributes:
        kept: how many lines there are from an earlier run.

    Raises:
        FileExistsError: when an earlier run has left lines, and ``resume`` is off.
        ValueError: when these are of another run, naming what differs.
        OSError: when another process is writing the file.
    """

    def __init__(self, path: Path, run: Mapping[str, Any], *, resume: bool, step: int) -> None:
        self.path, self.run, self.resume, self.step = path, dict(run), resume, step
        self.unfinished = unfinished_path(path)
        self.run_file = path.with_name(f"{path.name}.unfinished.json")
        self._lock = FileLock(path.with_name(f"{path.name}.lock"))
        self.kept = self.written = 0

    def __enter__(self) -> Self:
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise OSError(f"another process is writing {self.path}; give another file") from None
        try:
            self._open()
        except BaseException:
            self._unlock()
            raise
        return self

    def _open(self) -> None:
        if self.unfinished.exists() and self.unfinished.stat().st_size and not self.resume:
            raise FileExistsError(
                f"{self.unfinished} has lines of a run that was stopped: go on from them with --resume true, or "
                "delete it"
            )
        if self.unfinished.exists() and self.resume:
            self._require_same_run()
            self.kept = self.written = _truncate(self.unfinished, self.step)
        with disk_errors(self.path):
            write_atomically(self.run_file, json.dumps(self.run, indent=1).encode())
            self._file = self.unfinished.open("ab" if self.kept else "wb")

    def _require_same_run(self) -> None:
        try:
            before = json.loads(self.run_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ValueError(
                f"{self.run_file} can't be read ({error}); delete {self.unfinished} to start anew"
            ) from error
        different = [name for name in {**before, **self.run} if before.get(name) != self.run.get(name)]
        if different:
            changes = "; ".join(f"{name}: {before.get(name)!r}, now {self.run.get(name)!r}" for name in different)
            raise ValueError(
                f"{self.unfinished} is of a run with other settings ({changes}); give the same ones, or delete it"
            )

    def write(self, lines: Iterable[str]) -> None:
        """Append lines, which are handed to the system before this returns."""
        lines = list(lines)
        with disk_errors(self.path):
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
        self.written += len(lines)

    def kept_lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of the earlier run."""
        if self.kept:
            with self.unfinished.open("rb") as file:
                yield from map(json.loads, file)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with disk_errors(self.path):
                self._file.close()
                if error is None:
                    fsync(self.unfinished)
                    self.unfinished.replace(self.path)
            if error is None or not self.written:
                self.unfinished.unlink(missing_ok=True)
                self.run_file.unlink(missing_ok=True)
        finally:
            self._unlock()

    def _unlock(self) -> None:
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def describe_kept(self) -> str:
        """Return what is kept of the run so far, and how to go on; for the user."""
        if not self.written:
            return f"{self.path} is unchanged"
        return f"{self.written:,} lines are in {self.unfinished}; --resume true goes on from them"


def _truncate(path: Path, step: int) -> int:
    """Cut a file behind its last whole window of lines, and return how many lines it has then."""
    lines = end = kept = kept_end = 0
    with path.open("rb+") as file:
        for line in file:
            if not line.endswith(b"\n"):
                break
            lines, end = lines + 1, end + len(line)
            if lines % step == 0:
                kept, kept_end = lines, end
        file.truncate(kept_end)
        os.fsync(file.fileno())
    return kept
