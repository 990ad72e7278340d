"""The parser of one command: jsonargparse's, with the names of our registries and errors in one line."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any, NoReturn, get_args, get_type_hints

import jsonargparse._typehints as typehints
from jsonargparse import ArgumentParser, set_parsing_settings

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.main import without_other_types
from mnergraph.data.formats.conversion_options import ConversionOptions
from mnergraph.models.batch_config import BatchConfig
from mnergraph.registry import LOADED, Registry

#: Parameters of a command whose fields are options of their own: ``--text``, not ``--inputs.text``.
FLATTENED = {"inputs": Inputs, "sources": StoreOptions, "batching": BatchConfig, "conversion": ConversionOptions}

#: Parameters of a command that are given by their place, as argparse's ``nargs``: ``mnergraph convert FILE``.
POSITIONAL = {"checkpoint": None, "directory": None, "models": "+", "source": None}
#: Parameters whose option is a word that Python keeps for itself.
OPTION_NAMES = {"system": "from", "source_format": "from", "target_format": "to"}

#: The registry of each base class, as ``module:attribute``: a class is named on the command line as it is listed.
REGISTRIES = {
    "Tagger": "mnergraph.models.registry:MODELS",
    "PostDataset": "mnergraph.data.registry:DATASETS",
    "Extractor": "mnergraph.features.vision.registry:EXTRACTORS",
    "Chunker": "mnergraph.features.text.registry:CHUNKERS",
}


class Parser(ArgumentParser):
    """Reports an error in one line; of an option that a class does not take it lists those that it takes."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text = without_other_types(" ".join(message.split()))
        if "denied by the" in text and "import path denylist" in text:
            text = f"{text.partition(', denied by the')[0]}: only classes of mnergraph and of modules given by --import"
        if self.prog.startswith("mnergraph "):
            text += f"; see {self.prog.replace(' [options]', '')} --help"
        else:  # the parser of one class's arguments is named after the script
            text += f"; there is {', '.join(self.get_defaults().keys())}"
        print(f"mnergraph: {text}", file=sys.stderr)
        raise SystemExit(2)


def run(name: str, function: Callable[..., Any], arguments: Sequence[str]) -> Any:
    """Call a command's function with the arguments of the command line."""
    parser = Parser(prog=f"mnergraph {name}", description=_summary(function), allow_abbrev=False)
    parameters = inspect.signature(function).parameters
    if parameters:
        parser.add_argument("--config", action="config", help="a YAML file of these options")
    flattened = {key: cls for key, cls in FLATTENED.items() if key in parameters}
    by_hand = {key for key in parameters if key in POSITIONAL or key in OPTION_NAMES}
    _add_by_hand(parser, function, by_hand)
    parser.add_function_arguments(function, as_group=False, skip={*flattened, *by_hand}, sub_configs=True)
    fields = {key: parser.add_class_arguments(cls, as_group=False) for key, cls in flattened.items()}
    restrict_imports()
    with registry_names():
        values = vars(parser.instantiate(parser.parse_args(list(arguments))))
    values.pop("config", None)
    values = {key: values.pop(OPTION_NAMES.get(key, key)) for key in by_hand} | values
    grouped = {key: cls(**{name: values.pop(name) for name in fields[key]}) for key, cls in flattened.items()}
    return function(**values, **grouped)


def restrict_imports(*packages: str) -> None:
    """Let options and configuration files name classes of this package, of plugins and of these packages alone.

    A class path in a file is imported and called, so that any other one could run any program.
    """
    set_parsing_settings(import_path_denylist=["*"], import_path_allowlist=["mnergraph", *sorted(LOADED), *packages])


def _add_by_hand(parser: Parser, function: Callable[..., Any], names: Collection[str]) -> None:
    """Add the parameters that jsonargparse would make options of the same name, with their types and help."""
    if not names:
        return
    import docstring_parser

    help_of = {item.arg_name: item.description for item in docstring_parser.parse(function.__doc__ or "").params}
    # of these alone: other parameters may have types that are imported for the type checker only
    own = SimpleNamespace(__annotations__={name: function.__annotations__[name] for name in names})
    types = get_type_hints(own, function.__globals__)
    for name in inspect.signature(function).parameters:
        if name in POSITIONAL:
            many = {} if POSITIONAL[name] is None else {"nargs": POSITIONAL[name]}
            kind = types[name] if not many else get_args(types[name])[0]
            parser.add_argument(name, type=kind, help=help_of[name], **many)
        elif name in OPTION_NAMES:
            default = inspect.signature(function).parameters[name].default
            given = {"required": True} if default is inspect.Parameter.empty else {"default": default}
            parser.add_argument(f"--{OPTION_NAMES[name]}", type=types[name], help=help_of[name], **given)


def _summary(function: Callable[..., Any]) -> str:
    return (inspect.getdoc(function) or "").partition("\n\n")[0]


class UnknownNameError(LookupError):
    """A name of the command line that no registry lists; no subclass of what jsonargparse catches."""


@contextmanager
def registry_names() -> Iterator[None]:
    """Within it, jsonargparse finds a class without a dot in its name in the registry of its base class.

    jsonargparse has one function for short names, which finds the imported subclasses by the names of their classes
    alone; it offers no other way to extend it (4.53). ``tests/cli/test_parser.py`` fails when that changes.
    """
    original = typehints.resolve_class_path_by_name

    def resolve(cls: type | tuple[type, ...], name: str) -> str:
        base = cls if isinstance(cls, type) else None
        if "." in name or base is None or base.__name__ not in REGISTRIES:
            return original(cls, name)
        registry = _registry(base)
        try:
            return registry.path(registry.resolve(name)).replace(":", ".")
        except ValueError as error:
            path = original(cls, name)  # a class that is imported and not registered
            if "." in path:
                return path
            raise UnknownNameError(str(error)) from None

    typehints.resolve_class_path_by_name = resolve
    try:
        yield
    finally:
        typehints.resolve_class_path_by_name = original


def _registry(base: type) -> Registry[Any]:
    from importlib import import_module

    module, _, attribute = REGISTRIES[base.__name__].partition(":")
    registry: Registry[Any] = getattr(import_module(module), attribute)
    return registry
