"""No call of the sources runs code that comes with a model: neither the hub's modules nor pickles."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for part in ("mnergraph", "benchmarks", "tools") for path in (ROOT / part).rglob("*.py"))
#: Methods of transformers' classes that take ``trust_remote_code``.
LOADERS = ("from_pretrained", "from_config")
#: Calls that run code of a file or repository, and have no argument that forbids it.
FORBIDDEN = (
    "pickle.load",
    "pickle.loads",
    "joblib.load",
    "dill.load",
    "torch.hub.load",
    "torch.package.PackageImporter",
)


def own_classes() -> set[str]:
    """The classes of the sources, whose `from_pretrained` loads no code."""
    trees = [ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES]
    return {node.name for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}


def faults(source: str, own: set[str]) -> list[str]:
    """Line and call of what may run code."""
    tree = ast.parse(source)
    modules = {
        alias.asname or alias.name: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module
        for alias in node.names
    }
    modules |= {
        alias.asname: alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
        if alias.asname
    }
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        name = f"{modules.get(first, first)}{dot}{rest}"
        options = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        receiver, _, method = name.rpartition(".")
        loads = method in LOADERS and receiver.rpartition(".")[2] not in own | {"cls", "self"}
        if (loads or name == "transformers.pipeline") and options.get("trust_remote_code") != "False":
            found.append(f"line {node.lineno}: {name} without trust_remote_code=False")
        if name == "torch.load" and options.get("weights_only") != "True":
            found.append(f"line {node.lineno}: {name} without weights_only=True")
        if name in ("numpy.load", "np.load") and options.get("allow_pickle", "False") != "False":
            found.append(f"line {node.lineno}: {name} with allow_pickle")
        if name in FORBIDDEN:
            found.append(f"line {node.lineno}: {name}")
    return found


def test_the_sources() -> None:
    own = own_classes()
    assert {"Tagger", "ProcessorConfig"} <= own
    found = {str(path.relative_to(ROOT)): faults(path.read_text(encoding="utf-8"), own) for path in SOURCES}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("source", "count"),
    [
        ("AutoModel.from_pretrained(name)", 1),
        ("AutoModel.from_pretrained(name, trust_remote_code=False)", 0),
        ("AutoModel.from_pretrained(name, trust_remote_code=True)", 1),
        ("AutoModel.from_pretrained(name, trust_remote_code=trusted)", 1),
        ("AutoModel.from_pretrained(name, **options)", 1),
        ("AutoModel.from_config(AutoConfig.from_pretrained(name))", 2),
        ("Tagger.from_pretrained(name)", 0),
        ("mnergraph.Tagger.from_pretrained(name)", 0),
        ("def f(auto_class): return auto_class.from_pretrained(name)", 1),
        ("import transformers\ntransformers.pipeline('ner')", 1),
        ("import transformers as hf\nhf.pipeline('ner', trust_remote_code=False)\nhf.pipeline('ner')", 1),
        ("from transformers import pipeline as make\nmake('ner')", 1),
        ("import mnergraph\nmnergraph.pipeline(model)", 0),
        ("import torch\ntorch.load(path)", 1),
        ("import torch\ntorch.load(path, weights_only=True)", 0),
        ("import torch\ntorch.load(path, weights_only=False)", 1),
        ("from torch import load\nload(path)", 1),
        ("import torch as t\nt.load(path)", 1),
        ("import numpy as np\nnp.load(path, allow_pickle=True)\nnp.load(path)", 1),
        ("import pickle\npickle.load(file)", 1),
        ("from torch import hub\nhub.load('a', 'b')", 1),
    ],
)
def test_calls_that_may_run_code_are_found(source: str, count: int) -> None:
    assert len(faults(source, {"Tagger"})) == count
