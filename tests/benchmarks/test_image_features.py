"""Image features: of captions against a plain call of the encoder, of a backbone against one of the network."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pixels

from benchmarks.image_features import features_from_backbone, features_from_captions
from mnergraph.features.text.encoder import TextEncoderModel, load_encoder
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.pair import Pair

Splits = dict[str, list[Pair]]
SMALL = partial(BackboneGrid, "resnet18", "random", size=64, pool_size=7)


@pytest.fixture(scope="module")
def reader(encoder: Path) -> TextEncoderModel:
    return load_encoder(encoder)


def states(reader: TextEncoderModel, caption: str) -> tuple[Tensor, list[int]]:
    """The encoder's states of a caption alone, and how many pieces each word has."""
    tokenizer = reader.tokenizer.tokenizer
    words = caption.split()
    given = tokenizer([words], is_split_into_words=True, return_tensors="pt")
    counts = [len(tokenizer([[word]], is_split_into_words=True)["input_ids"][0]) - 2 for word in words]
    with torch.no_grad():
        found = reader.model.eval()(
            input_ids=given["input_ids"], attention_mask=given["attention_mask"]
        ).last_hidden_state
    return found[0], counts


def test_captions(posts: Splits, reader: TextEncoderModel) -> None:
    reader.model.train()
    for shape in ("vector", "grid"):
        found = features_from_captions(posts, reader, shape, batch_size=3, progress=False)
        for before, after in zip(posts["train"], found["train"], strict=True):
            assert replace(after, image_features=None) == before
            if before.caption is None:
                assert after.image_features is None
                continue
            alone, counts = states(reader, before.caption)
            words = torch.stack([part.mean(0) for part in alone[1:-1].split(counts)])
            expected = alone.mean(0, keepdim=True) if shape == "vector" else words
            assert after.image_features is not None
            torch.testing.assert_close(after.image_features, expected, rtol=1e-5, atol=1e-5)
            assert not after.image_features.requires_grad


def test_posts_without_captions(posts: Splits, reader: TextEncoderModel) -> None:
    bare = {name: [replace(pair, caption=None) for pair in pairs] for name, pairs in posts.items()}
    with pytest.raises(ValueError, match="no training post has a caption"):
        features_from_captions(bare, reader, "grid", progress=False)
    odd = {"train": [Pair(("a",), caption=" "), Pair(("b",), caption="a hat")], "test": []}
    found = features_from_captions(odd, reader, "grid", progress=False)["train"]
    assert [None if pair.image_features is None else len(pair.image_features) for pair in found] == [None, 2]


@pytest.fixture
def with_images(tmp_path: Path) -> Splits:
    """Five posts with an image each but one, which are white in one corner only."""
    splits: Splits = {"train": [], "test": []}
    for index in range(5):
        image = Image.new("RGB", (80, 60), (20 * index, 10, 0))
        if index < 4:
            image.paste((255, 255, 255), (40 * (index % 2), 30 * (index // 2), 40 + 40 * (index % 2), 60))
            image.save(tmp_path / f"{index}.png")
        path = tmp_path / f"{index}.png" if index < 4 else None
        splits["test" if index == 3 else "train"].append(Pair(("a",), id=str(index), image_path=path))
    return splits


def test_maps(with_images: Splits) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = torchvision.models.resnet18(weights=None).eval()
    grids = features_from_backbone(with_images, SMALL(stage=2, pool_size=2), "grid", progress=False)
    vectors = features_from_backbone(with_images, SMALL(stage=2, pool_size=2), "vector", progress=False)
    for split, pairs in with_images.items():
        for pair, grid, vector in zip(pairs, grids[split], vectors[split], strict=True):
            if pair.image_path is None:
                assert grid.image_features is None
                assert vector.image_features is None
                continue
            assert grid.image_features is not None
            assert vector.image_features is not None
            with Image.open(pair.image_path) as file:
                square = file.convert("RGB").resize((64, 64), Image.Resampling.BILINEAR)
            x = pixels.pil_to_tensor(square).float()[None] / 255
            x = pixels.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
            with torch.no_grad():
                x = network.maxpool(network.relu(network.bn1(network.conv1(x))))
                x = network.layer2(network.layer1(x))[0]
            # [128, 8, 8]: four quarters, row by row
            quarters = [x[:, :4, :4], x[:, :4, 4:], x[:, 4:, :4], x[:, 4:, 4:]]
            expected = torch.stack([quarter.mean((1, 2)) for quarter in quarters])
            torch.testing.assert_close(grid.image_features, expected, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(vector.image_features, expected.mean(0, keepdim=True), rtol=1e-4, atol=1e-5)


def test_maps_are_standardized_by_the_training_images(with_images: Splits) -> None:
    plain = features_from_backbone(with_images, SMALL(stage=1), "grid", progress=False)
    standard = features_from_backbone(with_images, SMALL(stage=1), "grid", standardise=True, progress=False)

    def rows(splits: Splits, name: str) -> Tensor:
        return torch.cat([pair.image_features for pair in splits[name] if pair.image_features is not None])

    deviation, mean = torch.std_mean(rows(plain, "train"), dim=0)
    for name in ("train", "test"):
        expected = (rows(plain, name) - mean) / deviation.clamp(min=1e-6)
        varying = deviation > 1e-6
        torch.testing.assert_close(rows(standard, name)[:, varying], expected[:, varying], rtol=1e-4, atol=1e-4)
    assert rows(standard, "train").isfinite().all()


def test_unreadable_images(with_images: Splits, tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.warns(UserWarning, match=r"1 images can't be read; their posts have no features: 0: "):
        found = features_from_backbone(with_images, SMALL(), "grid", progress=False)["train"]
    assert [pair.image_features is None for pair in found] == [True, False, False, True]
    bare = {name: [replace(pair, image_path=None) for pair in pairs] for name, pairs in with_images.items()}
    with pytest.raises(ValueError, match="no training post has an image"):
        features_from_backbone(bare, SMALL(), "grid", progress=False)
