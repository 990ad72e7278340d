"""A noun chunker as plain data, and made again from it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from importlib import import_module
from typing import Any

from mnergraph.features.text.noun_chunks import Chunker

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
        ValueError: when its module is not here, with what to do.
    """
    path = config["class"]
    try:
        target = _import(path)
    except (ImportError, AttributeError) as error:
        module = path.partition(":")[0]
        raise ValueError(
            f"the model found noun phrases with {path}, which can't be imported here ({error}): put {module}.py into "
            f"this folder and give --import {module}"
        ) from error
    chunker: Chunker = target(**config["settings"]) if "settings" in config else target
    return chunker


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
