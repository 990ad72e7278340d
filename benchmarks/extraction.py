r"""Extractors against their own networks: pictures per second alone and with workers. Needs a quiet machine.

    uv run python -m benchmarks.extraction --out benchmarks/results/extraction.json

``forward`` is the network on batches that lie prepared in memory, and its results read off; ``opening`` is
what comes before it, files, decoding and preparation, in one process; ``alone`` is `extract` in one process,
which does both; ``workers`` the same with processes that open beside the network, which needs cores for them.
Weights are random, sizes those of the published models. All are measured in turns; a pass counts from its
second batch on, when workers have started. Of several passes the fastest counts, as what else runs on a
machine only ever slows one down. ``alone / both`` is the share of `extract`'s time that is
opening and forward: the rest is its own.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers as hf
from jsonargparse import auto_cli
from PIL import Image, ImageFilter
from torch import Tensor

from benchmarks.common import commit, machine, write_result
from mnergraph.features.vision.backbones import BackboneGrid, VisionTower
from mnergraph.features.vision.detectors import RCNNDetector
from mnergraph.features.vision.detr import DETRDetector
from mnergraph.features.vision.extractor import BatchImage, Extractor
from mnergraph.features.vision.image_io import open_image


def extractors(folder: Path) -> dict[str, Callable[[], Extractor]]:
    """What is measured, by name; configurations of transformers' models are written into the folder."""

    def configured(config: Any, processor: Any) -> str:
        place = folder / config.model_type
        config.save_pretrained(place)
        processor.save_pretrained(place)
        return str(place)

    def detr() -> Extractor:
        body = hf.ResNetConfig(out_features=["stage4"])
        model = configured(hf.DetrConfig(backbone_config=body), hf.DetrImageProcessor())
        return DETRDetector(model, "random", threshold=0.0)

    return {
        "ResNet-18, 7x7": lambda: BackboneGrid("resnet18"),
        "ResNet-152, 7x7": lambda: BackboneGrid("resnet152"),
        "ViT-B/16": lambda: BackboneGrid("vit_b_16"),
        "CLIP ViT-B/32 tower": lambda: VisionTower(
            configured(hf.CLIPVisionConfig(), hf.CLIPImageProcessor()), "random"
        ),
        "Faster R-CNN MobileNet 320": lambda: RCNNDetector("fasterrcnn_mobilenet_v3_large_320_fpn", threshold=0.0),
        "Faster R-CNN v2": lambda: RCNNDetector("fasterrcnn_resnet50_fpn_v2", threshold=0.0),
        "DETR-R50": detr,
    }


#: Pictures at once where it is not what is asked for: of 1.4 megapixels each.
FEW = {"Faster R-CNN v2": 1, "DETR-R50": 1}


def photographs(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """JPEGs about as large as Twitter's, of noise, blurred until it compresses as photographs do."""
    paths = []
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
        picture = Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(3))
        paths.append(folder / f"{number}.jpg")
        picture.save(paths[-1], quality=85)
    return paths


def opening_rate(extractor: Extractor, paths: Sequence[Path]) -> float:
    """Pictures per second from files to prepared tensors, in one process."""
    extractor.preprocess(open_image(paths[0]).image, ())
    began = time.perf_counter()
    for path in paths[1:]:
        extractor.preprocess(open_image(path).image, ())
    return (len(paths) - 1) / (time.perf_counter() - began)


@torch.no_grad()
def forward_rate(extractor: Extractor, paths: Sequence[Path], batch_size: int, device: str) -> float:
    """Pictures per second of the network on batches that lie prepared."""
    extractor.network.to(device)
    batches: list[tuple[dict[str, Tensor], list[BatchImage]]] = []
    for begin in range(0, len(paths), batch_size):
        some = paths[begin : begin + batch_size]
        prepared, items = [], []
        for path in some:
            picture = open_image(path).image
            prepared.append(extractor.preprocess(picture, ()))
            items.append(BatchImage(path, picture.size))
        batch = {key: torch.stack([one[key] for one in prepared]).to(device) for key in prepared[0]}
        batches.append((batch, items))
    extractor.forward(*batches[0])
    began = time.perf_counter()
    for batch, items in batches[1:]:
        extractor.forward(batch, items)
    return (len(paths) - batch_size) / (time.perf_counter() - began)


def extraction_rate(extractor: Extractor, paths: Sequence[Path], batch_size: int, workers: int, device: str) -> float:
    """Pictures per second from files to features, after the first batch."""
    run = extractor.extract(paths, batch_size=batch_size, num_workers=workers, device=device, progress=False)
    for _ in range(batch_size):
        next(run)
    began = time.perf_counter()
    rest = sum(1 for _ in run)
    return rest / (time.perf_counter() - began)


def main(
    out: Path | None = None,
    only: tuple[str, ...] | None = None,
    pictures: int = 128,
    seconds: float = 10.0,
    width: int = 600,
    height: int = 800,
    batch_size: int = 8,
    workers: int = 1,
    threads: int = 1,
    repeats: int = 3,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures the extractors, prints a line each, and writes all figures if asked.

    Args:
        out: the result file, written after each extractor.
        only: which, by name; all without it.
        pictures: how many a pass goes through at most.
        seconds: that the network's pass takes, about; a slow one sees fewer pictures, two batches at least.
        width: of the pictures.
        height: of the pictures.
        batch_size: pictures at once.
        workers: processes that open and prepare; 0 leaves that way out.
        threads: of the process with the network.
        repeats: passes of which the fastest counts.
        device: cpu or cuda.
    """
    torch.set_num_threads(threads)
    result: dict[str, Any] = {
        "benchmark": "extraction",
        "machine": machine(),
        "commit": commit(),
        "pictures": [pictures, width, height],
        "workers": workers,
        "device": device,
        "extractors": {},
    }
    with tempfile.TemporaryDirectory() as place:
        paths = photographs(Path(place), pictures, width, height)
        known = extractors(Path(place))
        for name in only or known:
            extractor = known[name]()
            size = min(FEW.get(name, batch_size), batch_size)
            rate = forward_rate(extractor, paths[: 2 * size], size, device)
            some = paths[: max(2 * size, int(seconds * rate))]
            ways: dict[str, Callable[[], float]] = {
                "opening": partial(opening_rate, extractor, some),
                "forward": partial(forward_rate, extractor, some, size, device),
                "alone": partial(extraction_rate, extractor, some, size, 0, device),
            }
            if workers:
                ways["workers"] = partial(extraction_rate, extractor, some, size, workers, device)
            rates: dict[str, list[float]] = {way: [] for way in ways}
            for _ in range(repeats):
                for way, measure in ways.items():
                    rates[way].append(measure())
            found = {way: max(of_way) for way, of_way in rates.items()}
            shares = {f"{way} / forward": found[way] / found["forward"] for way in list(found)[2:]}
            shares["alone / both"] = found["alone"] * (1 / found["opening"] + 1 / found["forward"])
            result["extractors"][name] = {
                "pictures a pass": len(some),
                "batch size": size,
                "pictures per second": found,
                **shares,
            }
            told = ", ".join(f"{way} {rate:.2f}" for way, rate in found.items())
            told += " pictures/s; " + ", ".join(f"{way} {share:.0%}" for way, share in shares.items())
            print(f"{name} ({len(some)}): {told}", flush=True)
            if out is not None:
                write_result(result, out)
    return result


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
