"""Imports go down only, the minimum versions are declared, and every module can be imported first and silently."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import networkx as nx
import pytest
from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "mnergraph"
#: What each layer may import of the package besides itself. Layers not named here are at the top.
_DATA = {"quoting", "files", "features", "graph", "pair", "labels", "registry"}
_MODELS = _DATA | {"nn", "data", "metrics"}
BELOW = {
    "labels": set(),
    "files": set(),
    "quoting": set(),
    "registry": set(),
    "pair": {"features.text.tweet_tokenizer"},
    "graph": {"pair", "labels", "features.text.tweet_tokenizer"},
    "features": {"files", "graph", "pair", "labels", "registry"},
    "data": _DATA | {"metrics"},
    "nn": {"quoting", "features", "graph", "pair", "labels", "metrics"},
    "metrics": {"labels", "pair"},
    # the drawing of a schema, which needs graph alone, is on a model's card
    "models": _MODELS | {"explain.plots.schema"},
    "training": _MODELS | {"models"},
    "explain": _MODELS | {"models"},
    "inference": _MODELS - {"registry"} | {"explain", "training", "models"},
    "engines": _MODELS | {"models", "inference"},
}
FLOORS = {"torch": "2.11", "torch-geometric": "2.8", "transformers": "5.17", "torchvision": "0.26"}
FILES = sorted(PACKAGE.rglob("*.py"))


def layer(module: str) -> str:
    """The second part of a module's name; "" for the package itself."""
    return [*module.split("."), ""][1]


def imported(source: str, module: str, *, package: bool = False) -> Iterator[tuple[int, str]]:
    """Line and full name of every module of the package that a source imports, anywhere in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + package]
                base = ".".join([*parts, *([base] if base else [])])
            # `from mnergraph import nn` names a layer in what it imports
            names = [f"{base}.{alias.name}" for alias in node.names] if base == "mnergraph" else [base]
        else:
            continue
        yield from ((node.lineno, name) for name in names if name.split(".")[0] == "mnergraph")


def faults(source: str, module: str, *, package: bool = False) -> list[str]:
    """The imports of a module that go up or sideways."""
    here = layer(module)
    if here not in BELOW:
        return []
    return [
        f"{module}, line {line}: {here} imports {name}"
        for line, name in imported(source, module, package=package)
        if layer(name) != here
        and not any(name == f"mnergraph.{below}" or name.startswith(f"mnergraph.{below}.") for below in BELOW[here])
    ]


def test_imports_go_down() -> None:
    found = []
    for path in FILES:
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        package = module.endswith(".__init__")
        found += faults(path.read_text(encoding="utf-8"), module.removesuffix(".__init__"), package=package)
    assert found == []


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
        ("mnergraph.models.card", "from mnergraph.explain.plots.schema import plot_schema", 0),
        ("mnergraph.models.card", "from mnergraph.explain.plots.graph import plot_graph", 1),
        ("mnergraph.models.umgf.model", "from mnergraph.nn.heads.crf import CRF\nimport torch", 0),
        ("mnergraph.cli.main", "from mnergraph.models import UMGF", 0),
    ],
)
def test_imports_that_go_up_are_found(module: str, source: str, found: int) -> None:
    assert len(faults(source, module)) == found


def test_import_floors() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {r.name: r for r in map(Requirement, project["dependencies"])}
    for name, floor in FLOORS.items():
        assert str(declared[name].specifier) == f">={floor}", name
    assert project["requires-python"] == ">=3.11"
    for requirement in declared.values():
        assert requirement.specifier.contains(Version(version(requirement.name)).base_version), requirement


def at_once(body: list[ast.stmt]) -> Iterator[ast.Import | ast.ImportFrom]:
    """The imports that are executed with a module: those in functions and for type checkers are not."""
    for node in body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            yield from at_once(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            for field in ("body", "orelse", "finalbody"):
                yield from at_once(getattr(node, field, []))
            for handler in getattr(node, "handlers", []):
                yield from at_once(handler.body)


def import_graph(package: Path) -> nx.DiGraph:
    """Which module of a package imports which when it is imported itself."""
    sources = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    # where a package has each of its lazily imported names from
    stubs: dict[tuple[str, str], str] = {}
    for stub in package.rglob("__init__.pyi"):
        name = ".".join(stub.relative_to(package.parent).parent.parts)
        for node in ast.parse(stub.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom):
                base = name.split(".")[: len(name.split(".")) + 1 - node.level]
                origin = ".".join([*base, *([node.module] if node.module else [])])
                stubs |= {(name, alias.asname or alias.name): origin for alias in node.names}

    def modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
            return
        assert node.level == 0 or node.module is not None
        for alias in node.names:
            origin = node.module or ""
            while (origin, alias.name) in stubs:
                yield origin
                origin = stubs[origin, alias.name]
            yield f"{origin}.{alias.name}" if f"{origin}.{alias.name}" in sources else origin

    graph = nx.DiGraph()
    graph.add_nodes_from(sources)
    for module, path in sources.items():
        for node in at_once(ast.parse(path.read_text(encoding="utf-8")).body):
            for found in modules(node):
                parts = found.split(".")
                # the packages of a module are imported before it; those of this module are begun already
                first = [".".join(parts[:end]) for end in range(1, len(parts) + 1)]
                needed = [name for name in first if name == found or not f"{module}.".startswith(f"{name}.")]
                graph.add_edges_from((module, name) for name in needed if name in sources and name != module)
    return graph


def test_every_module_can_be_imported_first() -> None:
    graph = import_graph(PACKAGE)
    assert graph.has_edge("mnergraph.nn.heads.grounding", "mnergraph.graph.layout")
    assert graph.has_edge("mnergraph.models.hub", "mnergraph.models.saved_0_1")
    assert list(nx.simple_cycles(graph)) == []


def test_cycles_are_found(tmp_path: Path) -> None:
    package = tmp_path / "mnergraph"
    (package / "part").mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "__init__.pyi").write_text("from .second import b as b\n")
    (package / "part" / "__init__.py").write_text("")
    (package / "first.py").write_text("from mnergraph import b\na = 1\n")
    (package / "second.py").write_text("if True:\n    from mnergraph import first\nb = first.a\n")
    (package / "third.py").write_text("def f():\n    import mnergraph.first\n")
    (package / "part" / "fourth.py").write_text(
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mnergraph.part.fifth\n"
    )
    (package / "part" / "fifth.py").write_text(
        "try:\n    import mnergraph.part.fourth\nexcept ImportError:\n    pass\n"
    )
    (found,) = nx.simple_cycles(import_graph(package))
    assert sorted(found) == ["mnergraph.first", "mnergraph.second"]
    assert import_graph(package).has_edge("mnergraph.part.fifth", "mnergraph.part.fourth")


#: Imports modules; reports errors, and warnings from the package.
IMPORT_ALL = """
import importlib, json, sys, warnings
package, *names = sys.argv[1:]
report = {}
for name in names:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            importlib.import_module(name)
        except Exception as error:
            report[name] = [repr(error)]
            continue
    ours = [str(warning.message) for warning in caught if warning.filename.startswith(package)]
    if ours:
        report[name] = ours
print(json.dumps(report))
"""


def import_all(package: Path, names: list[str]) -> dict[str, list[str]]:
    """What goes wrong where the modules are imported: errors and warnings by module."""
    command = [sys.executable, "-c", IMPORT_ALL, str(package), *names]
    done = subprocess.run(command, cwd=package.parent, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    report: dict[str, list[str]] = json.loads(done.stdout)
    return report


def test_every_module_is_imported_silently() -> None:
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__") for path in FILES]
    assert import_all(PACKAGE, [name for name in names if not name.endswith("__main__")]) == {}


def test_warnings_on_import_are_found(tmp_path: Path) -> None:
    package = tmp_path / "mnergraph"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "broken.py").write_text("1 / 0\n")
    (package / "old.py").write_text("import warnings\nwarnings.warn('deprecated', stacklevel=1)\n")
    (package / "good.py").write_text("x = 1\n")
    report = import_all(package, ["mnergraph", "mnergraph.broken", "mnergraph.old", "mnergraph.good"])
    assert report.keys() == {"mnergraph.broken", "mnergraph.old"}
    assert report["mnergraph.old"] == ["deprecated"]


#: Attributes of PyG's data objects and storages that are not part of its public API.
PYG_PRIVATE = {
    "_mapping",
    "_global_store",
    "_node_store_dict",
    "_edge_store_dict",
    "_key",
    "_parent",
    "_slice_dict",
    "_inc_dict",
    "_num_graphs",
}


def pyg_private_accesses(source: str) -> list[str]:
    """Line and name of every private attribute of PyG that a source reads or sets, on objects other than ``self``."""
    return [
        f"line {node.lineno}: {node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and node.attr in PYG_PRIVATE
        and not (isinstance(node.value, ast.Name) and node.value.id == "self")
    ]


def test_only_collate_uses_private_attributes_of_pyg() -> None:
    found = {
        path.relative_to(PACKAGE).as_posix(): pyg_private_accesses(path.read_text(encoding="utf-8")) for path in FILES
    }
    users = {path: lines for path, lines in found.items() if lines}
    assert users.pop("graph/collate.py"), "if collate needs them no more, neither does this test"
    assert users == {}
