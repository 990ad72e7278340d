"""A small task on which a small model overfits in seconds."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, Tagger
from mnergraph.nn.heads.scheduled_sampling import ScheduledSamplingConfig
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import OptimizerConfig, TrainerConfig

NAMES = {"bob": "PER", "ann": "PER", "lee": "PER", "paris": "LOC", "rome": "LOC", "oslo": "LOC"}
FILLERS = ("saw", "in", "the", "a", "and", "today", "with")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Runs are the same to the bit on the same number of threads; `in_processes` has one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def make_posts(many: int, seed: int) -> list[Pair]:
    """Posts of 2 to 12 words whose tags depend only on the word, every third with objects."""
    chance = random.Random(seed)
    posts = []
    for index in range(many):
        words = tuple(chance.choice((*NAMES, *FILLERS)) for _ in range(chance.randint(2, 12)))
        tags = tuple(f"B-{NAMES[word]}" if word in NAMES else "O" for word in words)
        objects = (DetectedObject("hat"), DetectedObject("dog", span=(0, 2))) if index % 3 == 0 else ()
        posts.append(Pair(words, tags, f"{seed}-{index}", objects=objects))
    return posts


def make_model(kind: str = "BERT-CRF", *, seed: int = 0, **options: Any) -> Tagger:
    """A tiny model, the same at every call."""
    torch.manual_seed(seed)
    if kind == "UMGF":
        options = {"hidden_size": 16, "num_heads": 2, "num_layers": 1, **options}
    if kind == "GEI":
        sampling = ScheduledSamplingConfig(start_epoch=0, end_epoch=1, max_ratio=0.5)
        sizes = {"hidden_size": 16, "num_heads": 2, "intermediate_size": 16, "num_layers": 2}
        options = {**sizes, "scheduled_sampling": sampling, **options}
    labels = LabelSet.from_types(["PER", "LOC"])
    return MODELS[kind](tiny_encoder([*NAMES, *FILLERS], hidden_size=16, num_layers=1, heads=2), labels, **options)


def make_loop(**options: Any) -> TrainerConfig:
    """A short run without logs and progress bars."""
    defaults = {"batch_size": 4, "accelerator": "cpu", "logger": "none", "progress": False, "save_every": 0}
    return TrainerConfig(**{"epochs": 2, **defaults, **options})


FAST = OptimizerConfig(encoder_lr=5e-3, lr=1e-2)


@pytest.fixture(scope="session")
def posts() -> Callable[[int, int], list[Pair]]:
    return make_posts


@pytest.fixture(scope="session")
def build() -> Callable[..., Tagger]:
    return make_model


@pytest.fixture(scope="session")
def loop() -> Callable[..., TrainerConfig]:
    return make_loop


@pytest.fixture(scope="session")
def fast() -> OptimizerConfig:
    return FAST


@pytest.fixture
def here(tmp_path: Path) -> Path:
    return tmp_path / "run"
