"""What each start of the program may import, in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest
from runs import Run

HEAVY = (
    "torch",
    "torch._dynamo",
    "torch_geometric.datasets",
    "lightning",
    "sklearn",
    "seqeval",
    "torchvision",
    "matplotlib",
    "transformers",
)
#: What the text encoder and torch-geometric import themselves; predict can't do without them.
NEEDED = "import torch_geometric, transformers; transformers.BertModel"


def imported(code: str) -> set[str]:
    """Which heavy modules a process has imported after running this code."""
    show = f"import sys; print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    run = ["-W", "ignore", "-c", f"try:\n    {code}\nfinally:\n    {show}"]
    done = subprocess.run([sys.executable, *run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    names: list[str] = eval(done.stderr.strip().splitlines()[-1])
    return set(names)


def command(*arguments: str) -> str:
    return f"import mnergraph.cli.main as m\n    try: m.main({list(arguments)!r})\n    except SystemExit: pass"


@pytest.mark.parametrize(
    "code",
    ["import mnergraph", command("--help"), command("--version"), command("ls"), command("predict", "--help")],
    ids=["import", "help", "version", "ls", "predict-help"],
)
def test_no_heavy_imports(code: str) -> None:
    assert imported(code) == set()


def test_predict_imports_what_it_needs(trained: Run) -> None:
    found = imported(command("predict", "--model", str(trained.model), "--text", "Jordan wins"))
    assert "torch" in found
    assert found <= imported(NEEDED) | {"torchvision"}, "the trained model encodes regions by torchvision"
    assert not found & {"lightning", "sklearn", "seqeval", "matplotlib"}
