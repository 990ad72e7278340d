"""Settings in JSON files, held against the types that they have in code."""

from __future__ import annotations

import json
import math
import types
from collections.abc import Collection, Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Union, get_args, get_origin, get_type_hints

from mnergraph.quoting import listed, quoted


def read_json_object(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file.

    Raises:
        FileNotFoundError: when there is no such file.
        OSError: when it can't be read.
        ValueError: when it is empty, cut off, no JSON or no object, or holds a number that is not finite.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} is missing") from None
    except OSError as error:
        raise OSError(f"{path} can't be read: {error.strerror}") from error
    if not content.strip():
        raise ValueError(f"{path} is empty")
    try:
        found = json.loads(content, parse_constant=_refuse_constant, parse_float=_finite)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON, or cut off: {error}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{path} holds {quoted(found)}, which is no object")
    return found


def check_entries(
    entries: Mapping[str, Any], hints: Mapping[str, Any], where: str, *, optional: Collection[str] = ()
) -> None:
    """Check that an object has these entries and no others, each of its type.

    Args:
        entries: the object.
        hints: the type of each entry.
        where: what the object is, for the message.
        optional: entries that may be missing.

    Raises:
        ValueError: for the first fault.
    """
    missing = [name for name in hints if name not in entries and name not in optional]
    if missing:
        raise ValueError(f"{where} lacks {listed(missing)}")
    unknown = sorted(set(entries) - set(hints))
    if unknown:
        raise ValueError(f"{where} has {listed(unknown)}, which is not among {', '.join(hints)} of this version")
    for name, value in entries.items():
        if not matches(value, hints[name]):
            raise ValueError(f"{where} has {quoted(value)} for {name}; right is {type_name(hints[name])}")


def matches(value: Any, hint: Any) -> bool:
    """Return whether a JSON value can be of a type; True for types that JSON values don't show.

    A list can be any collection, an object a mapping or a dataclass with these fields, a whole number a float.
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(matches(value, option) for option in arguments)
    if origin is Literal:
        return any(value == option and type(value) is type(option) for option in arguments)
    if hint is None or hint is type(None):
        return value is None
    if hint in (bool, str):
        return isinstance(value, hint)
    if hint in (int, float):
        return isinstance(value, int if hint is int else int | float) and not isinstance(value, bool)
    if is_dataclass(hint) and isinstance(hint, type):
        hints = get_type_hints(hint)
        known = isinstance(value, dict) and set(value) <= set(hints)
        return known and all(matches(item, hints[name]) for name, item in value.items())
    collection = origin or hint
    if not (isinstance(collection, type) and issubclass(collection, Collection)):
        return True
    if issubclass(collection, Mapping):
        return isinstance(value, dict) and all(matches(item, arguments[1]) for item in value.values() if arguments)
    if collection is tuple and arguments and Ellipsis not in arguments:
        fits = isinstance(value, list) and len(value) == len(arguments)
        return fits and all(matches(item, option) for item, option in zip(value, arguments, strict=True))
    return isinstance(value, list) and all(matches(item, arguments[0]) for item in value if arguments)


def type_name(hint: Any) -> str:
    """Return a type as annotations write it, without modules.

    >>> type_name(int | None), type_name(tuple[str, ...])
    ('int | None', 'tuple[str, ...]')
    """
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " | ".join(map(type_name, arguments))
    if origin is Literal:
        return " | ".join(map(repr, arguments))
    if hint is None or hint is type(None):
        return "None"
    if origin is not None and arguments:
        inner = ", ".join("..." if item is Ellipsis else type_name(item) for item in arguments)
        return f"{getattr(origin, '__name__', origin)}[{inner}]"
    return str(getattr(hint, "__name__", hint))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no finite number")


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{quoted(text)} is no finite number")
    return value
