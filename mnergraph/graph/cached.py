"""A property that is computed once for an instance, for objects that several threads read."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from functools import cached_property
else:

    class cached_property:
        """A property whose value is kept, as `functools.cached_property` of Python 3.12 keeps it.

        That of Python 3.11 has one lock for all instances of a class, so that two threads that compute properties of
        each other's kind, on objects of their own, wait for each other for ever. Here several threads may compute a
        value at once; it must not matter which one is kept.

        Args:
            compute: from the instance to the value.
        """

        def __init__(self, compute: Callable[[Any], Any]) -> None:
            self.compute = compute
            self.__doc__ = compute.__doc__

        def __set_name__(self, owner: type, name: str) -> None:
            self.name = name

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            if instance is None:
                return self
            value = instance.__dict__[self.name] = self.compute(instance)
            return value


__all__ = ["cached_property"]
