"""Torchvision's detectors: boxes equal those of a direct call, and regions are the features of these boxes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from odd_images import noise
from PIL import Image
from red_rectangles import RED_BOX, find_red_box, red_boxes, rotated_files
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
    extractor, images = SMALL[name], [noise(50, 40, 1), noise(30, 60, 2)]
    found = list(extractor.extract(images, progress=False))
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
    for image, evidence in zip(images, found, strict=True):
        tensor = pixels.pil_to_tensor(image) / 255
        (outputs,) = net([tensor])
        assert evidence.objects is not None
        assert len(evidence.objects) == 4
        boxes = torch.tensor([obj.box for obj in evidence.objects])
        torch.testing.assert_close(boxes, outputs["boxes"], atol=1e-3, rtol=1e-4)
        torch.testing.assert_close(torch.tensor([t.score for t in evidence.objects]), outputs["scores"])
        assert [obj.label for obj in evidence.objects] == [COCO_LABELS[label] for label in outputs["labels"]]
        # the same boxes, scaled to the network's input, pooled from its feature maps
        batch, _ = net.transform([tensor])
        maps = net.backbone(batch.tensors)
        height, width = batch.image_sizes[0]
        scaled = outputs["boxes"] * torch.tensor([width / image.width, height / image.height] * 2)
        pooled = net.roi_heads.box_head(net.roi_heads.box_roi_pool(maps, [scaled], batch.image_sizes))
        regions = torch.stack([obj.region for obj in evidence.objects])  # type: ignore[misc]
        assert regions.shape == (4, 1024)
        torch.testing.assert_close(regions, pooled, atol=1e-4, rtol=1e-3)
        assert evidence.size == image.size


def test_results_do_not_depend_on_the_batch() -> None:
    # two of one shape, one of another, one whose shape is the same only when padded to 32
    images = [noise(50, 40, 1), noise(50, 40, 2), noise(30, 60, 3), noise(51, 40, 4)]
    together = list(MOBILE.extract(images, progress=False))
    for image, evidence in zip(images, together, strict=True):
        (alone,) = MOBILE.extract([image], progress=False)
        assert_alike(alone, evidence)


def assert_alike(one: ImageEvidence, other: ImageEvidence) -> None:
    assert one.objects is not None
    assert other.objects is not None
    assert [obj.label for obj in one.objects] == [obj.label for obj in other.objects]
    for a, b in zip(one.objects, other.objects, strict=True):
        assert a.box == pytest.approx(b.box, abs=1e-3)
        torch.testing.assert_close(a.region, b.region, atol=1e-4, rtol=1e-3)


def test_threshold_and_top() -> None:
    (evidence,) = replace(MOBILE, top_k=50).extract([noise()], progress=False)
    everything = evidence.objects
    assert everything is not None
    scores = [obj.score for obj in everything]
    assert scores == sorted(scores, reverse=True)
    middle = (scores[0] + scores[-1]) / 2
    (few,) = replace(MOBILE, top_k=50, threshold=middle).extract([noise()], progress=False)
    assert few.objects is not None
    assert 0 < len(few.objects) < len(everything)
    assert [obj.score for obj in few.objects] == [score for score in scores if score > middle]
    (none,) = replace(MOBILE, threshold=0.99).extract([noise()], progress=False)
    assert none.objects == ()


class RedBoxDetector(nn.Module):
    """Stands for a detector's network: returns the box of the red pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.roi_heads = self.Heads()

    class Heads(nn.Module):
        def forward(self, maps: Tensor, proposals: None, sizes: list[tuple[int, int]]) -> Any:
            boxes = [
                find_red_box(one[:, :height, :width], dark=0.0)
                for one, (height, width) in zip(maps, sizes, strict=True)
            ]
            return [
                {"boxes": box[None], "labels": torch.ones(1, dtype=torch.int64), "scores": torch.ones(1)}
                for box in boxes
            ], {}

        def box_roi_pool(self, maps: Tensor, boxes: list[Tensor], sizes: object) -> Tensor:
            return torch.cat(boxes)

        def box_head(self, pooled: Tensor) -> Tensor:
            return pooled

    def backbone(self, batch: Tensor) -> Tensor:
        return batch

    def rpn(self, batch: ImageList, maps: Tensor) -> tuple[None, dict[str, Tensor]]:
        return None, {}


@pytest.mark.parametrize("case", rotated_files())
def test_boxes_survive_scaling_rotation_and_padding_to_the_pixel(case: str, tmp_path: Path) -> None:
    path = rotated_files()[case](tmp_path)
    extractor = RCNNDetector(min_size=120, max_size=400)  # 40 x 30 becomes 160 x 120, and that is padded to 160 x 128
    extractor.__dict__["network"] = RedBoxDetector()
    (evidence,) = extractor.extract([path], progress=False)
    assert red_boxes(evidence) == [pytest.approx(RED_BOX, abs=0.5)]


def test_names_labels_and_weights(tmp_path: Path) -> None:
    assert MOBILE.name == "fasterrcnn_mobilenet_v3_large_320_fpn-random-seed0-top4"
    assert RCNNDetector(weights="coco").name == "fasterrcnn_resnet50_fpn_v2-coco-top10"
    with pytest.raises(ValueError, match="detector 'yolo' is not among fasterrcnn_mobilenet_v3_large_320_fpn"):
        RCNNDetector("yolo")
    own = replace(MOBILE, labels=("hat",), seed=1)
    torch.save({**own.network.state_dict()}, tmp_path / "own.pth")
    loaded = replace(own, weights=str(tmp_path / "own.pth"))
    (evidence,), (again,) = (list(e.extract([noise()], progress=False)) for e in (own, loaded))
    assert_alike(evidence, again)
    assert {obj.label for obj in evidence.objects or ()} == {"hat"}
    assert loaded.identity()["weights"] == own.identity()["weights"]
    with pytest.raises(ValueError, match="are not those of fasterrcnn_mobilenet_v3_large_320_fpn"):
        _ = replace(loaded, labels=()).network
    with pytest.raises(FileNotFoundError, match=r"neither 'random', 'coco' nor a file of weights; torchvision ha"):
        _ = RCNNDetector(weights="mine.pth").network


def test_an_extreme_aspect_ratio_is_unfit() -> None:
    evidence = list(MOBILE.extract([Image.new("RGB", (12_000, 1)), noise()], progress=False))
    assert evidence[0].issue is not None
    assert evidence[0].issue.code == "unfit"
    assert "12000 x 1 pixels" in evidence[0].issue.detail
    assert evidence[1].objects
