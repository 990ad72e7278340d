"""The peak memory of predictions of few and of many posts; `test_streaming` starts this file once.

    python memory_of_predictions.py FOLDER FEW MANY

Prints both in MiB.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import warnings
from pathlib import Path

warnings.filterwarnings("ignore", message="`torch.jit")  # caused by torch-geometric

import torch  # noqa: E402

from mnergraph import LabelSet, tiny_encoder  # noqa: E402
from mnergraph.cli.main import main  # noqa: E402
from mnergraph.models import BERTCRF  # noqa: E402


def write_posts(path: Path, number: int) -> Path:
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for index in range(number):
            words = [chance.choice(["paris", "ann", "sings"]) for _ in range(chance.randint(1, 8))]
            # so large that posts that are kept are noticed
            post = {"id": str(index), "words": words, "extra": {"note": f"{index} " * 1000}}
            file.write(json.dumps(post) + "\n")
    return path


if __name__ == "__main__":
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    encoder = tiny_encoder(["paris", "ann"], hidden_size=8, num_layers=1, heads=2)
    BERTCRF(encoder, LabelSet.from_types(["PER"])).save_pretrained(folder / "model")
    peaks = []
    for number in map(int, sys.argv[2:]):
        posts = write_posts(folder / "posts.jsonl", number)
        options = ["--posts", str(posts), "--out", str(folder / f"{number}.jsonl"), "--progress", "false"]
        main(["predict", "--model", str(folder / "model"), *options])
        assert (folder / f"{number}.jsonl").read_bytes().count(b"\n") == number
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    print(json.dumps(peaks))
