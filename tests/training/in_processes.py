"""Runs that need processes of their own; `test_run` starts this file once.

    python in_processes.py FOLDER

A run in FOLDER/killed is killed within its epoch; one in FOLDER/two trains on two devices.
"""

from __future__ import annotations

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

from mnergraph.training import evaluate, fit  # noqa: E402


class ExitProcess(Callback):
    """Ends the process without cleanup."""

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 5:
            os._exit(9)


def train_until_exit(folder: Path) -> None:
    loop = make_loop(epochs=1, save_every=3, lightning={"callbacks": [ExitProcess()]})
    fit(make_model(dropout=0.3), make_posts(42, 1), make_posts(4, 2), folder, optimizer=FAST, trainer=loop)


def on_two_devices(folder: Path) -> dict[str, float]:
    # 21 dev posts in batches of 8: one device has two batches, the other one
    train, dev = make_posts(60, 1), make_posts(21, 2)
    loop = make_loop(epochs=4, devices=2, lightning={"strategy": "ddp_fork"})
    model = fit(make_model("UMGF"), train, dev, folder, optimizer=FAST, trainer=loop)
    last = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)
    (kept,) = (one for name, one in last["callbacks"].items() if "dev_f1" in name)
    return {
        "steps": last["global_step"],
        "f1": evaluate(model, dev, progress=False)[0].lenient.f1,
        "best": float(kept["best_model_score"]),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    here = Path(sys.argv[1])
    child = os.fork()
    if not child:
        train_until_exit(here / "killed")
    _, status = os.waitpid(child, 0)
    found = {"died": os.waitstatus_to_exitcode(status), **on_two_devices(here / "two")}
    (here / "found.json").write_text(json.dumps(found))
