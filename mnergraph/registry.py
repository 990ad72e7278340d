"""Names of models, data sets, extractors and schemas, and the objects behind them, imported when first used."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


class Registry(MutableMapping[str, Item], Generic[Item]):
    """A mapping of names to objects of this package and of its users.

    Listing names and summaries imports nothing; looking a name up imports its module.

    Args:
        noun: what the names are names of, for messages ("model").
        entries: by name, where the object is (``"package.module:attribute"``) and one line on what it is.
    """

    def __init__(self, noun: str, entries: Mapping[str, tuple[str, str]]) -> None:
        self.noun = noun
        self._entries = dict(entries)
        self._loaded: dict[str, Item] = {}

    def __getitem__(self, name: str) -> Item:
        if name not in self._loaded:
            if name not in self._entries:
                raise KeyError(self.unknown(name))
            module, _, attribute = self._entries[name][0].partition(":")
            self._loaded[name] = getattr(import_module(module), attribute)
        return self._loaded[name]

    def __setitem__(self, name: str, item: Item) -> None:
        self.register(item, name=name)

    def __delitem__(self, name: str) -> None:
        del self._entries[name]
        self._loaded.pop(name, None)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def summary(self, name: str) -> str:
        """One line on what this is."""
        return self._entries[name][1]

    def path(self, name: str) -> str:
        """Where it is, ``"package.module:attribute"``."""
        return self._entries[name][0]

    def register(self, item: Any, *, name: str | None = None) -> Any:
        """Adds a class of one's own under its name; returns it, so that it can decorate the class.

        Raises:
            ValueError: when another object has that name.
        """
        name = name or item.__name__
        path = f"{item.__module__}:{item.__qualname__}"
        if name in self._entries and self._entries[name][0] != path:
            raise ValueError(f"{self.noun} {name!r} is {self._entries[name][0]} already; give {path} another name")
        self._entries[name] = (path, (item.__doc__ or "").strip().partition("\n")[0])
        self._loaded[name] = item
        return item

    def resolve(self, name: str) -> str:
        """The name as it is listed, for one in any case (``umgf``) or the name of the class (``BERTCRF``).

        Raises:
            ValueError: for an unknown name; the message lists names, the most similar one first.
        """
        if name in self._entries:
            return name
        short = _short(name)
        found = [known for known in self._entries if short in (_short(known), _short(self._attribute(known)))]
        if len(found) != 1:
            raise ValueError(self.unknown(name))
        return found[0]

    def _attribute(self, name: str) -> str:
        return self._entries[name][0].rpartition(":")[2]

    def unknown(self, name: str) -> str:
        """The message for a name that is not listed."""
        short = {_short(known): known for known in self._entries}
        close = difflib.get_close_matches(_short(name), short, n=1)
        hint = f"did you mean {short[close[0]]}? " if close else ""
        return f"there is no {self.noun} {name!r}; {hint}there is {', '.join(self._entries) or 'none'}"


def _short(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


#: The group of entry points whose modules are imported before a command runs.
PLUGINS = "mnergraph.plugins"


#: The packages that have been imported as plugins, whose classes a configuration may name.
LOADED: set[str] = set()


def load_plugins(modules: Iterable[str] = ()) -> None:
    """Import modules by name, the current folder among the places they are looked for, and all entry points.

    Raises:
        ImportError: for a module that is not there.
    """
    for entry in entry_points(group=PLUGINS):
        entry.load()
        LOADED.add(entry.module.partition(".")[0])
    for module in modules:
        if "" not in sys.path:
            sys.path.insert(0, "")
        import_module(module)
        LOADED.add(module.partition(".")[0])
