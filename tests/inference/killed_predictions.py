"""A prediction that is killed again and again; `test_streaming` starts this file once.

    python killed_predictions.py MODEL POSTS OUT WINDOW SEED

Prints how often it was killed, and how many lines were kept at each start.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="`torch.jit")  # caused by torch-geometric

import torch  # noqa: E402

import mnergraph.inference.predictor as predictor  # noqa: E402
from mnergraph.cli.main import main  # noqa: E402

if __name__ == "__main__":
    torch.set_num_threads(1)
    model, posts, out, window, seed = sys.argv[1:]
    predictor.WINDOW = int(window)
    chance, unfinished, kept = random.Random(seed), Path(f"{out}.unfinished"), []
    while not Path(out).exists():
        kept.append(unfinished.read_bytes().count(b"\n") if unfinished.exists() else 0)
        child = os.fork()
        if not child:
            arguments = ["predict", "--model", model, "--posts", posts, "--out", out, "--resume", "true"]
            main([*arguments, "--progress", "false"])
            os._exit(0)
        # the first windows come after the model is loaded
        before = kept[-1]
        deadline = time.monotonic() + 60
        wanted = before + chance.choice([1, 1, 2]) * int(window)
        while time.monotonic() < deadline:
            done, status = os.waitpid(child, os.WNOHANG)
            if done:
                assert status == 0, status
                break
            lines = unfinished.read_bytes().count(b"\n") if unfinished.exists() else 0
            if lines >= wanted:
                time.sleep(chance.random() * 0.02)
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                break
            time.sleep(0.002)
    print(json.dumps(kept))
