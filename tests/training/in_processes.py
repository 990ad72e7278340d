"""Runs that need processes of their own; `test_run` starts this file once.

    python in_processes.py FOLDER

A run in FOLDER/killed is killed within its epoch; one in FOLDER/two trains on two devices, those in FOLDER/equal on
two and on one with the same global batches, and one in FOLDER/two_killed is killed on two devices, and resumed.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("error")
warnings.filterwarnings("ignore", message="`torch.jit")  # caused by torch-geometric

sys.path.insert(0, str(Path(__file__).parent))

import torch  # noqa: E402
from conftest import FAST, make_loop, make_model, make_posts  # noqa: E402
from lightning.pytorch.callbacks import Callback  # noqa: E402
from torch.multiprocessing.spawn import ProcessExitedException  # noqa: E402

from mnergraph.models import Tagger  # noqa: E402
from mnergraph.training import evaluate, fit  # noqa: E402
from mnergraph.training.checkpoints import AtomicCheckpointIO  # noqa: E402


class ExitProcess(Callback):
    """Ends the process without cleanup."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            os._exit(9)


def train_until_exit(folder: Path) -> None:
    loop = make_loop(epochs=1, save_every=3, lightning={"callbacks": [ExitProcess()]})
    fit(make_model(dropout=0.3), make_posts(42, 1), make_posts(4, 2), folder, optimizer=FAST, trainer=loop)


def on_two_devices(folder: Path) -> dict[str, Any]:
    # 21 dev posts in batches of 8: one device has two batches, the other one
    train, dev = make_posts(60, 1), make_posts(21, 2)
    loop = make_loop(epochs=4, devices=2, lightning={"strategy": "ddp_fork"})
    model = fit(make_model("UMGF"), train, dev, folder, optimizer=FAST, trainer=loop)
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    return {
        "steps": last["global_step"],
        "f1": evaluate(model, dev, progress=False)[0].lenient.f1,
        "best": best_score(folder),
    }


def run_for_equality(folder: Path, *, resume: bool = False, **lightning: Any) -> Tagger:
    """Train without chance: 16 batches of 4, taken two at a time."""
    devices = 2 if "strategy" in lightning else 1
    loop = make_loop(epochs=2, devices=devices, save_every=3, lightning=lightning)
    train, dev = make_posts(64, 1), make_posts(21, 2)
    model = make_model("UMGF")
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    return fit(model, train, dev, folder, optimizer=FAST, trainer=loop, resume=resume)


def record_writers(folder: Path) -> None:
    """Append the process that writes a checkpoint to a file."""
    original = AtomicCheckpointIO.save_checkpoint

    def save(self: AtomicCheckpointIO, checkpoint: Any, path: Any, *args: Any, **options: Any) -> None:
        with (folder / "writers").open("a") as file:
            file.write(f"{os.getpid()} {Path(path).name}\n")
        original(self, checkpoint, path, *args, **options)

    AtomicCheckpointIO.save_checkpoint = save  # type: ignore[method-assign]


def two_as_one(folder: Path) -> dict[str, Any]:
    dev = make_posts(21, 2)
    one = run_for_equality(folder / "one", accumulate_grad_batches=2)
    record_writers(folder)
    two = run_for_equality(folder / "two", strategy="ddp_fork")
    with contextlib.suppress(ProcessExitedException):
        run_for_equality(folder / "killed", strategy="ddp_fork", callbacks=[ExitProcess()])
    resumed = run_for_equality(folder / "killed", strategy="ddp_fork", resume=True)
    weights = [model.state_dict() for model in (one, two, resumed)]
    writers = [line.split() for line in (folder / "writers").read_text().splitlines()]
    return {
        "difference": largest_difference(weights[0], weights[1]),
        "difference after a kill": largest_difference(weights[1], weights[2]),
        "moved": largest_difference(weights[0], make_model("UMGF").state_dict()),
        "tags": [evaluate(model, dev, progress=False)[1] for model in (one, two)],
        "f1": [evaluate(model, dev, progress=False)[0].lenient.f1 for model in (one, two)],
        "best": [best_score(folder / name) for name in ("one", "two")],
        "writers": len({process for process, _ in writers}),
        "writes": len(writers),
    }


def largest_difference(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    return max(
        float((first[name].double() - second[name].double()).abs().max()) for name in first if first[name].numel()
    )


def best_score(folder: Path) -> float:
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (kept,) = (one for name, one in last["callbacks"].items() if "dev_f1" in name)
    return float(kept["best_model_score"])


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1])
    child = os.fork()
    if not child:
        train_until_exit(here / "killed")
    _, status = os.waitpid(child, 0)
    found = {"died": os.waitstatus_to_exitcode(status), **on_two_devices(here / "two")}
    (here / "equal").mkdir()
    found["two as one"] = two_as_one(here / "equal")
    (here / "found.json").write_text(json.dumps(found))
