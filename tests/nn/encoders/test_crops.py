"""A backbone in the model: features of crops that a loader's workers cut, and its gradients."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import make_builder
from odd_images import noise, save_rotated
from torchvision.models import resnet18

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.vision.crops import CropPixels, RegionEncoder
from mnergraph.graph import Complete, Relation, Schema, collate
from mnergraph.labels import LabelSet
from mnergraph.models import UMGF, Tagger
from mnergraph.models.umgf.model import ResNetConfig
from mnergraph.nn import ObjectEncoder, PixelEncoder
from mnergraph.nn.encoders.visual import REGION_FEATURES
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, fit
from mnergraph.training.loader import GraphLoader

SCHEMA = Schema([Relation("object", "guides", "token", Complete())])
BUILDER = make_builder(SCHEMA, crop_reader=CropPixels(32))
CROPS = RegionEncoder(size=32, seed=3)
LABELS = LabelSet.from_types(["PER", "LOC"])


@pytest.fixture
def posts(tmp_path: Path) -> list[Pair]:
    """Boxes and an object without box; no box; no image; an unreadable image; a rotated image."""
    for seed in range(2):
        noise(seed=seed).save(tmp_path / f"{seed}.png")
    save_rotated(noise(seed=4), tmp_path / "4.png", 6)
    (tmp_path / "3.png").write_bytes(b"no image")
    box, other = (
        DetectedObject("man", box=(3, 5, 17, 21)),
        DetectedObject("dog", box=(0, 0, 40, 30), span=(0, 1)),
    )
    words, tags = ("Ann", "saw", "Rome"), ("B-PER", "O", "B-LOC")
    return [
        Pair(words, tags, "0", tmp_path / "0.png", (40, 30), (box, DetectedObject("a hat"), other)),
        Pair(words, tags, "1", tmp_path / "1.png"),
        Pair(words, tags, "2", objects=(box,)),
        Pair(words, tags, "4", tmp_path / "4.png", (40, 30), (box,)),
    ]


def unreadable(posts: list[Pair]) -> Pair:
    return replace(posts[0], id="3", image_path=(posts[0].image_path or Path()).with_name("3.png"))


def vectors(layer: PixelEncoder, pairs: list[Pair]) -> torch.Tensor:
    return layer(GraphState.from_batch(collate(BUILDER.build_all(pairs)), SCHEMA)).x[REGION_FEATURES]


# --- cutting ---------------------------------------------------------------------------------------------


def test_a_unloaded_is_finished_with_pixels(posts: list[Pair]) -> None:
    unloaded = BUILDER.build(posts[0])
    assert "pixels" not in unloaded["object"]
    graph = BUILDER.load_image_tensors(unloaded)
    assert "pixels" not in unloaded["object"], "the unloaded is unchanged"
    assert graph["object"].pixels.shape == (3, 3, 32, 32)
    assert graph["object"].pixels.dtype == torch.uint8
    assert graph["object"].has_x.tolist() == [True, False, True]
    whole = BUILDER(posts[1])
    assert whole["object"].num_nodes == 1
    assert whole["object"].box.tolist() == [[0, 0, 40, 30]]
    assert whole["object"].has_x.tolist() == [True]
    assert BUILDER(posts[2])["object"].has_x.tolist() == [False]
    plain = make_builder(SCHEMA)
    assert plain.load_image_tensors(unloaded) is unloaded
    with pytest.raises(ValueError, match="objects have pixels or region vectors: give crop_reader or region_dim"):
        make_builder(SCHEMA, crop_reader=CropPixels(), region_dim=6)


def test_an_unreadable_image_has_no_pixels(posts: list[Pair]) -> None:
    with pytest.warns(UserWarning, match=r"post 3: 3.png: .*; its objects have no pixels"):
        graph = BUILDER(unreadable(posts))
    assert graph["object"].has_x.tolist() == [False] * 3
    assert not graph["object"].pixels.any()


def test_workers_crop_images(posts: list[Pair]) -> None:
    unloadeds = [BUILDER.build(pair) for pair in posts * 2]
    for workers in (0, 2):
        batches = list(GraphLoader(unloadeds, 3, shuffle=False, workers=workers, finish=BUILDER.load_image_tensors))
        expected = [collate(BUILDER.build_all(posts * 2))]
        pixels = torch.cat([batch["object"].pixels for batch in batches])
        assert torch.equal(pixels, expected[0]["object"].pixels)
        assert [pair.id for batch in batches for pair in batch.pair] == [pair.id for pair in posts * 2]


# --- the layer -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("training", [True, False])
def test_vectors_are_those_of_the_backbone(posts: list[Pair], training: bool) -> None:
    layer = PixelEncoder(CROPS).train(training)
    found = vectors(layer, posts)
    boxes = [(3, 5, 17, 21), (0, 0, 40, 30)]
    expected = torch.zeros(6, 512)
    expected[[0, 2]] = CROPS(noise(seed=0), boxes)  # type: ignore[arg-type]
    expected[3] = CROPS(noise(seed=1), boxes[1:])[0]  # type: ignore[arg-type]
    expected[5] = CROPS(noise(seed=4), boxes[:1])[0]  # type: ignore[arg-type]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    alone = torch.cat([vectors(layer, [post]) for post in posts])
    torch.testing.assert_close(alone, found, atol=1e-5, rtol=1e-4)


def test_gradients_with_and_without_pixels(posts: list[Pair]) -> None:
    layer = PixelEncoder(CROPS).train()
    vectors(layer, posts).square().sum().backward()
    for name, weight in layer.backbone.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all()
        assert weight.grad.any(), name
    before = layer.backbone.bn1.running_mean.clone()
    assert not vectors(layer, posts[2:3]).any()
    assert vectors(layer, [Pair(("a",))]).shape == (0, 512)
    assert torch.equal(layer.backbone.bn1.running_mean, before)
    layer.zero_grad()
    (vectors(layer, posts[2:3]).sum() * 2).backward()
    assert all(weight.grad is None or not weight.grad.any() for weight in layer.parameters())


def test_object_encoder_uses_the_vectors(posts: list[Pair]) -> None:
    torch.manual_seed(0)
    encoder = ObjectEncoder(8, region_dim=512)
    graph = GraphState.from_batch(collate(BUILDER.build_all(posts)), SCHEMA)
    found = encoder(PixelEncoder(CROPS)(graph)).x["object"]
    assert encoder.region is not None
    has = graph.data["object"].has_x[:, None]
    expected = encoder.region(vectors(PixelEncoder(CROPS), posts)) * has
    torch.testing.assert_close(found, expected)


# --- in a model ------------------------------------------------------------------------------------------


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    torch.save(resnet18(weights=None).state_dict(), tmp_path / "first.pth")
    return tmp_path / "first.pth"


def test_umgf_fine_tunes_its_resnet(posts: list[Pair], weights: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    words = tiny_encoder(["ann", "saw", "rome"], hidden_size=16, num_layers=1, heads=2)
    model = UMGF(
        words, LABELS, hidden_size=16, num_heads=2, num_layers=1, resnet=ResNetConfig("resnet18", str(weights))
    )
    (layer,) = [part for part in model.modules() if isinstance(part, PixelEncoder)]
    first = torch.load(weights, weights_only=True)
    assert torch.equal(layer.backbone.conv1.weight, first["conv1.weight"])
    assert {id(w) for w in layer.parameters()} < {id(w) for w in model.encoder_parameters()}
    fit(
        model,
        posts,
        posts[:1],
        tmp_path / "run",
        optimizer=OptimizerConfig(warmup=0.0),
        trainer=TrainerConfig(epochs=1, batch_size=4, workers=1, progress=False, logger="none", accelerator="cpu"),
    )
    assert not torch.equal(layer.backbone.conv1.weight, first["conv1.weight"])
    assert torch.equal(layer.backbone.bn1.running_mean, first["bn1.running_mean"])

    # the saved model does not need the file of initial weights
    model.save_pretrained(tmp_path / "saved")
    weights.unlink()
    again = Tagger.from_pretrained(tmp_path / "saved")
    assert again.predict(posts) == model.predict(posts)
    with pytest.raises(FileNotFoundError, match=r"first.pth' is neither 'random', 'imagenet' nor a file"):
        UMGF(words, LABELS, hidden_size=16, num_heads=2, resnet=ResNetConfig("resnet18", str(weights)))
    with pytest.raises(ValueError, match="objects have pixels or region vectors"):
        UMGF(words, LABELS, hidden_size=16, num_heads=2, resnet=ResNetConfig("resnet18", "random"), region_dim=6)


def test_every_parameter_has_a_gradient(posts: list[Pair]) -> None:
    torch.manual_seed(0)
    words = tiny_encoder(["ann", "saw", "rome"], hidden_size=16, num_layers=1, heads=2)
    model = UMGF(
        words, LABELS, hidden_size=16, num_heads=2, num_layers=2, dropout=0.0, resnet=ResNetConfig("resnet18", "random")
    )
    model.loss(model.train()(collate(model.builder.build_all(posts)))).backward()
    backbone = [(name, w) for name, w in model.named_parameters() if ".backbone." in name]
    assert len(backbone) == len(list(resnet18().parameters())) - 2
    for name, weight in backbone:
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.any(), name
