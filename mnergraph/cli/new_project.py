"""The command ``new-project``: a project of the user's own that runs at once: schema, model, settings, tests."""

from __future__ import annotations

import importlib.util
import keyword
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template

from mnergraph.files import replacing_entries
from mnergraph.models.registry import MODELS

#: The folder of the templates beside this module, and the folder in it that is the project's package.
TEMPLATES, PACKAGE = "project_template", "package"
#: Ends the name of a template, so that none is taken for a module of ours.
SUFFIX = ".tmpl"


def new_project(directory: Path, package: str | None = None, model: str | None = None) -> None:
    """Write a project of your own: a package with a schema and a model, settings, a test, a README.

    Args:
        directory: its folder, which is new or empty.
        package: name of its package; by default that of the folder, such as my_ner for my-ner.
        model: name of its model's class; by default that of the package, such as MyNer.

    Raises:
        FileExistsError: when there is something in the folder.
        ValueError: for a name that Python does not take, and one that is taken.
    """
    if directory.exists() and (not directory.is_dir() or any(directory.iterdir())):
        raise FileExistsError(f"{directory} is there and not empty; give a folder that is new or empty")
    folder = directory.resolve().name
    package = package or re.sub(r"\W+", "_", folder, flags=re.ASCII).strip("_").lower()
    model = model or "".join(part.capitalize() for part in package.split("_"))
    _check_names(package, model)
    project = re.sub(r"[^A-Za-z0-9._-]+", "-", folder).strip("-_.") or package
    names = {"project": project, "package": package, "Model": model, "version": version("mnergraph")}
    with replacing_entries(directory) as unfinished:
        for parts, template in _templates(files(__package__) / TEMPLATES):
            path = unfinished.joinpath(*(package if part == PACKAGE else part for part in parts))
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(Template(template.read_text(encoding="utf-8")).substitute(names), encoding="utf-8")
    print(f"{directory}: the package {package} with the model {model}")
    print(f"\n  cd {directory}\n  mnergraph --import {package} train --config train.yaml\n  pytest")


def _templates(folder: Traversable, *within: str) -> Iterator[tuple[tuple[str, ...], Traversable]]:
    """Yield the files to write, as the parts of their paths, and their templates."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _templates(entry, *within, entry.name)
        elif entry.name.endswith(SUFFIX):
            name = entry.name.removesuffix(SUFFIX)
            yield (*within, ".gitignore" if name == "gitignore" else name), entry


def _check_names(package: str, model: str) -> None:
    for option, name in (("package", package), ("model", model)):
        if not name.isidentifier() or keyword.iskeyword(name):
            raise ValueError(f"{name!r} is no name that Python takes; give another --{option}, such as my_ner or MyNer")
    spec = importlib.util.find_spec(package)
    if package == "tests" or (spec is not None and spec.origin is not None):  # a folder has no origin
        raise ValueError(f"{package!r} is the name of a module that is there already; give another --package")
    try:
        taken = MODELS.resolve(model)
    except ValueError:
        return
    raise ValueError(f"there is a model {taken!r} already; give another --model than {model!r}")
