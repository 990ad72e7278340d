r"""CPU seconds and peak memory of what a user starts first: imports, help, lists, one prediction.

    uv run python -m benchmarks.startup --out benchmarks/results/startup.json

Every case is a process of its own, started in turns; medians of CPU time (user and system). The floor of a prediction
is a process that imports torch, torch_geometric and the text encoder's class and does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

FLOOR = (
    "import torch, torch_geometric.data, torch_geometric.nn\n"
    "from transformers import AutoConfig, AutoModel, AutoTokenizer, BertConfig, BertModel"
)
#: The state before packages imported lazily, on another machine (issue 11).
BEFORE = {"--help": 8.3, "ls": 8.3, "predict --help": 8.3}


def cases(model: Path) -> dict[str, list[str]]:
    """The command of every case by its name."""
    program = [sys.executable, "-W", "ignore", "-m", "mnergraph"]
    return {
        "nothing": [sys.executable, "-c", "pass"],
        "import torch_geometric": [sys.executable, "-W", "ignore", "-c", "import torch_geometric"],
        "import mnergraph": [sys.executable, "-c", "import mnergraph"],
        "--help": [*program, "--help"],
        "ls": [*program, "ls"],
        "predict --help": [*program, "predict", "--help"],
        "floor of a prediction": [sys.executable, "-W", "ignore", "-c", FLOOR],
        "predict --text": [*program, "predict", "--model", str(model), "--text", "new people love Paris"],
    }


def measured(command: list[str]) -> tuple[float, float]:
    """CPU seconds and peak resident memory in MiB of a process.

    Raises:
        RuntimeError: when it fails.
    """
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        message = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {message.decode()[-500:]}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def save_small_model(folder: Path) -> Path:
    """Save an untrained BERT-CRF over the tiny encoder, from a process of its own.

    This process imports no torch: a process that it starts would have its peak memory, too.
    """
    code = (
        "import sys\nfrom mnergraph import LabelSet, tiny_encoder\nfrom mnergraph.models import BERTCRF\n"
        "BERTCRF(tiny_encoder(['paris']), LabelSet.from_types(['PER', 'LOC'])).save_pretrained(sys.argv[1])"
    )
    subprocess.run([sys.executable, "-W", "ignore", "-c", code, str(folder / "model")], check=True)
    return folder / "model"


def run(repeats: int) -> dict[str, Any]:
    """Measure every case ``repeats`` times in turns, after one round that writes byte code."""
    with tempfile.TemporaryDirectory() as folder:
        commands = cases(save_small_model(Path(folder)))
        rounds = [{name: measured(command) for name, command in commands.items()} for _ in range(repeats + 1)][1:]
    found = {
        name: {
            "cpu seconds": round(statistics.median(round_[name][0] for round_ in rounds), 3),
            "peak MiB": round(statistics.median(round_[name][1] for round_ in rounds), 1),
        }
        for name in commands
    }
    seconds = {name: values["cpu seconds"] for name, values in found.items()}
    return {
        "cases": found,
        "import mnergraph / import torch_geometric": seconds["import mnergraph"] / seconds["import torch_geometric"],
        "predict --text / its floor": seconds["predict --text"] / seconds["floor of a prediction"],
        "cpu seconds before lazy imports, on another machine": BEFORE,
    }


def main() -> None:
    """Read the arguments, measure, print and write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="file to write")
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    measurements = run(arguments.repeats)
    from benchmarks.common import commit, machine

    found = {"benchmark": "startup", "commit": commit(), "machine": machine(), **measurements}
    print(json.dumps(found, indent=1))
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
