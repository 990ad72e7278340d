"""Constructor arguments as plain JSON values, and back: what a saved model's settings are."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from operator import attrgetter
from typing import Any, get_args, get_origin, get_type_hints

from mnergraph.data.json_settings import matches, type_name
from mnergraph.quoting import listed, quoted

#: Arguments that are saved as files of their own.
PARTS = ("encoder", "labels", "nearest_words")
#: Whether a dataclass is frozen, which `dataclasses` has no function for.
_is_frozen = attrgetter("__dataclass_params__.frozen")


def init_arguments(cls: type, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a call of the constructor by name, defaults included, without encoder and the like.

    Empty for a call that the constructor does not take: calling it says why.
    """
    try:
        bound = inspect.signature(_constructor(cls)).bind_partial(None, *args, **kwargs)
    except TypeError:
        return {}
    bound.apply_defaults()
    arguments = dict(list(bound.arguments.items())[1:])
    for name, parameter in bound.signature.parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            arguments |= arguments.pop(name)
    return {name: value for name, value in arguments.items() if name not in PARTS}


def _constructor(cls: type) -> Callable[..., None]:
    # the class's own signature would be that of the hub's mixin, which has a __new__; mypy: a subclass may take others
    return cls.__init__  # type: ignore[misc]


def to_plain(cls: type, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return arguments as plain JSON values; the order of ``ablate`` has no meaning, so it is sorted.

    Raises:
        ValueError: for one that is neither a plain value nor a frozen dataclass of plain values.
    """
    plain = {name: _plain(value, f"argument {name!r} of {cls.__name__}") for name, value in arguments.items()}
    return plain | ({"ablate": sorted(plain["ablate"])} if "ablate" in plain else {})


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, set | frozenset):
        return sorted(_plain(item, where) for item in value)
    if isinstance(value, list | tuple):
        return [_plain(item, where) for item in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _plain(item, where) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type) and _is_frozen(value):
        return {field.name: _plain(getattr(value, field.name), where) for field in fields(value)}
    raise ValueError(
        f"{where} is a {type(value).__name__}, which can't be saved; take numbers, strings, lists, dicts or a frozen "
        "dataclass of them, and build the rest in the constructor"
    )


def from_plain(cls: type, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments that `to_plain` made these of; the constructor's annotations say which are dataclasses.

    Raises:
        ValueError: for an argument that the constructor does not have or a value that is not of its annotation's type,
            and when an annotation names a type that is not imported at run time.
    """
    parameters = inspect.signature(_constructor(cls)).parameters
    known = [name for name in parameters if name not in (*PARTS, "self")]
    if not any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values()):
        unknown = [name for name in settings if name not in known]
        if unknown:
            raise ValueError(f"{cls.__name__} has no argument {listed(unknown)}; it has {', '.join(known) or 'none'}")
    try:
        hints = get_type_hints(_constructor(cls))
    except NameError as error:
        raise ValueError(
            f"the annotations of {cls.__name__}'s constructor can't be read: {error}; import the type in the module "
            "itself, not under TYPE_CHECKING"
        ) from error
    for name, value in settings.items():
        default = value is None and name in parameters and parameters[name].default is None
        if name in hints and not default and not matches(value, hints[name]):
            right = type_name(hints[name])
            raise ValueError(f"argument {name!r} of {cls.__name__} is {quoted(value)}; right is {right}")
    return {name: _restored(value, hints.get(name)) for name, value in settings.items()}


def _restored(value: Any, hint: Any) -> Any:
    for option in (hint, *get_args(hint)):
        if isinstance(value, dict) and is_dataclass(option) and isinstance(option, type):
            hints = get_type_hints(option)
            return option(**{name: _restored(item, hints.get(name)) for name, item in value.items()})
        if isinstance(value, list) and get_origin(option) is tuple:
            return tuple(value)
    return value
