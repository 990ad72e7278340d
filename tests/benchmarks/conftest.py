"""A tiny data set, captions for it, a tiny encoder's folder, and settings that train in a second."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from mnergraph.data import PostFolder, write_conll
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.pair import Pair

NAMES = {"bob": "PER", "ann": "PER", "rome": "LOC", "oslo": "LOC", "acme": "ORG", "opus": "OTHER"}
FILLERS = ("saw", "in", "the", "a", "today", "with")
CAPTIONS = ("a man with a hat", "a small dog on the grass", "the old town", "a red ball")

SETTINGS = """\
system: BERT-CRF
model: BERT-CRF
data: PostFolder
source: none
encoder: {encoder}
arguments: {{dropout: 0.1}}
optimizer: {{encoder_lr: 5e-3, lr: 1e-2}}
trainer: {{epochs: 2, batch_size: 8, accelerator: cpu, logger: none, progress: false, save_every: 0}}
"""


def write_posts(root: Path, *, other: str = "OTHER") -> Path:
    """Three splits of posts whose tags depend only on the word; every third post has no caption."""
    captions = []
    for split, count in (("train", 40), ("valid", 12), ("test", 15)):
        chance, posts = random.Random(f"{root.name} {split}"), []
        for index in range(count):
            words = tuple(chance.choices((*NAMES, *FILLERS), k=chance.randint(2, 8)))
            kinds = [NAMES.get(word) for word in words]
            tags = tuple("O" if kind is None else f"B-{other if kind == 'OTHER' else kind}" for kind in kinds)
            posts.append(Pair(words, tags, f"{split}{index}"))
            if index % 3:
                captions.append({"id": f"{split}{index}", "caption": chance.choice(CAPTIONS)})
        root.mkdir(parents=True, exist_ok=True)
        write_conll(posts, root / f"{split}.txt")
    text = "".join(json.dumps(line) + "\n" for line in captions)
    (root / "captions.jsonl").write_text(text, encoding="utf-8")
    return root


@pytest.fixture(scope="session")
def write() -> Callable[..., Path]:
    """`write_posts`."""
    return write_posts


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_posts(tmp_path_factory.mktemp("posts") / "here")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny encoder, weights and all."""
    folder = tmp_path_factory.mktemp("encoder") / "small"
    torch.manual_seed(0)
    backbone = tiny_encoder([*NAMES, *FILLERS], hidden_size=16, num_layers=1, heads=2)
    backbone.model.save_pretrained(folder)
    backbone.tokenizer.tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Runs are the same to the bit on the same number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def settings(tmp_path: Path, encoder: Path) -> Path:
    path = tmp_path / "settings.yaml"
    path.write_text(SETTINGS.format(encoder=encoder), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def posts(root: Path) -> dict[str, list[Pair]]:
    return {split: PostFolder(root, split).pairs for split in ("train", "valid", "test")}
