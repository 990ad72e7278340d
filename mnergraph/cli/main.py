"""The command line: every option typed, in YAML or as an argument, through jsonargparse.

A command's module is imported when the command is chosen, and its dependencies when it runs: names, help and
lists cost no import of torch.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable
from importlib.metadata import version
from typing import Any, NoReturn, TextIO

from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.registry import Registry, load_plugins
from mnergraph.training.interruption import Stopped, handle_signals

#: Every command by name.
COMMANDS: Registry[Callable[..., Any]] = Registry(
    "command",
    {
        "train": ("mnergraph.cli.train:train", "Train a model, choose its checkpoint on dev, score it on test."),
        "evaluate": ("mnergraph.cli.evaluate:evaluate", "Score a saved model on a split."),
        "predict": ("mnergraph.cli.predict:predict", "Entities of a text with its image, or of a file of posts."),
        "explain": ("mnergraph.cli.explain:explain", "Write an HTML page of what a model attended to in posts."),
        "features": ("mnergraph.cli.extract:features", "Extract the features of a folder of images into a store."),
        "export": ("mnergraph.cli.export:export", "Write a feature store as files of evidence."),
        "compare": ("mnergraph.cli.compare:compare", "Saved models side by side on the same posts, as a page."),
        "convert-data": (
            "mnergraph.cli.convert_data:convert_data",
            "Convert annotated posts: Label Studio, doccano, brat, CoNLL, Hugging Face data sets.",
        ),
        "convert": ("mnergraph.cli.convert:convert", "Convert a checkpoint of UMT's, UMGF's or MGCMT's own code."),
        "verify-data": ("mnergraph.cli.verify_data:verify_data", "Counts, checksums and faults of a folder of posts."),
        "ls": ("mnergraph.cli.ls:ls", "List models, data sets and extractors."),
        "new-project": ("mnergraph.cli.new_project:new_project", "Write a project of your own that runs at once."),
        "quickstart": ("mnergraph.cli.quickstart:quickstart", "Make Lookalikes, train two models on it, compare."),
    },
)

#: The commands that take classes of one's own, by ``--import``.
EXTENSIBLE = ("train", "evaluate", "predict", "explain", "compare")
#: Environment variable that shows errors and warnings with their tracebacks.
TRACEBACK = "MNERGRAPH_TRACEBACK"


def main(arguments: list[str] | None = None) -> None:
    """Run the command that the arguments name; a user error prints one line and exits with status 2."""
    parsed = _options().parse_args(sys.argv[1:] if arguments is None else arguments)
    disable_malloc_trim()
    debugging = bool(os.environ.get(TRACEBACK))
    format_warning, show_warning = warnings.formatwarning, warnings.showwarning
    try:
        if not debugging:
            warnings.formatwarning, warnings.showwarning = _one_line, _above_bars
        from mnergraph.cli.parser import run

        options = parsed.options
        if parsed.command in EXTENSIBLE:
            inner, options = _imports().parse_known_args(options)
            load_plugins([*parsed.modules, *inner.modules])
        with handle_signals():
            run(parsed.command, COMMANDS[parsed.command], options)
    except Stopped as stopped:
        if debugging:
            raise
        if os.environ.get("LOCAL_RANK", "0") == "0":  # the first of several devices' processes
            print(f"mnergraph: {stopped}", file=sys.stderr, flush=True)
        raise SystemExit(stopped.exit_status) from stopped
    except (OSError, ValueError, LookupError, ImportError, FloatingPointError) as error:
        if debugging:
            raise
        _print_above_bars(f"mnergraph: {error_line(error)}")
        raise SystemExit(2) from error
    finally:
        warnings.formatwarning, warnings.showwarning = format_warning, show_warning


def error_line(error: Exception) -> str:
    """Return an error's message as one line; a bare key, which tells a user nothing, is named as a fault of ours."""
    message = " ".join(str(error.args[0] if isinstance(error, KeyError) and error.args else error).split())
    if isinstance(error, KeyError | IndexError) and " " not in message:
        return f"{type(error).__name__} {message!r}, a fault of mnergraph; {TRACEBACK}=1 shows where"
    return without_other_types(message) or type(error).__name__


def without_other_types(message: str) -> str:
    """Return a message of jsonargparse's without what it says of the types that a value is not meant to have.

    Of an option that may be null it says why the value is none of the allowed types, at each level of a nested one.

    >>> without_other_types("Does not validate against any of the Union subtypes Subtypes: [A, B] Errors: - it is low "
    ...     "- Expected a <class 'NoneType'> Given value type: <class 'int'> Given value: 1")
    'it is low'
    """
    place, found, rest = message.partition("Does not validate against any of the Union subtypes")
    reasons = [part.partition(" Given value")[0].strip() for part in rest.split(" - ")[1:]]
    own = [reason for reason in reasons if not reason.startswith(("Expected a <class", "Does not validate against"))]
    return place + "; ".join(dict.fromkeys(own)) if found and own else message


class _OneLine(argparse.ArgumentParser):
    """Argument parser that reports an error in one line."""

    def error(self, message: str) -> NoReturn:
        print(f"mnergraph: {message}; see mnergraph --help", file=sys.stderr)
        raise SystemExit(2)


def _options() -> argparse.ArgumentParser:
    """Return the parser of the command's name; the remaining arguments are the command's own."""
    parser = _OneLine(
        prog="mnergraph",
        parents=[_imports()],
        description="Multimodal named entity recognition on graphs.",
        epilog="\n".join(["commands:", *(f"  {name:<14}{COMMANDS.summary(name)}" for name in COMMANDS)]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"mnergraph {version('mnergraph')}")
    parser.add_argument("command", type=_command, metavar="command", help="one of those below")
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the command; see mnergraph <command> --help")
    return parser


def _imports() -> argparse.ArgumentParser:
    """Return the parser of ``--import``, which may stand before the command and among its options."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument(
        "--import",
        dest="modules",
        action="append",
        default=[],
        metavar="MODULE",
        help="a module with models, data sets or chunkers of your own, imported before the command; repeatable",
    )
    return parser


def _command(name: str) -> str:
    try:
        return COMMANDS.resolve(name)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Return a warning as one line, without the source line that raised it."""
    kind = "" if category is UserWarning else f" ({category.__name__})"
    return f"warning{kind}: {' '.join(str(message).split())}\n"


def _above_bars(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Write a warning above a running progress bar."""
    _print_above_bars(warnings.formatwarning(message, category, filename, lineno, line).removesuffix("\n"), file)


def _print_above_bars(line: str, file: TextIO | None = None) -> None:
    """Print a line, by default to standard error, above the progress bars that are running."""
    from tqdm import tqdm

    tqdm.write(line, file=file or sys.stderr)


if __name__ == "__main__":
    main()
