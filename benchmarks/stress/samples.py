"""Small files of every kind that the package reads: valid, to be damaged; and a folder of posts with images."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from mnergraph import DetectedObject, LabelSet, Pair, tiny_encoder
from mnergraph.data.formats.conll import write_conll
from mnergraph.data.formats.evidence_jsonl import Detections, write_captions, write_objects
from mnergraph.data.formats.feature_file import write_features
from mnergraph.features.store.entries import image_key, to_store_entry
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.store.writer import StoreWriter
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.models import UMGF, Tagger

TYPES = ("PER", "LOC")
NAMES = {"ann": "PER", "bob": "PER", "paris": "LOC", "oslo": "LOC"}
FILLERS = ("saw", "in", "the", "a", "today", "with")


def make_posts(number: int, seed: int = 0) -> list[Pair]:
    """Return labelled posts of 2 to 9 words, with ids from 0."""
    rng = random.Random(seed)
    posts = []
    for index in range(number):
        words = tuple(rng.choice((*NAMES, *FILLERS)) for _ in range(rng.randint(2, 9)))
        tags = tuple(f"B-{NAMES[word]}" if word in NAMES else "O" for word in words)
        posts.append(Pair(words, tags, str(index)))
    return posts


def make_model(seed: int = 0) -> Tagger:
    """Return a small UMGF with random weights."""
    torch.manual_seed(seed)
    encoder = tiny_encoder([*NAMES, *FILLERS], hidden_size=16, num_layers=1, heads=2)
    labels = LabelSet.from_types(TYPES)
    return UMGF(encoder, labels, hidden_size=16, num_heads=2, num_layers=1).eval()


def write_images(folder: Path, number: int, seed: int = 0) -> None:
    """Write images of 64 by 48 pixels, named by ids from 0."""
    folder.mkdir(parents=True)
    pixels = np.random.default_rng(seed)
    for index in range(number):
        Image.fromarray(pixels.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(folder / f"{index}.jpg")


def write_dataset(root: Path, sizes: tuple[int, int, int] = (24, 8, 8)) -> None:
    """Write the splits of a data set with objects and captions, and images."""
    root.mkdir(parents=True)
    posts = make_posts(sum(sizes))
    begin = 0
    for name, size in zip(("train", "valid", "test"), sizes, strict=True):
        write_conll(posts[begin : begin + size], root / f"{name}.txt")
        begin += size
    write_evidence(root, posts)
    write_images(root / "images", sum(sizes))


def write_evidence(root: Path, posts: list[Pair]) -> None:
    """Write objects and captions of posts."""
    boxed = DetectedObject("hat", box=(1, 2, 30, 40), score=0.9, span=(0, 1))
    found = Detections(64, 48, (boxed, DetectedObject("dog", box=(0, 0, 64, 48), score=0.5)))
    write_objects({pair.id: found for pair in posts}, root / "objects.jsonl")
    write_captions({pair.id: "a man with a hat" for pair in posts}, root / "captions.jsonl")


def write_feature_file(path: Path) -> None:
    """Write features of regions and of images of ten posts."""
    regions = {str(index): torch.randn(2, 4) for index in range(10)}
    images = {str(index): torch.randn(9, 4) for index in range(10)}
    write_features(regions, images, path)


def write_store(folder: Path) -> None:
    """Write a feature store of eight images in two shards."""
    manifest = Manifest("BackboneGrid", 1, {"size": 32}, "0" * 64)
    with StoreWriter(folder, manifest, shard_bytes=1) as writer:
        for index in range(8):
            hat = DetectedObject("hat", box=(1, 2, 30, 40), score=0.9, region=torch.randn(3))
            found = ImageEvidence((64, 48), objects=(hat,), grid=torch.randn(4, 3), pooled=torch.randn(3))
            writer.add(f"{index:064x}", *to_store_entry(found))


def write_store_of(images: Path, folder: Path) -> None:
    """Write a feature store of a folder's images, with objects and captions."""
    manifest = Manifest("BackboneGrid", 1, {"size": 32}, "0" * 64)
    with StoreWriter(folder, manifest) as writer:
        for path in sorted(images.iterdir()):
            hat = DetectedObject("hat", box=(1, 2, 30, 40), score=0.9, region=torch.randn(3))
            found = ImageEvidence((64, 48), objects=(hat,), grid=torch.randn(4, 3), caption="a man with a hat")
            writer.add(image_key(path), *to_store_entry(found))


def write_word_vectors(path: Path) -> None:
    """Write word vectors in word2vec's text format."""
    rows = [f"{word} {' '.join(f'{value:.3f}' for value in torch.randn(5).tolist())}" for word in (*NAMES, *FILLERS)]
    path.write_text(f"{len(rows)} 5\n" + "\n".join(rows) + "\n", encoding="utf-8")
