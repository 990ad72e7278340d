r"""Prediction of a file of posts against a loop over the bare text encoder: in any order, in fp32 and in bf16.

    uv run python -m benchmarks.prediction --encoder MINILM --root TWITTER2017 --out benchmarks/results/prediction.json

BERT-CRF over an encoder, with scores that make one word in ten an entity's; without an encoder one of random weights
in MiniLM's shape, without a folder made-up posts. What is compared is computed in turns within this one run, in CPU
seconds of the process, so that other work on the machine matters little; medians.

- *encoder*: the encoder alone, batches of as many pieces, sorted, ready as tensors
- *batches of posts*: windows of 256 posts in batches of 32, as before there were batches of pieces
- *predict*: `Predictor` from a file of JSON lines to a file, as the command does
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from mnergraph.pair import Pair

#: Share of words that the model tags as entities, about that of the Twitter data.
ENTITY_WORDS = 0.1
PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16")


def tagger(encoder: TextEncoderModel, posts: Sequence[Pair]) -> BERTCRF:
    """Return BERT-CRF whose scores of O are so high that `ENTITY_WORDS` of the words are entities'."""
    torch.manual_seed(0)
    model = BERTCRF(encoder, LABELS).eval()
    (scores,) = (part for part in model.modules() if isinstance(part, torch.nn.Linear) and part.out_features == 9)
    low, high = -50.0, 50.0
    for _ in range(12):
        scores.bias.data[LABELS.index("O")] = (low + high) / 2
        found = run_in_batches(model, posts[:256], lambda batch, _: model.decode_tags(model(batch)))
        share = sum(tag != "O" for tags in found for tag in tags) / sum(map(len, found))
        low, high = ((low + high) / 2, high) if share > ENTITY_WORDS else (low, (low + high) / 2)
    return model


def bare_loop(model: Tagger, posts: Sequence[Pair], precision: Precision, device: str) -> Callable[[], None]:
    """Return a call of the encoder alone on sorted batches of pieces."""
    lengths = [model.builder.length(pair) + 2 for pair in posts]
    batches = []
    for indices in model.batches(posts, BatchConfig().pieces_on(device)):
        mask = torch.zeros(len(indices), max(lengths[index] for index in indices), dtype=torch.long, device=device)
        for row, index in enumerate(indices):
            mask[row, : lengths[index]] = 1
        batches.append({"input_ids": mask * 1000, "attention_mask": mask})

    def run() -> None:
        with inference(model, precision):
            for batch in batches:
                model.encoder.model(**batch)

    return run


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


def _cpu_seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


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
            calls: dict[str, Callable[[], Any]] = {"encoder": bare_loop(model, some, precision, device)}
            for name, pairs in orders.items():
                calls[f"batches of posts, {name}"] = batches_of_posts(model, pairs, precision)
                target = Path(folder) / "out.jsonl"
                calls[f"predict, {name}"] = from_file_to_file(model, files[name], target, precision, workers)
            seconds: dict[str, list[float]] = {name: [] for name in calls}
            for _ in range(repeats):
                for name, call in calls.items():
                    start = time.process_time()
                    found = call()
                    seconds[name].append(time.process_time() - start)
                    if name == "predict, any order":
                        entities[precision] = found
            rates = {name: posts / statistics.median(values) for name, values in seconds.items()}
            result[precision] = {
                "posts per CPU second": rates,
                "share of the encoder's rate": {name: rate / rates["encoder"] for name, rate in rates.items()},
            }
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
                loop = bare_loop(model, some, precision, device)
                bare = [_cpu_seconds(loop)]
                start = time.process_time()
                usage = measure(
                    from_file_to_file(model, file, Path(folder) / "out.jsonl", precision, workers, keep=False)
                )
                rate = large / (time.process_time() - start)
                bare.append(_cpu_seconds(loop))
                result["large"][precision] = {
                    "posts per CPU second": rate,
                    "share of the encoder's rate": rate * statistics.mean(bare) / posts,
                    "peak MiB": usage.peak_mib,
                }
                print(precision, result["large"][precision], flush=True)
    if out is not None:
        write_result(result, out)
    return result


if __name__ == "__main__":
    auto_cli(main)
