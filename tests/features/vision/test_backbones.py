"""Whole images: grids and pooled vectors equal those of a direct call of the models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
import torchvision
import transformers as hf
from odd_images import noise
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.vision.backbones import BackboneGrid, ResizeMode, VisionTower
from mnergraph.features.vision.crops import IMAGENET_MEAN, IMAGENET_STD

SMALL = BackboneGrid("resnet18", size=64)


def stacked(evidence: list, part: str) -> Tensor:
    return torch.stack([getattr(one, part) for one in evidence])


# --- torchvision -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["resnet18", "resnet50"])
@torch.no_grad()
def test_feature_map_and_vector_of_a_resnet(backbone: str) -> None:
    extractor = BackboneGrid(backbone, size=64, seed=3)
    pictures = [noise(50, 40, seed) for seed in range(3)]
    found = list(extractor.extract(pictures, progress=False))
    with torch.random.fork_rng():
        torch.manual_seed(3)
        net = torchvision.models.get_model(backbone, weights=None).eval()
    squashed = [image.resize((64, 64), Image.Resampling.BILINEAR) for image in pictures]
    x = pixels.normalize(torch.stack([pixels.pil_to_tensor(p) for p in squashed]) / 255, IMAGENET_MEAN, IMAGENET_STD)
    expected = nn.Sequential(*list(net.children())[:-2])(x)
    assert expected.shape[2:] == (2, 2)
    torch.testing.assert_close(stacked(found, "grid"), expected.flatten(2).mT, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(stacked(found, "pooled"), expected.mean((2, 3)), atol=1e-5, rtol=1e-4)
    assert [one.size for one in found] == [(50, 40)] * 3
    assert all(one.objects is None and one.caption is None and one.issue is None for one in found)


@torch.no_grad()
def test_patches_and_class_token_of_a_vit() -> None:
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(
        image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=16, mlp_dim=32
    ).eval()
    extractor = BackboneGrid("vit_b_16", size=32)
    from torchvision.models.feature_extraction import create_feature_extractor

    extractor.__dict__["network"] = create_feature_extractor(net, {"encoder": "states"})
    (found,) = extractor.extract([noise(32, 32)], progress=False)
    x = pixels.normalize(pixels.pil_to_tensor(noise(32, 32))[None] / 255, IMAGENET_MEAN, IMAGENET_STD)
    states = net.encoder(torch.cat([net.class_token, net._process_input(x)], 1))
    assert found.grid is not None
    assert found.grid.shape == (16, 16)
    torch.testing.assert_close(found.grid, states[0, 1:])
    torch.testing.assert_close(found.pooled, states[0, 0])
    net.heads = nn.Identity()
    torch.testing.assert_close(found.pooled, net(x)[0])


def test_a_real_vit_is_built_for_its_size() -> None:
    (found,) = BackboneGrid("vit_b_32", size=64).extract([noise()], progress=False)
    assert found.grid is not None
    assert found.grid.shape == (4, 768)


@pytest.mark.parametrize("fit", ["squash", "crop", "center", "letterbox"])
def test_resize_modes(fit: ResizeMode) -> None:
    tall = Image.new("RGB", (20, 80), "white")
    tall.paste((255, 0, 0), (0, 30, 20, 50))
    made = replace(SMALL, resize_mode=fit).preprocess(tall)["pixels"]
    assert made.shape == (3, 64, 64)
    red = (made[0] > 200) & (made[1] < 50)
    # of 80 rows 20 are red; the middle 20 of a crop are all red; letterboxed to 16 columns
    share = {"squash": 0.25, "crop": 1.0, "center": 1.0, "letterbox": 0.0625}[fit]
    assert red.float().mean().item() == pytest.approx(share, abs=0.04)
    if fit == "letterbox":
        assert made[:, 0, 0].tolist() == [124, 116, 104]
        assert torch.equal(made, pixels.pil_to_tensor(ImageOps.pad(tall, (64, 64), 2, color=(124, 116, 104))))


def test_names_and_settings() -> None:
    assert SMALL.name == "resnet18-random-seed0-64px-squash"
    assert BackboneGrid("resnet152", "imagenet").name == "resnet152-imagenet-224px-squash"
    with pytest.raises(ValueError, match="backbone 'vgg' is not among resnet101,"):
        BackboneGrid("vgg")
    with pytest.raises(ValueError, match="resize_mode is one of squash, crop, center, letterbox, not 'stretch'"):
        BackboneGrid(resize_mode="stretch")  # type: ignore[arg-type]
    assert replace(SMALL, stage=1, pool_size=7).name == "resnet18-random-seed0-64px-squash-stage1-7x7"
    with pytest.raises(ValueError, match="a ResNet has stages 1 to 4, not 5"):
        BackboneGrid(stage=5)
    for given in ({"stage": 1}, {"pool_size": 7}):
        with pytest.raises(ValueError, match="stage and pool_size apply to a ResNet; vit_b_16 has patches"):
            BackboneGrid("vit_b_16", **given)


def test_missing_weights() -> None:
    with pytest.raises(FileNotFoundError, match=r"weights='w.pth' is neither 'random', 'imagenet' nor a file"):
        _ = BackboneGrid("resnet18", "w.pth").network
    with pytest.raises(FileNotFoundError, match=r"torchvision has IMAGENET1K_V1 of resnet18, the newest at ht"):
        _ = BackboneGrid("resnet18", "w.pth").network


# --- transformers ----------------------------------------------------------------------------------------

KINDS = ["clip", "siglip", "dinov2", "vit without pooler", "resnet"]


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_patches_and_vector_of_a_tower(kind: str, tmp_path: Path) -> None:
    folder = tiny_models.tower(kind, tmp_path / kind)
    pictures = [noise(50, 40, seed) for seed in range(3)]
    found = list(VisionTower(folder).extract(pictures, progress=False))
    model = hf.AutoModel.from_pretrained(folder).eval()
    x = hf.AutoImageProcessor.from_pretrained(folder)(images=pictures, return_tensors="pt").pixel_values
    if kind in ("clip", "siglip"):
        outputs = model.vision_model(x)
        pooled = model.get_image_features(x)
        if kind == "clip":
            torch.testing.assert_close(model.visual_projection(stacked(found, "pooled")), pooled.pooler_output)
        else:
            torch.testing.assert_close(stacked(found, "pooled"), pooled.pooler_output)
    else:
        outputs = model(x)
    states = outputs.last_hidden_state
    if kind == "resnet":
        torch.testing.assert_close(stacked(found, "grid"), states.flatten(2).mT)
        torch.testing.assert_close(stacked(found, "pooled"), states.mean((2, 3)), atol=1e-6, rtol=1e-5)
        return
    before = {"clip": 1, "siglip": 0, "dinov2": 4, "vit without pooler": 1}[kind]
    assert stacked(found, "grid").shape == (3, 16, 16)
    torch.testing.assert_close(stacked(found, "grid"), states[:, before:])
    if kind in ("dinov2", "vit without pooler"):
        torch.testing.assert_close(stacked(found, "pooled"), states[:, 0])


def test_names_of_towers_with_random_weights(tmp_path: Path) -> None:
    folder = tiny_models.tower("siglip", tmp_path / "siglip-tiny")
    drawn = VisionTower(folder, weights="random", seed=5)
    assert drawn.name == "siglip-tiny-random-seed5"
    assert VisionTower(folder).name == "siglip-tiny"
    assert VisionTower("facebook/dinov2-base").name == "facebook--dinov2-base"
    (one,) = drawn.extract([noise()], progress=False)
    (again,) = VisionTower(folder, weights="random", seed=5).extract([noise()], progress=False)
    (other,) = VisionTower(folder).extract([noise()], progress=False)
    assert one.grid is not None
    assert torch.equal(one.grid, again.grid)
    assert not torch.allclose(one.grid, other.grid)
    (tmp_path / "siglip-tiny" / "model.safetensors").unlink()
    (more,) = VisionTower(folder, weights="random", seed=5).extract([noise()], progress=False)
    assert torch.equal(one.grid, more.grid)
    with pytest.raises(OSError, match=r"no vision model at '.*siglip-tiny': give the name of one on the Hugging"):
        _ = VisionTower(folder).network
    with pytest.raises(ValueError, match="right is 'pretrained' or 'random'"):
        _ = VisionTower(folder, weights="none").network  # type: ignore[arg-type]


def test_identity_has_the_settings_of_the_processor(tmp_path: Path) -> None:
    folder = Path(tiny_models.tower("siglip", tmp_path / "siglip"))
    found = VisionTower(str(folder)).identity()
    assert found["settings"] == {"model": "siglip", "weights": "pretrained", "seed": 0}
    assert found["processor"]["size"] == {"height": 32, "width": 32}
    hf.SiglipImageProcessor(size={"height": 32, "width": 32}, do_normalize=False).save_pretrained(folder)
    other = VisionTower(str(folder)).identity()
    assert {key for key in found if found[key] != other[key]} == {"processor"}
    assert SMALL.identity()["processor"] is None


def test_a_tower_with_missing_weights(tmp_path: Path) -> None:
    folder = Path(tiny_models.tower("dinov2", tmp_path / "dino"))
    from safetensors.torch import load_file, save_file

    state = load_file(folder / "model.safetensors")
    del state["layernorm.weight"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"has no weights for layernorm.weight: it is no vision model, or not"):
        _ = VisionTower(str(folder)).network
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(OSError, match=r"no AutoImageProcessor for '.*dino': beside the model lie preprocessor"):
        _ = VisionTower(str(folder)).processor
