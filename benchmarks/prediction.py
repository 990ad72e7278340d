r"""Prediction of a file of posts against a loop over the bare text encoder: in any order, in fp32 and in bf16.

    uv run python -m benchmarks.prediction --encoder MINILM --root TWITTER2017 --out benchmarks/results/prediction.json

BERT-CRF over an encoder, with scores that make one word in ten an entity's; without an encoder one of random weights
in MiniLM's shape, without a folder made-up posts. What is compared is computed in turns within this one run; medians.
Rates are by the clock, which needs a quiet machine and shows what threads do beside the model, and by CPU seconds of
the process, on which other work has less influence.

- *encoder*: the encoder alone, batches of as many pieces, sorted, ready as tensors; in bf16 under autocast
- *encoder in bfloat16*: the same, its weights and states in bfloat16, as `Predictor` computes
- *batches of posts*: windows of 256 posts in batches of 32, as before there were batches of pieces
- *predict*: `Predictor` from a file of JSON lines to a file, as the command does
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from jsonargparse import auto_cli

from benchmarks.common import LABELS, commit, machine, measure, random_encoder, some_posts, write_result
from benchmarks.recording import SHAPES
from mnergraph import BatchConfig, Predictor, load_encoder
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data import read_conll
from mnergraph.data.formats.jsonl import stream_posts
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.batching import length_batches
from mnergraph.models import BERTCRF, Tagger
from mnergraph.models.batch_config import Precision
from mnergraph.models.batches import inference, run_in_batches
from mnergraph.nn.bfloat16 import in_use
from mnergraph.pair import Pair

#: Share of words that the model tags as entities, about that of the Twitter data.
ENTITY_WORDS = 0.1
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")
#: Posts of the large file between two runs of the encoder.
TURN = 10_000

Result = TypeVar("Result")


def tagger(encoder: TextEncoderModel, posts: Sequence[Pair]) -> BERTCRF:
    """Return BERT-CRF whose scores of O are so high that `ENTITY_WORDS` of the words are entities'."""
    torch.manual_seed(0)
    model = BERTCRF(encoder, LABELS).eval()
    (scores,) = (part for part in model.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 9)
    low, high = -50.0, 50.0
    for _ in range(12):
        scores.bias.data[LABELS.index("O")] = (low + high) / 2
        found = run_in_batches(model, posts[:256], lambda graph, _: model.decode_tags(graph))
        share = sum(tag != "O" for tags in found for tag in tags) / sum(map(len, found))
        low, high = ((low + high) / 2, high) if share > ENTITY_WORDS else (low, (low + high) / 2)
    return model


def bare_loops(
    model: Tagger, posts: Sequence[Pair], precision: Precision, device: str
) -> dict[str, Callable[[], None]]:
    """Return calls of the encoder alone on sorted batches of pieces, by name."""
    assert isinstance(model.encoder, TextEncoderModel)
    network = model.encoder.model
    lengths = [model.builder.length(pair) + 2 for pair in posts]
    batches = []
    for indices in model.batches(posts, BatchConfig().pieces_on(device)):
        mask = torch.zeros(len(indices), max(lengths[index] for index in indices), dtype=torch.long, device=device)
        for row, index in enumerate(indices):
            mask[row, : lengths[index]] = 1
        ids = torch.randint(network.config.vocab_size, mask.shape, device=device)
        batches.append({"input_ids": ids * mask, "attention_mask": mask})

    def run(*, copied: bool) -> None:
        with inference(model, precision):
            chosen = in_use(network) if copied else network
            for batch in batches:
                chosen(**batch)

    plain: dict[str, Callable[[], None]] = {"encoder": partial(run, copied=False)}
    return plain if precision == "fp32" else plain | {"encoder in bfloat16": partial(run, copied=True)}


def batches_of_posts(model: Tagger, posts: Sequence[Pair], precision: Precision) -> Callable[[], None]:
    """Return a call that predicts windows of 256 posts in batches of 32."""

    def run() -> None:
        autocast = torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16")
        for begin in range(0, len(posts), 256):
            window = posts[begin : begin + 256]
            for indices in length_batches([model.builder.length(pair) for pair in window], 32):
                with autocast:
                    model.predict_heads([window[index] for index in indices])

    return run


def from_file_to_file(
    model: Tagger, file: Path, out: Path, precision: Precision, workers: int, *, keep: bool = True
) -> Callable[[], list[list[Any]]]:
    """Return a call of the predictor; it returns the entities of every post, if they are to be kept."""

    def run() -> list[list[Any]]:
        predictor = Predictor(model, batching=BatchConfig(precision=precision, workers=workers))
        with out.open("w", encoding="utf-8") as target:
            found = []
            for line in predictor(stream_posts(file)):
                target.write(json.dumps(line, ensure_ascii=False) + "\n")
                spans = [(entity["word_start"], entity["word_end"], entity["type"]) for entity in line["entities"]]
                found += [spans] * keep
        return found

    return run


class Seconds(NamedTuple):
    """Seconds by the clock, and CPU seconds of this process."""

    clock: float
    cpu: float


def timed(call: Callable[[], Result]) -> tuple[Result, Seconds]:
    """Return a call's result and its seconds."""
    clock, cpu = time.perf_counter(), time.process_time()
    result = call()
    return result, Seconds(time.perf_counter() - clock, time.process_time() - cpu)


def rates(seconds: Mapping[str, Sequence[Seconds]], posts: int) -> dict[str, Any]:
    """Return posts per second and shares of the encoder's rate, both ways, from runs of as many posts."""
    found: dict[str, Any] = {}
    for index, how in enumerate(("posts per second", "posts per CPU second")):
        by_name = {name: posts / statistics.median(run[index] for run in runs) for name, runs in seconds.items()}
        found[how] = by_name
        found[f"share of the encoder's {how}"] = {name: rate / by_name["encoder"] for name, rate in by_name.items()}
    return found


def one_large_file(
    found: dict[str, Any],
    lines: Iterator[Mapping[str, Any]],
    out: Path,
    loops: Mapping[str, Callable[[], None]],
    posts_of_loop: int,
) -> None:
    """Put the rates of a predictor's lines, written to a file, and of the encoder between every `TURN` into a dict."""
    own, number = [], 0
    bare: dict[str, list[Seconds]] = {name: [] for name in loops}
    with out.open("w", encoding="utf-8") as target:

        def write_some() -> int:
            written = 0
            for line in islice(lines, TURN):
                target.write(json.dumps(line, ensure_ascii=False) + "\n")
                written += 1
            return written

        while (some := timed(write_some))[0]:
            number += some[0]
            own.append(some[1])
            for name, loop in loops.items():
                bare[name].append(timed(loop)[1])
    for index, how in enumerate(("posts per second", "posts per CPU second")):
        rate = number / sum(seconds[index] for seconds in own)
        found[how] = rate
        for name, runs in bare.items():
            encoder = posts_of_loop * len(runs) / sum(seconds[index] for seconds in runs)
            found[f"{how}, {name}"] = encoder
            found[f"share of the {name}'s {how}"] = rate / encoder


def write_posts(file: Path, posts: Sequence[Pair]) -> Path:
    """Write posts as JSON lines."""
    with file.open("w", encoding="utf-8") as target:
        for pair in posts:
            target.write(json.dumps({"id": pair.id, "words": list(pair.words)}, ensure_ascii=False) + "\n")
    return file


def main(
    out: Path | None = None,
    encoder: Path | None = None,
    root: Path | None = None,
    posts: int = 4096,
    large: int = 0,
    repeats: int = 3,
    workers: int = 2,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures, prints and writes the figures.

    Args:
        out: the result file.
        encoder: folder of a text encoder.
        root: folder of Twitter-2015 or Twitter-2017, whose posts are taken again and again.
        posts: how many of them.
        large: posts of one more run, whose peak memory is taken, too; 0 for none.
        repeats: runs of which the median counts.
        workers: threads that build graphs.
        device: cpu or cuda.
    """
    disable_malloc_trim()
    net = load_encoder(str(encoder)) if encoder else random_encoder(*SHAPES["minilm"])
    assert isinstance(net, TextEncoderModel)
    texts = (
        some_posts(2000)
        if root is None
        else [p for s in ("train", "valid", "test") for p in read_conll(root / f"{s}.txt")]
    )
    random.Random(0).shuffle(texts)
    some = [Pair(texts[index % len(texts)].words, id=str(index)) for index in range(posts)]
    model = tagger(net, some).to(device)
    result: dict[str, Any] = {
        "benchmark": "prediction",
        "machine": machine(),
        "commit": commit(),
        "encoder": str(encoder.name) if encoder else "random, MiniLM's shape",
        "posts": posts,
        "pieces of a post": statistics.mean(model.builder.length(pair) for pair in some),
        "repeats": repeats,
        "workers": workers,
        "device": device,
    }
    with tempfile.TemporaryDirectory() as folder:
        orders = {"any order": some, "sorted": sorted(some, key=model.builder.length)}
        files = {name: write_posts(Path(folder) / f"{name}.jsonl", pairs) for name, pairs in orders.items()}
        entities: dict[str, list[list[Any]]] = {}
        for precision in PRECISIONS:
            calls: dict[str, Callable[[], Any]] = {**bare_loops(model, some, precision, device)}
            for name, pairs in orders.items():
                calls[f"batches of posts, {name}"] = batches_of_posts(model, pairs, precision)
                target = Path(folder) / "out.jsonl"
                calls[f"predict, {name}"] = from_file_to_file(model, files[name], target, precision, workers)
            seconds: dict[str, list[Seconds]] = {name: [] for name in calls}
            for _ in range(repeats):
                for name, call in calls.items():
                    found, spent = timed(call)
                    seconds[name].append(spent)
                    if name == "predict, any order":
                        entities[precision] = found
            result[precision] = rates(seconds, posts)
            print(precision, json.dumps(result[precision], indent=1), flush=True)
        full, half = entities["fp32"], entities["bf16"]
        result["entities"] = {
            "fp32": sum(map(len, full)),
            "bf16": sum(map(len, half)),
            "in both": sum(len(set(map(tuple, a)) & set(map(tuple, b))) for a, b in zip(full, half, strict=True)),
            "posts with a difference": sum(a != b for a, b in zip(full, half, strict=True)),
        }
        print(json.dumps(result["entities"]), flush=True)
        if large:
            many = [Pair(texts[index % len(texts)].words, id=str(index)) for index in range(large)]
            file = write_posts(Path(folder) / "large.jsonl", many)
            del many
            result["large"] = {"posts": large}
            for precision in PRECISIONS:
                loops = bare_loops(model, some, precision, device)
                predictor = Predictor(model, batching=BatchConfig(precision=precision, workers=workers))
                lines = iter(predictor(stream_posts(file)))
                result["large"][precision] = found = {}
                usage = measure(partial(one_large_file, found, lines, Path(folder) / "out.jsonl", loops, posts))
                found["peak MiB"] = usage.peak_mib
                print(precision, result["large"][precision], flush=True)
    if out is not None:
        write_result(result, out)
    return result


if __name__ == "__main__":
    auto_cli(main)
