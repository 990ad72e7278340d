"""A noun chunker as plain data, and made again from it."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from mnergraph.features.text.noun_chunks import Chunker
from mnergraph.quoting import quoted

_ADVICE = (
    "so a saved model could not find the same phrases again: put it into a module that can be imported "
    "(--import my_module), as a function or as a dataclass whose fields are text, numbers or lists of these"
)


def chunker_config(chunker: Chunker) -> dict[str, Any]:
    """Return where a chunker is and its settings: ``{"class": "module:name", "settings": {...}}``.

    A function has no ``settings``.

    Raises:
        ValueError: when it can't be made again from this, with what to do.
    """
    function = inspect.isfunction(chunker)
    target: Any = chunker if function else type(chunker)
    path = f"{target.__module__}:{target.__qualname__}"
    try:
        found = _import(path)
    except (ImportError, AttributeError):
        found = None
    if found is not target or target.__module__ == "__main__":
        raise ValueError(f"the chunker {path} can't be imported by its name, {_ADVICE}")
    if function:
        return {"class": path}
    settings: dict[str, Any] = {}
    if is_dataclass(chunker):
        settings = {entry.name: getattr(chunker, entry.name) for entry in fields(chunker) if entry.init}
    elif getattr(chunker, "__dict__", {}):
        raise ValueError(f"the chunker {path} keeps {', '.join(vars(chunker))} and is no dataclass, {_ADVICE}")
    for name, value in settings.items():
        if not _is_plain(value):
            raise ValueError(f"the chunker {path} has {name}={value!r}, which is no plain data, {_ADVICE}")
    return {"class": path, "settings": settings}


def make_chunker(config: Mapping[str, Any]) -> Chunker:
    """Return the chunker of `chunker_config`.

    Raises:
        ValueError: when its module is not here, with what to do; for what `chunker_config` does not write, which is
            not called; and for settings that it does not have.
    """
    path = config["class"]
    module = path.partition(":")[0]
    # a folder's settings could have any program run as a chunker
    if module.partition(".")[0] in sys.stdlib_module_names:
        raise ValueError(f"{quoted(path)} is part of Python's library, no chunker")
    try:
        target = _import(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"the model found noun phrases with {quoted(path)}, which can't be imported here ({error}): put "
            f"{module}.py into this folder and give --import {module}"
        ) from error
    settings = config.get("settings")
    if settings is None:
        if not inspect.isfunction(target):
            raise ValueError(f"{quoted(path)} is no function, so no chunker without settings")
        return target
    if not isinstance(target, type) or not (is_dataclass(target) if settings else _has_callable_instances(target)):
        raise ValueError(f"{quoted(path)} is no class of chunkers with settings of its own")
    try:
        chunker: Chunker = target(**settings)
    except TypeError as error:
        raise ValueError(f"the chunker {quoted(path)} has other settings here: {error}") from error
    return chunker


def _has_callable_instances(cls: type) -> bool:
    return any("__call__" in vars(base) for base in cls.__mro__)


def _import(path: str) -> Any:
    module, _, name = path.partition(":")
    found: Any = import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def _is_plain(value: Any) -> bool:
    try:
        return bool(json.loads(json.dumps(value)) == value)
    except (TypeError, ValueError):
        return False
