"""A module's evaluation mode for the time of a call, shared by the threads that call it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Lock
from weakref import WeakKeyDictionary

from torch import nn


@contextmanager
def evaluation_mode(module: nn.Module) -> Iterator[None]:
    """Within it a module and its submodules are in evaluation mode; afterwards each is in the mode it had.

    Several threads may be within it at once: the first to enter switches the module, the last to leave switches back.

    Args:
        module: the module, such as a model.
    """
    with _LOCK:
        users, trained = _IN_USE.get(module) or (0, [part for part in module.modules() if part.training])
        _IN_USE[module] = users + 1, trained
        if trained and not users:
            module.eval()
    try:
        yield
    finally:
        with _LOCK:
            users, trained = _IN_USE.pop(module)
            if users > 1:
                _IN_USE[module] = users - 1, trained
            else:
                for part in trained:
                    part.training = True


_LOCK = Lock()
#: For every module in use: by how many callers, and which parts were in training mode before.
_IN_USE: WeakKeyDictionary[nn.Module, tuple[int, list[nn.Module]]] = WeakKeyDictionary()
