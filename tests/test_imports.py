"""Imports go down only, the floors are what they are, and importing says nothing."""

from __future__ import annotations

import ast
import importlib
import tomllib
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mnergraph"
#: What each room may import of ours beside itself. Rooms not named here stand at the top.
BELOW = {
    "labels": set(),
    "registry": set(),
    "pair": {"features.text.tweet_tokenizer"},
    "graph": {"pair", "labels"},
    "features": {"graph", "pair", "labels", "registry"},
    "data": {"features", "graph", "pair", "labels", "registry"},
    "nn": {"features", "graph", "pair", "labels", "metrics"},
    "metrics": {"labels"},
    "models": {"nn", "data", "features", "graph", "pair", "labels", "metrics", "registry"},
    "training": {"models", "nn", "data", "features", "graph", "pair", "labels", "metrics", "registry"},
    "explain": {"models", "nn", "data", "features", "graph", "pair", "labels", "metrics", "registry"},
    "inference": {
        "explain",
        "training",
        "models",
        "nn",
        "data",
        "features",
        "graph",
        "pair",
        "labels",
        "metrics",
    },
}
FLOORS = {"torch": "2.11", "torch-geometric": "2.8", "transformers": "5.17", "torchvision": "0.26"}
FILES = sorted(PACKAGE.rglob("*.py"))


def room(module: str) -> str:
    """The second part of a module's name; "" for the front door."""
    return [*module.split("."), ""][1]


def imported(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of everything of ours that a source imports, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                base = ".".join([*parts, *([base] if base else [])])
            # `from mnergraph import nn` names a room in what it imports
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "mnergraph" else [base]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "mnergraph")


def faults(source: str, module: str, *, package: bool = False) -> list[str]:
    """The imports of a module that go up or sideways."""
    here = room(module)
    if here not in BELOW:
        return []
    return [
        f"{module}, line {line}: {here} imports {name}"
        for line, name in imported(source, module, package=package)
        if room(name) != here
        and not any(name == f"mnergraph.{below}" or name.startswith(f"mnergraph.{below}.") for below in BELOW[here])
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
    package = module.endswith(".__init__")
    source = path.read_text(encoding="utf-8")
    assert faults(source, module.removesuffix(".__init__"), package=package) == []


@pytest.mark.parametrize(
    ("module", "source", "found"),
    [
        ("mnergraph.nn.state", "from mnergraph.data import conll", 1),
        ("mnergraph.data.formats.conll", "import mnergraph.nn.state", 1),
        ("mnergraph.graph.layout", "def f():\n    from mnergraph.nn.state import Graph", 1),
        ("mnergraph.graph.layout", "from ..features import text", 1),
        ("mnergraph.graph.layout", "from . import pair", 0),
        ("mnergraph.nn.state", "from mnergraph import models", 1),
        ("mnergraph.nn.state", "from mnergraph import Pair", 1),
        ("mnergraph.metrics.scores", "from mnergraph.graph import Pair", 1),
        ("mnergraph.metrics.scores", "from mnergraph.labels import spans", 0),
        ("mnergraph.models.umgf.model", "from mnergraph.training import fit", 1),
        ("mnergraph.models.umgf.model", "from mnergraph.explain import record_attention", 1),
        ("mnergraph.models.umgf.model", "from mnergraph.nn.heads.crf import CRF\nimport torch", 0),
        ("mnergraph.cli.main", "from mnergraph.models import UMGF", 0),
    ],
)
def test_the_walk_sees_what_goes_up(module: str, source: str, found: int) -> None:
    assert len(faults(source, module)) == found


def test_import_floors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = {r.name: r for r in map(Requirement, project["dependencies"])}
    for name, floor in FLOORS.items():
        assert str(wanted[name].specifier) == f">={floor}", name
    assert project["requires-python"] == ">=3.11"
    for requirement in wanted.values():
        assert requirement.specifier.contains(Version(version(requirement.name)).base_version), requirement


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_importing_says_nothing(path: Path) -> None:
    """Warnings of ours are errors here, as they are for all that pytest imported before."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert [w for w in seen if Path(w.filename).is_relative_to(PACKAGE)] == []
