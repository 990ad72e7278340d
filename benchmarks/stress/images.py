"""Hostile images through every command: none ends for one of them, and none is read as another."""

from __future__ import annotations

import io
import json
import random
import struct
import zlib
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.stress.files import damage
from benchmarks.stress.report import Outcome, Report, run_here
from benchmarks.stress.samples import make_posts
from mnergraph.data.formats.conll import write_conll

#: Damaged images at size 1, besides one of each kind.
IMAGES = 300
EXTRACTOR = ("--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--extractor.size", "32")


def hostile_images(rng: random.Random, size: float, folder: Path) -> Report:
    """Run every command on posts with hostile images.

    Args:
        rng: the source of chance.
        size: 1 for a few minutes.
        folder: an empty folder.
    """
    report = Report()
    root, store = folder / "data", folder / "store"
    images = root / "images"
    images.mkdir(parents=True)
    contents = {**_kinds(), **_damaged(rng, round(IMAGES * size))}
    for number, content in enumerate(contents.values()):
        (images / f"{number}.jpg").write_bytes(content)
    posts = make_posts(len(contents))
    for split, part in (("train", posts), ("valid", posts[-8:]), ("test", posts)):
        write_conll(part, root / f"{split}.txt")
    data = ("--data", "PostFolder", "--root", root)
    quiet = ("--progress", "false")

    def run(command: str, *arguments: object) -> Outcome:
        outcome = run_here(command, *arguments)
        report.count(command)
        # 1: there are faults, which `verify-data` is asked for
        fault = outcome.fault(allowed=(0, 1) if command == "verify-data" else (0,))
        if fault:
            report.fault(f"{command}: {fault}")
        return outcome

    run("verify-data", "--root", root)
    run("features", "--images", images, "--store", store, *EXTRACTOR, *quiet)
    trainer = {"epochs": 1, "progress": "false", "accelerator": "cpu", "logger": "none", "save_every": 0}
    options = [part for name, value in trainer.items() for part in (f"--trainer.{name}", value)]
    small = ("--model.hidden_size", 16, "--model.num_heads", 2, "--model.num_layers", 1)
    allow = ("--allow_missing", "[detected objects, grounded objects, region features, object boxes]")
    out = folder / "run"
    run("train", *data, "--stores", f"[{store}]", "--model", "UMGF", *small, "--out", out, *options, *allow)
    model = ("--model", out / "model")
    run("evaluate", *model, *data, *quiet)
    lines = folder / "posts.jsonl"
    named = ({"id": pair.id, "text": " ".join(pair.words), "image": f"data/images/{pair.id}.jpg"} for pair in posts)
    lines.write_text("".join(json.dumps(line) + "\n" for line in named))
    run("predict", *model, "--posts", lines, "--out", folder / "predicted.jsonl", *quiet)
    found = [json.loads(line) for line in (folder / "predicted.jsonl").read_text().splitlines()]
    if [line["id"] for line in found] != [pair.id for pair in posts]:
        report.fault(f"predict: {len(posts)} posts, {len(found)} lines")
    run("explain", *model, *data, "--out", folder / "page.html", *quiet, "--max_posts", 20)
    for name, number in (("text", 0), ("bomb", list(contents).index("bomb"))):
        single = run_here("predict", *model, "--text", "ann in paris", "--image", images / f"{number}.jpg")
        report.count(f"predict --image ({name})")
        if fault := single.fault():
            report.fault(f"predict --image {name}: {fault}")
    return report


def _kinds() -> dict[str, bytes]:
    """Return the content of one hostile image of every kind."""
    plain = Image.fromarray(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8))

    def saved(image: Image.Image, form: str, **options: object) -> bytes:
        stream = io.BytesIO()
        image.save(stream, form, **options)
        return stream.getvalue()

    jpeg, png = saved(plain, "JPEG"), saved(plain, "PNG")
    transparent = plain.convert("RGBA")
    transparent.putalpha(0)
    return {
        "text": b"hello",
        "empty": b"",
        "page": b"<!DOCTYPE html><p>404",
        "script": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (r) file\n",
        "zip": b"PK\x03\x04" + bytes(60),
        "bomb": _png(60_000, 60_000),
        "wide": _png(200_000, 1),
        "empty png": _png(0, 0),
        "cut jpeg": jpeg[: len(jpeg) // 2],
        "cut png": png[: len(png) // 2],
        "header": png[:8],
        "dot": saved(Image.new("RGB", (1, 1)), "PNG"),
        "line": saved(Image.new("RGB", (3000, 1)), "PNG"),
        "cmyk": saved(plain.convert("CMYK"), "JPEG"),
        "transparent": saved(transparent, "PNG"),
        "palette": saved(plain.convert("P"), "GIF"),
        "moving": saved(plain, "GIF", save_all=True, append_images=[plain.rotate(90)]),
        "sixteen": saved(Image.fromarray(np.arange(1200, dtype=np.uint16).reshape(30, 40) * 54), "PNG"),
        "float": saved(Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"),
        "webp": saved(plain, "WEBP"),
        "bilevel": saved(plain.convert("1"), "PNG"),
        "good": jpeg,
    }


def _damaged(rng: random.Random, number: int) -> dict[str, bytes]:
    """Return images in which bytes were changed."""
    whole = [
        content for name, content in _kinds().items() if name in ("good", "palette", "webp", "cmyk", "transparent")
    ]
    return {f"damaged {index}": damage(rng.choice(whole), rng) for index in range(number)}


def _png(width: int, height: int) -> bytes:
    """Return a PNG whose header promises this size."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    )
