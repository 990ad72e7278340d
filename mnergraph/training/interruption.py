"""Signals that end a process: at once, or for a training run after the step that it is at."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

#: The signals by which a scheduler and Ctrl-C end a process.
SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(BaseException):
    """A signal has ended the work. Not an `Exception`, so that no handler of errors takes it for one.

    Args:
        signum: the signal.
        kept: what is kept, and how to continue; for the user.
    """

    def __init__(self, signum: int, kept: str = "") -> None:
        super().__init__(signum)
        self.signum, self.kept = signum, kept

    @property
    def exit_status(self) -> int:
        """The exit status by which a shell knows the signal: 143 for SIGTERM, 130 for SIGINT."""
        return 128 + self.signum

    def __str__(self) -> str:
        return f"stopped by {signal.Signals(self.signum).name}" + (f"; {self.kept}" if self.kept else "")


class Interruption:
    """The handler of the signals of this process.

    Attributes:
        deferred: whether the first signal is noted in ``requested``, for work that ends itself at a good place; the
            second one raises `Stopped` in any case.
        requested: the signal that was noted; None before.
    """

    def __init__(self) -> None:
        self.deferred = False
        self.requested: int | None = None

    def __call__(self, signum: int, frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            Stopped: unless it is deferred.
        """
        if self.deferred and self.requested is None:
            self.requested = signum
            return
        raise Stopped(signum)


#: Signals are of the process, and so is their handler.
INTERRUPTION = Interruption()


@contextmanager
def handle_signals() -> Iterator[None]:
    """Within it SIGTERM and SIGINT raise `Stopped`; only in the main thread, elsewhere nothing changes."""
    INTERRUPTION.deferred, INTERRUPTION.requested = False, None
    before = {}
    try:
        try:
            for signum in SIGNALS:
                before[signum] = signal.signal(signum, INTERRUPTION)
        except ValueError:  # not the main thread, which alone can handle signals
            pass
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


@contextmanager
def keeps(what: Callable[[], str]) -> Iterator[None]:
    """Within it `Stopped` gets what is kept, and how to continue, unless it has it already."""
    try:
        yield
    except Stopped as stopped:
        stopped.kept = stopped.kept or what()
        raise
