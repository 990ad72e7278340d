"""The command line: every option typed, in YAML or as an argument, through jsonargparse."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import NoReturn, TextIO

from jsonargparse import ArgumentParser, auto_cli
from lightning.fabric.utilities.exceptions import MisconfigurationException
from tqdm import tqdm

from mnergraph.cli.evaluate import evaluate
from mnergraph.cli.explain import explain
from mnergraph.cli.extract import features
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.cli.predict import predict
from mnergraph.cli.quickstart import quickstart
from mnergraph.cli.train import train
from mnergraph.data.registry import DATASETS
from mnergraph.data.verify import verify as verify_posts
from mnergraph.features.vision.registry import EXTRACTORS
from mnergraph.models.registry import MODELS, SCHEMAS


def verify_data(root: Path, images: Path | None = None, progress: bool = True) -> None:
    """Counts, checksums, faulty pictures, label faults and leaks between splits of a folder of posts.

    Args:
        root: the folder, with train.txt, valid.txt, test.txt or some of them.
        images: folder of the pictures, if it lies elsewhere.
        progress: whether to show a progress bar.
    """
    report = verify_posts(root, images=images, progress=progress)
    print(report)
    if report.problems:
        raise SystemExit(1)


def ls() -> None:
    """Lists models, data sets, extractors and the models' schemas."""
    print("Models")
    for name, model in MODELS.items():
        print(f"  {name:<12} {_first_line(model)}")
    print("\nData sets")
    for name, data in DATASETS.items():
        print(f"  {name:<12} {_first_line(data)}")
    print("\nExtractors")
    for name, extractor in EXTRACTORS.items():
        print(f"  {name:<12} {_first_line(extractor)}")
    print("\nSchemas")
    for name, schema in SCHEMAS.items():
        print(f"  {name}")
        for line in str(schema).split("\n"):
            print(f"    {line}")


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().split("\n")[0]


COMMANDS = {
    "train": train,
    "evaluate": evaluate,
    "predict": predict,
    "explain": explain,
    "features": features,
    "verify-data": verify_data,
    "ls": ls,
    "quickstart": quickstart,
}


class Parser(ArgumentParser):
    """Says a fault of the arguments in one line, and what there is where a name is unknown."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        parser = getattr(ex, "subcommand_parser", None) or self
        told = " ".join(message.split())
        unknown = re.search(r'"(?:\w+\.)?(data|model|extractor)":.* import path string: (.*)', told)
        if unknown:
            models = [kind.__name__ for kind in MODELS.values()]
            there = {"data": DATASETS, "model": models, "extractor": EXTRACTORS}[unknown[1]]
            told = f"there is no {unknown[1]} {unknown[2]!r}; there is {', '.join(there)}"
        program = parser.prog.replace(" [options]", "")
        if not program.startswith("mnergraph"):  # the parser of one class's options is named after the script
            program = "mnergraph"
        print(f"mnergraph: {told}; see {program} --help", file=sys.stderr)
        raise SystemExit(2)


#: With this in the environment faults and warnings are told with where in the program they arose.
TRACEBACK = "MNERGRAPH_TRACEBACK"


def main(arguments: list[str] | None = None) -> None:
    """Runs the command that the arguments name; a fault of the user's is one line and exit status 2."""
    given = sys.argv[1:] if arguments is None else arguments
    disable_malloc_trim()
    debugging = bool(os.environ.get(TRACEBACK))
    formatted, shown = warnings.formatwarning, warnings.showwarning
    try:
        if not debugging:
            warnings.formatwarning, warnings.showwarning = _one_line, _above_bars
        auto_cli(
            COMMANDS,
            args=_class_names(given),
            as_positional=False,
            prog="mnergraph",
            parser_class=Parser,
        )
    except (
        OSError,
        ValueError,
        KeyError,
        ImportError,
        FloatingPointError,
        MisconfigurationException,
    ) as fault:
        if debugging:
            raise
        told = str(fault.args[0] if isinstance(fault, KeyError) else fault)
        print(f"mnergraph: {' '.join(told.split())}", file=sys.stderr)
        raise SystemExit(2) from fault
    finally:
        warnings.formatwarning, warnings.showwarning = formatted, shown


def _one_line(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """A warning without the line of the program that gave it, which a user can do nothing about."""
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
    """Writes a warning so that no progress bar runs into it."""
    told = warnings.formatwarning(message, category, filename, lineno, line)
    tqdm.write(told, file=file or sys.stderr, end="")


def _class_names(arguments: list[str]) -> list[str]:
    """The arguments, the models that train is given by the papers' names named as the classes are."""
    if arguments[:1] != ["train"]:
        return arguments  # elsewhere --model is a folder
    names = {name: model.__name__ for name, model in MODELS.items()}
    return [
        names.get(argument, argument)
        if before == "--model"
        else f"--model={names.get(argument.removeprefix('--model='), argument.removeprefix('--model='))}"
        if argument.startswith("--model=")
        else argument
        for before, argument in zip(["", *arguments], arguments, strict=False)
    ]


if __name__ == "__main__":
    main()
