"""Pyramids of ResNets: the places of every stage one by one, as an extractor's features and as region vectors."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import torchvision
from odd_images import noise
from PIL import Image
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2 import functional as pixels

from mnergraph.cli.extract import features
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.vision.backbones import BackbonePyramid
from mnergraph.features.vision.crops import IMAGENET_MEAN, IMAGENET_STD, RegionEncoder
from mnergraph.features.vision.pyramid import ResNetPyramid
from mnergraph.features.vision.registry import EXTRACTORS, extractor_of
from mnergraph.pair import DetectedObject, Pair

STAGES = {f"layer{stage}": f"layer{stage}" for stage in range(1, 5)}


def resnet(name: str, seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return torchvision.models.get_model(name, weights=None).eval()


def normalized(image: Image.Image) -> Tensor:
    return pixels.normalize(pixels.pil_to_tensor(image)[None] / 255, IMAGENET_MEAN, IMAGENET_STD)


@torch.no_grad()
def by_hand(net: nn.Module, x: Tensor) -> list[float]:
    """Every channel's four places, one number after the other."""
    found = []
    for fmap in create_feature_extractor(net, STAGES)(x).values():
        half = fmap.shape[-1] // 2
        for channel in fmap[0]:
            for top in (0, half):
                for left in (0, half):
                    found.append(float(channel[top : top + half, left : left + half].mean()))
    return found


@pytest.mark.parametrize(("name", "width"), [("resnet18", 3840), ("resnet50", 15360)])
def test_every_place_of_every_stage(name: str, width: int) -> None:
    # 7 x 7 places in the last stage, as of 224 pixels
    net, x = resnet(name), normalized(noise(224, 224))
    with torch.no_grad():
        (found,) = ResNetPyramid(net)(x)
        (last,) = ResNetPyramid(net, 1)(x)
    assert found.shape == (width,)
    torch.testing.assert_close(found, torch.tensor(by_hand(net, x)), rtol=1e-4, atol=1e-5)
    assert torch.equal(found[-width * 8 // 15 :], last)


def test_maps_of_one_place_are_repeated() -> None:
    with torch.no_grad():
        (found,) = ResNetPyramid(resnet("resnet18"))(normalized(noise(32, 32)))
    assert found.shape == (3840,)
    last = found[-512 * 4 :].view(512, 4)
    assert torch.equal(last, last[:, :1].expand(-1, 4))


def test_extractor(tmp_path: Path) -> None:
    extractor = BackbonePyramid("resnet18", size=64, resize_mode="center", seed=3)
    assert extractor.name == "resnet18-random-seed3-64px-center-pyramid4"
    image = noise(90, 70)
    (found,) = extractor.extract([image], progress=False)
    assert found.grid is not None
    assert found.pooled is not None
    assert torch.equal(found.grid, found.pooled[None])
    middle = pixels.center_crop(pixels.resize(image, [73]), [64, 64])
    expected = torch.tensor(by_hand(resnet("resnet18", 3), normalized(middle)))
    torch.testing.assert_close(found.pooled, expected, rtol=1e-4, atol=1e-5)
    assert found.attach_to(Pair(("a",))).image_features is found.grid
    (tmp_path / "images").mkdir()
    image.save(tmp_path / "images" / "1.png")
    features(tmp_path / "images", tmp_path / "store", extractor, progress=False)
    assert extractor_of(Manifest.read(tmp_path / "store")) == extractor
    assert EXTRACTORS["BackbonePyramid"] is BackbonePyramid


def test_region_vectors(tmp_path: Path) -> None:
    crops = RegionEncoder(size=48, pyramid_stages=4)
    assert crops.name == "resnet18-random-seed0-48px-pyramid4"
    assert crops.out_channels == 3840
    image, box = noise(40, 30), (3.0, 5.0, 17.0, 21.0)
    (found,) = crops(image, [box])
    crop = image.crop((3, 5, 17, 21)).resize((48, 48), Image.Resampling.BILINEAR)
    torch.testing.assert_close(found, torch.tensor(by_hand(resnet("resnet18"), normalized(crop))), rtol=1e-4, atol=1e-5)
    image.save(tmp_path / "1.png")
    post = Pair(("a",), image_path=tmp_path / "1.png", objects=(DetectedObject("thing", box=box),))
    (pair,) = crops.attach([post], tmp_path / "cache", progress=False)
    region = pair.objects[0].region
    assert region is not None
    torch.testing.assert_close(region, found, rtol=1e-4, atol=1e-5)
    assert replace(crops, pyramid_stages=1).out_channels == 2048


def test_plain_region_encoders_are_those_that_stores_have() -> None:
    assert "pyramid_stages" not in RegionEncoder().identity()["settings"]
    assert RegionEncoder(pyramid_stages=4).identity()["settings"]["pyramid_stages"] == 4
    assert RegionEncoder(**{**asdict(RegionEncoder()), "pyramid_stages": 4}) == RegionEncoder(pyramid_stages=4)


def test_number_of_stages() -> None:
    for number in (0, 5):
        with pytest.raises(ValueError, match=f"a pyramid has 1 to 4 stages of a ResNet, not {number}"):
            RegionEncoder(pyramid_stages=number)
        with pytest.raises(ValueError, match=f"a pyramid has 1 to 4 stages of a ResNet, not {number}"):
            BackbonePyramid(num_stages=number)
    with pytest.raises(ValueError, match="backbone 'vit_b_16' is not among resnet18, "):
        BackbonePyramid("vit_b_16")
    with pytest.raises(ValueError, match="resize_mode is one of squash, crop, center, letterbox, not 'stretch'"):
        BackbonePyramid(resize_mode="stretch")  # type: ignore[arg-type]
