"""Torchvision's detectors: what they say when called directly, and features of just those boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from odd_images import noise
from PIL import Image
from red_rectangles import RED_BOX, red_boxes, red_in, sighting
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.vision.detectors import COCO_LABELS, RCNNDetector
from mnergraph.features.vision.extractor import ImageEvidence

SMALL = {
    name: RCNNDetector(name, min_size=32, max_size=64, threshold=0.0, top_k=4)
    for name in (
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "fasterrcnn_resnet50_fpn_v2",
        "maskrcnn_resnet50_fpn_v2",
    )
}
MOBILE = SMALL["fasterrcnn_mobilenet_v3_large_320_fpn"]


@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_final_boxes_and_their_features(name: str) -> None:
    extractor, pictures = SMALL[name], [noise(50, 40, 1), noise(30, 60, 2)]
    found = list(extractor.extract(pictures, progress=False))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net: Any = torchvision.models.get_model(
            name,
            weights=None,
            weights_backbone=None,
            min_size=32,
            max_size=64,
            box_score_thresh=0.0,
            box_detections_per_img=4,
        ).eval()
    for picture, observed in zip(pictures, found, strict=True):
        image = pixels.pil_to_tensor(picture) / 255
        (said,) = net([image])
        assert observed.objects is not None
        assert len(observed.objects) == 4
        boxes = torch.tensor([thing.box for thing in observed.objects])
        torch.testing.assert_close(boxes, said["boxes"], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(torch.tensor([t.score for t in observed.objects]), said["scores"])
        assert [thing.label for thing in observed.objects] == [COCO_LABELS[label] for label in said["labels"]]
        # the same boxes, scaled to the image as the net sees it, pooled from its maps
        images, _ = net.transform([image])
        maps = net.backbone(images.tensors)
        height, width = images.image_sizes[0]
        scaled = said["boxes"] * torch.tensor([width / picture.width, height / picture.height] * 2)
        pooled = net.roi_heads.box_head(net.roi_heads.box_roi_pool(maps, [scaled], images.image_sizes))
        regions = torch.stack([thing.region for thing in observed.objects])  # type: ignore[misc]
        assert regions.shape == (4, 1024)
        torch.testing.assert_close(regions, pooled, atol=1e-4, rtol=1e-3)
        assert observed.size == picture.size


def test_alone_against_together() -> None:
    # two of one shape, one of another, one whose shape is the same only when padded to 32
    pictures = [noise(50, 40, 1), noise(50, 40, 2), noise(30, 60, 3), noise(51, 40, 4)]
    together = list(MOBILE.extract(pictures, progress=False))
    for picture, observed in zip(pictures, together, strict=True):
        (alone,) = MOBILE.extract([picture], progress=False)
        assert_alike(alone, observed)


def assert_alike(one: ImageEvidence, other: ImageEvidence) -> None:
    assert one.objects is not None
    assert other.objects is not None
    assert [thing.label for thing in one.objects] == [thing.label for thing in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert a.box == pytest.approx(b.box, abs=1e-3)
        torch.testing.assert_close(a.region, b.region, atol=1e-4, rtol=1e-3)


def test_threshold_and_top() -> None:
    (observed,) = replace(MOBILE, top_k=50).extract([noise()], progress=False)
    everything = observed.objects
    assert everything is not None
    scores = [thing.score for thing in everything]
    assert scores == sorted(scores, reverse=True)
    middle = (scores[0] + scores[-1]) / 2
    (few,) = replace(MOBILE, top_k=50, threshold=middle).extract([noise()], progress=False)
    assert few.objects is not None
    assert 0 < len(few.objects) < len(everything)
    assert [thing.score for thing in few.objects] == [score for score in scores if score > middle]
    (none,) = replace(MOBILE, threshold=0.99).extract([noise()], progress=False)
    assert none.objects == ()


class Finder(nn.Module):
    """In place of a detector's network: its final box is where the image that it gets is red."""

    def __init__(self) -> None:
        super().__init__()
        self.roi_heads = self.Heads()

    class Heads(nn.Module):
        def forward(self, maps: Tensor, proposals: None, sizes: list[tuple[int, int]]) -> Any:
            boxes = [
                red_in(one[:, :height, :width], dark=0.0) for one, (height, width) in zip(maps, sizes, strict=True)
            ]
            return [
                {"boxes": box[None], "labels": torch.ones(1, dtype=torch.int64), "scores": torch.ones(1)}
                for box in boxes
            ], {}

        def box_roi_pool(self, maps: Tensor, boxes: list[Tensor], sizes: object) -> Tensor:
            return torch.cat(boxes)

        def box_head(self, pooled: Tensor) -> Tensor:
            return pooled

    def backbone(self, images: Tensor) -> Tensor:
        return images

    def rpn(self, images: ImageList, maps: Tensor) -> tuple[None, dict[str, Tensor]]:
        return None, {}


@pytest.mark.parametrize("case", sighting())
def test_boxes_survive_scaling_rotation_and_padding_to_the_pixel(case: str, tmp_path: Path) -> None:
    path = sighting()[case](tmp_path)
    extractor = RCNNDetector(min_size=120, max_size=400)  # 40 x 30 becomes 160 x 120, and that is padded to 160 x 128
    extractor.__dict__["network"] = Finder()
    (observed,) = extractor.extract([path], progress=False)
    assert red_boxes(observed) == [pytest.approx(RED_BOX, abs=0.5)]


def test_names_labels_and_weights(tmp_path: Path) -> None:
    assert MOBILE.name == "fasterrcnn_mobilenet_v3_large_320_fpn-random-seed0-top4"
    assert RCNNDetector(weights="coco").name == "fasterrcnn_resnet50_fpn_v2-coco-top10"
    with pytest.raises(ValueError, match="detector 'yolo' is not among fasterrcnn_mobilenet_v3_large_320_fpn"):
        RCNNDetector("yolo")
    own = replace(MOBILE, labels=("hat",), seed=1)
    torch.save({**own.network.state_dict()}, tmp_path / "own.pth")
    loaded = replace(own, weights=str(tmp_path / "own.pth"))
    (observed,), (again,) = (list(e.extract([noise()], progress=False)) for e in (own, loaded))
    assert_alike(observed, again)
    assert {thing.label for thing in observed.objects or ()} == {"hat"}
    assert loaded.identity()["weights"] == own.identity()["weights"]
    with pytest.raises(ValueError, match="are not those of fasterrcnn_mobilenet_v3_large_320_fpn"):
        _ = replace(loaded, labels=()).network
    with pytest.raises(FileNotFoundError, match=r"neither 'random', 'coco' nor a file of weights; torchvision ha"):
        _ = RCNNDetector(weights="mine.pth").network


def test_a_strip_is_unfit() -> None:
    observed = list(MOBILE.extract([Image.new("RGB", (12_000, 1)), noise()], progress=False))
    assert observed[0].issue is not None
    assert observed[0].issue.code == "unfit"
    assert "12000 x 1 pixels" in observed[0].issue.detail
    assert observed[1].objects
