"""What a stress check tried and found."""

from __future__ import annotations

import contextlib
import io
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mnergraph.cli.main import error_line, main

#: What the command line reports in one line.
USER_ERRORS = (OSError, ValueError, LookupError, ImportError, FloatingPointError)
#: The most characters of an error's line; a file's value in it has at most 200.
MAX_LINE = 1500


@dataclass
class Report:
    """The number of trials by kind, and the faults: what should not have happened, a line each."""

    tried: dict[str, int] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    def count(self, kind: str) -> None:
        """Count a trial."""
        self.tried[kind] = self.tried.get(kind, 0) + 1

    def fault(self, what: str) -> None:
        """Add a fault."""
        self.faults.append(" ".join(what.split())[:600])


def fault_of(call: Callable[..., object], *arguments: Any, names: Sequence[str] = ()) -> str | None:
    """Return what is wrong with how a call ends, or None: it succeeds, or it raises a user's error in one line.

    Args:
        call: what is called.
        arguments: of the call.
        names: of which the error must name one, such as that of the file.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(*arguments)
    except USER_ERRORS as error:
        line = error_line(error)
        if "a fault of mnergraph" in line:
            return line
        if len(line) > MAX_LINE:
            return f"an error of {len(line)} characters: {line}"
        if names and not any(name in line for name in names):
            return f"{type(error).__name__} names none of {', '.join(names)}: {line}"
        return None
    except BaseException as error:  # every other way to end is the fault that is looked for
        return f"{type(error).__name__}: {error}"
    return None


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its status and what it printed."""

    status: int
    out: str
    err: str

    def fault(self, *, allowed: Sequence[int] = (0, 2)) -> str | None:
        """Return what is wrong, or None: the status is allowed, and an error is one line without a traceback."""
        if self.status not in allowed:
            return f"status {self.status}: {self.err[-300:]}"
        if "Traceback" in self.err or "a fault of mnergraph" in self.err:
            return self.err[-300:]
        if self.status == 2 and not any(line.startswith("mnergraph: ") for line in self.err.splitlines()):
            return f"status 2 without an error line: {self.err[-300:]}"
        return None


def run_here(*arguments: object) -> Outcome:
    """Run a command of `mnergraph` in this process."""
    out, err, status = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), warnings.catch_warnings():
        warnings.simplefilter("default")
        try:
            main([str(part) for part in arguments])
        except SystemExit as ended:
            status = int(ended.code or 0)
        except BaseException as error:
            status, _ = 1, print(f"Traceback: {type(error).__name__}: {error}", file=err)
    return Outcome(status, out.getvalue(), err.getvalue())


def start(*arguments: object, prepare: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    """Start a command of `mnergraph` in a process of its own.

    Args:
        arguments: of the command.
        prepare: called in the new process before the command.
    """
    return subprocess.Popen(
        [str(Path(sys.executable).with_name("mnergraph")), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=prepare,
    )


def end(process: subprocess.Popen[str], seconds: float = 600) -> Outcome:
    """Return how a process ends."""
    out, err = process.communicate(timeout=seconds)
    return Outcome(process.returncode, out, err)


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of every file in a folder, by path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in _files(folder)}


def _files(folder: Path) -> Iterator[Path]:
    return (path for path in sorted(folder.rglob("*")) if path.is_file())
