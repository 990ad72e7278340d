r"""Prediction by Ray Data with one actor and with two against the plain path, each on one thread; and what limits it.

    uv run python -m benchmarks.ray_scaling --encoder MINILM --root TWITTER2017 --out RESULTS/ray_scaling.json
    uv run python -m benchmarks.ray_scaling --table benchmarks/results/ray_scaling.json

BERT-CRF as in `benchmarks.prediction`, from Parquet to Parquet; wall-clock time, so that the machine has to be quiet
and to have as many cores as there are actors; runs in turns, medians.

- *plain*: `Predictor` from a file of JSON lines to a file, one thread, no Ray
- *job*: `PredictEntities` over the same parts in this process, no Ray
- *N actors*: posts per second from the first part that is done to the last, and the seconds until the first
- *parts per second*: of a job that does nothing, one actor: what Ray takes for a part

The table computes from these what 100 million posts take.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli

from benchmarks.common import commit, disk_bytes, machine, random_encoder, run_command, some_posts
from benchmarks.prediction import from_file_to_file, tagger, write_posts
from benchmarks.recording import SHAPES
from mnergraph import load_encoder
from mnergraph.data import read_conll
from mnergraph.engines import PredictEntities, ray_data
from mnergraph.engines.files import PostFiles, ResultFolder, result_schema
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.models import Tagger
from mnergraph.pair import Pair

#: What the table assumes: the bytes of an image, the bytes per second of a storage (10 Gbit/s), and posts.
IMAGE_BYTES, STORAGE, MANY = 100_000, 1.25e9, 100_000_000
#: Numbers of workers in the table.
WORKERS = (1, 2, 16, 128, 1024)
#: Posts of a part of a large file, see `PostFiles.part_rows`.
PART = 16_384


class Nothing:
    """A job that returns ids."""

    COLUMNS = ("id",)

    def __call__(self, columns: Mapping[str, Any]) -> dict[str, list[Any]]:
        return {"id": list(columns["id"])}


def write_parquet(file: Path, posts: Sequence[Pair]) -> Path:
    """Write posts as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table({"id": [post.id for post in posts], "words": [list(post.words) for post in posts]})
    pq.write_table(table, file)
    return file


class _EqualParts(PostFiles):
    """Files of posts in parts of a given number of posts."""

    def __init__(self, address: str, rows: int) -> None:
        super().__init__(address)
        self._rows = rows

    def part_rows(self, workers: int) -> int:
        return self._rows


def by_ray(job: Any, arguments: Mapping[str, Any], file: Path, workers: int, part_rows: int) -> dict[str, float]:
    """Run a job over a file by Ray; returns posts per second, parts per second and the seconds until the first part.

    Args:
        job: the class.
        arguments: of the class.
        file: the posts.
        workers: number of actors.
        part_rows: posts of a part.
    """
    posts = _EqualParts(str(file), part_rows)
    done: list[tuple[float, int]] = []
    share = ray_data.connect(workers)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        ray_data.run(
            job,
            arguments,
            posts,
            ResultFolder(f"{folder}/out"),
            settings={},
            workers=workers,
            share=share,
            columns=job.COLUMNS,
            progress=lambda count: done.append((time.perf_counter(), count)),
        )
        written = disk_bytes(Path(folder))
    done = [(when, count) for when, count in done if count]
    seconds = done[-1][0] - done[0][0]
    return {
        "posts per second": sum(count for _, count in done[1:]) / seconds,
        "parts per second": (len(done) - 1) / seconds,
        "seconds to the first part": done[0][0] - began,
        "bytes written per post": written / posts.rows,
    }


def in_process(model: Path, file: Path, part_rows: int) -> float:
    """Return the posts per second of the job over the same parts in this process."""
    import pyarrow as pa

    posts, job = PostFiles(str(file)), PredictEntities(model, device="cpu")
    types = result_schema(posts.id_type, pa.float32())
    schema = pa.schema([(name, types[name]) for name in job.COLUMNS])
    with tempfile.TemporaryDirectory() as folder:
        out = ResultFolder(folder)
        out.open({})
        began = time.perf_counter()
        for part in posts.parts(part_rows):
            out.write(posts.system, part, job, schema, posts.window)
        return posts.rows / (time.perf_counter() - began)


def plain(model: Tagger, file: Path, posts: int) -> float:
    """Return the posts per second of the plain path."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        from_file_to_file(model, file, Path(folder, "out.jsonl"), "fp32", 0, keep=False)()
        return posts / (time.perf_counter() - began)


def markdown(result: Mapping[str, Any]) -> str:
    """Return what 100 million posts take, in Markdown, computed from a result."""
    one, two = (result["posts per second"][f"{count} actor{'s' * (count > 1)}"] for count in (1, 2))
    read, written = result["bytes read per post"], result["bytes written per post"]
    per_worker = two / 2
    lines = [
        f"Measured on {result['machine']['processor']}, one thread per worker, {result['encoder']}: one worker "
        f"{one:,.0f} posts/s, two {two:,.0f} ({two / one:.2f} times), the plain path "
        f"{result['posts per second']['plain']:,.0f}. A post has {read:,.0f} bytes, its results {written:,.0f}. "
        f"Computed for more workers at {per_worker:,.0f} posts/s each, a storage of {STORAGE / 1e9:.2f} GB/s, images "
        f"of {IMAGE_BYTES / 1000:.0f} kB, parts of {PART:,} posts, of which Ray schedules "
        f"{result['parts per second']:,.0f} a second:",
        "",
        "| workers | posts/s | 100 million posts | text read | with images | written | parts/s | saturates first |",
        "|--:|--:|--:|--:|--:|--:|--:|---|",
    ]
    for workers in WORKERS:
        rate = one if workers == 1 else per_worker * workers
        use = {
            "the storage, by images": rate * (read + IMAGE_BYTES) / STORAGE,
            "the storage, by text": rate * (read + written) / STORAGE,
            "Ray's scheduling": rate / PART / result["parts per second"],
        }
        name, most = max(use.items(), key=lambda item: item[1])
        first = f"{name} ({most:.0%} of it)" if most > 0.5 else "the workers"
        cells = [
            f"{workers:,}",
            f"{rate:,.0f}",
            _duration(MANY / rate),
            _bytes(rate * read),
            _bytes(rate * (read + IMAGE_BYTES)),
            _bytes(rate * written),
            f"{rate / PART:.2g}",
            first,
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    hours = seconds / 3600
    if hours > 48:
        return f"{hours / 24:,.1f} days"
    return f"{hours:,.1f} h" if hours > 1.5 else f"{seconds / 60:,.0f} min"


def _bytes(per_second: float) -> str:
    return f"{per_second / 1e6:,.1f} MB/s" if per_second > 1e5 else f"{per_second / 1e3:,.1f} kB/s"


def main(
    out: Path | None = None,
    table: Path | None = None,
    encoder: Path | None = None,
    root: Path | None = None,
    posts: int = 16384,
    part_rows: int = 512,
    parts: int = 400,
    repeats: int = 3,
) -> None:
    """Measures, prints and writes the figures; or prints the table of a result file.

    Args:
        out: the result file.
        table: a result file, whose table is printed; nothing is measured then.
        encoder: folder of a text encoder; by default one of MiniLM's shape with random weights.
        root: folder of Twitter-2015 or Twitter-2017, whose posts are taken again and again.
        posts: how many of them.
        part_rows: posts of a part.
        parts: parts of the job that does nothing.
        repeats: runs of which the median counts.
    """
    if table is not None:
        print(markdown(json.loads(table.read_text(encoding="utf-8"))))
        return
    ray_data.require_ray()
    torch.set_num_threads(1)
    net = load_encoder(str(encoder)) if encoder else random_encoder(*SHAPES["minilm"])
    assert isinstance(net, TextEncoderModel)
    texts = (
        some_posts(2000)
        if root is None
        else [pair for split in ("train", "valid", "test") for pair in read_conll(root / f"{split}.txt")]
    )
    some = [Pair(texts[index % len(texts)].words, id=str(index)) for index in range(posts)]
    model = tagger(net, some)
    rates: dict[str, list[float]] = {"plain": [], "job": [], "1 actor": [], "2 actors": []}
    starts: dict[str, list[float]] = {"1 actor": [], "2 actors": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder / "model")
        lines, file = write_posts(folder / "posts.jsonl", some), write_parquet(folder / "posts.parquet", some)
        tiny = write_parquet(folder / "tiny.parquet", [Pair(("a",), id=str(index)) for index in range(parts)])
        arguments = {"model": str(folder / "model")}
        written = 0.0
        for _ in range(repeats):
            rates["plain"].append(plain(model, lines, posts))
            rates["job"].append(in_process(folder / "model", file, part_rows))
            for workers in (1, 2):
                key = f"{workers} actor{'s' * (workers > 1)}"
                found = by_ray(PredictEntities, arguments, file, workers, part_rows)
                rates[key].append(found["posts per second"])
                starts[key].append(found["seconds to the first part"])
                written = found["bytes written per post"]
        scheduled = by_ray(Nothing, {}, tiny, 1, 1)["parts per second"]
        read = file.stat().st_size / posts
    result = {
        "benchmark": "ray_scaling",
        "machine": machine(),
        "commit": commit(),
        "ray": ray_data.require_ray().__version__,
        "encoder": str(encoder.name) if encoder else "random, MiniLM's shape",
        "posts": posts,
        "posts of a part": part_rows,
        "repeats": repeats,
        "posts per second": {key: statistics.median(values) for key, values in rates.items()},
        "all runs": rates,
        "seconds to the first part": {key: statistics.median(values) for key, values in starts.items()},
        "parts per second": scheduled,
        "bytes read per post": read,
        "bytes written per post": written,
    }
    print(json.dumps(result, indent=1))
    print(markdown(result))
    if out is not None:
        out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    run_command(lambda: auto_cli(main))
