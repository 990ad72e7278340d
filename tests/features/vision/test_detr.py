"""DETR-like detectors: boxes equal those of their processors, and regions are the states of the boxes' queries."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
import transformers as hf
from odd_images import noise
from PIL import Image
from red_rectangles import RED_BOX, find_red_box, red_boxes, rotated_files
from torch import Tensor, nn

from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.detr import DETRDetector
from mnergraph.features.vision.extractor import ImageEvidence

KINDS = ["detr", "deformable detr", "rt-detr", "yolos"]
#: Resized to 96 x 64 by the models' processors.
IMAGES = [noise(48, 32, 1), noise(48, 32, 2)]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    index = tmp_path_factory.mktemp("detectors")
    return {kind: tiny_models.detector(kind, index / kind.replace(" ", "-")) for kind in KINDS}


def assert_alike(one: ImageEvidence, other: ImageEvidence) -> None:
    assert one.objects is not None
    assert other.objects is not None
    assert len(one.objects) == len(other.objects)
    for a, b in zip(one.objects, other.objects, strict=True):
        assert a.label == b.label
        assert a.box == pytest.approx(b.box, abs=1e-3)
        assert a.score == pytest.approx(b.score, abs=1e-5)
        torch.testing.assert_close(a.region, b.region, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_boxes_and_states_of_their_queries(kind: str, folders: dict[str, str]) -> None:
    extractor = DETRDetector(folders[kind], threshold=0.05, top_k=100)
    found = list(extractor.extract(IMAGES, progress=False))
    model = hf.AutoModelForObjectDetection.from_pretrained(folders[kind]).eval()
    processor = hf.AutoImageProcessor.from_pretrained(folders[kind])
    outputs = model(processor(images=IMAGES, return_tensors="pt").pixel_values)
    expected = processor.post_process_object_detection(outputs, threshold=0.05, target_sizes=[(32, 48)] * 2)
    for index, (evidence, target) in enumerate(zip(found, expected, strict=True)):
        assert evidence.objects is not None
        order = target["scores"].argsort(descending=True, stable=True)
        assert len(evidence.objects) == len(order) > 3
        assert [obj.label for obj in evidence.objects] == [
            model.config.id2label[label] for label in target["labels"][order].tolist()
        ]
        torch.testing.assert_close(torch.tensor([t.score for t in evidence.objects]), target["scores"][order])
        boxes = target["boxes"][order].clamp(min=0).minimum(torch.tensor([48.0, 32, 48, 32]))
        torch.testing.assert_close(torch.tensor([obj.box for obj in evidence.objects]), boxes, atol=1e-4, rtol=1e-5)
        # every vector is the state of a query whose box this is; a tiny one's lie close together
        states = outputs.last_hidden_state[index, -7:]
        x, y, width, height = (outputs.pred_boxes[index] * torch.tensor([48, 32, 48, 32])).unbind(-1)
        all_boxes = torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)
        for obj, box in zip(evidence.objects, target["boxes"][order], strict=True):
            candidates = states[(all_boxes - box).abs().amax(-1) < 0.01]
            assert obj.region is not None
            assert (candidates - obj.region).abs().amax(-1).min() < 1e-5
        assert len({obj.region[0].item() for obj in evidence.objects if obj.region is not None}) > 3


@pytest.mark.parametrize("kind", KINDS)
def test_results_do_not_depend_on_the_batch(kind: str, folders: dict[str, str]) -> None:
    extractor = DETRDetector(folders[kind], threshold=0.05, top_k=5)
    pictures = [*IMAGES, noise(30, 45, 3), noise(70, 40, 4)]
    if kind == "yolos":  # a tiny one knows images of one shape
        pictures = IMAGES
    for image, evidence in zip(pictures, extractor.extract(pictures, progress=False), strict=True):
        (alone,) = extractor.extract([image], progress=False)
        assert_alike(alone, evidence)
        assert evidence.objects
        assert len(evidence.objects) <= 5


def test_threshold_and_top(folders: dict[str, str]) -> None:
    everything = DETRDetector(folders["detr"], threshold=0.0, top_k=100)
    (evidence,) = everything.extract(IMAGES[:1], progress=False)
    assert evidence.objects is not None
    scores = [obj.score for obj in evidence.objects]
    assert len(scores) == 7
    assert scores == sorted(scores, reverse=True)
    (few,) = replace(everything, top_k=3).extract(IMAGES[:1], progress=False)
    assert_alike(few, replace(evidence, objects=evidence.objects[:3]))
    (sure,) = replace(everything, threshold=(scores[3] + scores[4]) / 2).extract(IMAGES[:1], progress=False)
    assert_alike(sure, replace(evidence, objects=evidence.objects[:4]))
    (none,) = replace(everything, threshold=0.999).extract(IMAGES[:1], progress=False)
    assert none.objects == ()


def test_crops_in_place_of_states(folders: dict[str, str], tmp_path: Path) -> None:
    crops = RegionEncoder(size=32, seed=2)
    extractor = DETRDetector(folders["detr"], threshold=0.05, top_k=3, region_encoder=crops)
    paths = []
    for index, image in enumerate(IMAGES):
        image.save(tmp_path / f"{index}.png")
        paths.append(tmp_path / f"{index}.png")
    plain = DETRDetector(folders["detr"], threshold=0.05, top_k=3).extract(paths, progress=False)
    for image, evidence, bare in zip(IMAGES, extractor.extract(paths, progress=False), plain, strict=True):
        assert evidence.objects == bare.objects
        assert evidence.objects
        boxes = [obj.box for obj in evidence.objects if obj.box]
        regions = torch.stack([obj.region for obj in evidence.objects])  # type: ignore[misc]
        torch.testing.assert_close(regions, crops(image, boxes), atol=1e-5, rtol=1e-4)
    (nothing,) = replace(extractor, threshold=0.999).extract(paths[:1], progress=False)
    assert nothing.objects == ()
    assert extractor.name.endswith("detr-top3-resnet18-random-seed2-32px")
    identity = extractor.identity()["settings"]["region_encoder"]
    assert identity == crops.identity()
    assert "batch_size" not in identity["settings"]


class RedBoxDetector(nn.Module):
    """Stands for a detector: one query returns the box of the red pixels, the others no object."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    def forward(self, pixel_values: Tensor, pixel_mask: Tensor | None = None) -> Any:
        height, width = pixel_values.shape[-2:]
        boxes = torch.stack([find_red_box(one, dark=-9.0) for one in pixel_values])
        boxes = boxes / torch.tensor([width, height, width, height])
        centres = torch.cat([(boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]], 1)
        pred = torch.full((len(boxes), 7, 4), 0.5)
        pred[:, 4] = centres
        logits = torch.full((len(boxes), 7, 5), -20.0)
        logits[..., -1] = 0.0
        logits[:, 4, 1], logits[:, 4, -1] = 20.0, -20.0
        states = torch.arange(7.0)[None, :, None].expand(len(boxes), 7, 3)
        return hf.models.detr.modeling_detr.DetrObjectDetectionOutput(
            logits=logits, pred_boxes=pred, last_hidden_state=states
        )


@pytest.mark.parametrize("case", rotated_files())
def test_boxes_survive_scaling_and_rotation_to_the_pixel(case: str, folders: dict[str, str], tmp_path: Path) -> None:
    extractor = DETRDetector(folders["detr"])
    extractor.__dict__["network"] = RedBoxDetector(extractor.network.config)
    # 40 x 30 becomes 85 x 64
    (evidence,) = extractor.extract([rotated_files()[case](tmp_path)], progress=False)
    assert red_boxes(evidence) == [pytest.approx(RED_BOX, abs=0.5)]
    assert evidence.objects is not None
    assert evidence.objects[0].label == "dog"
    assert evidence.objects[0].region is not None
    assert evidence.objects[0].region.tolist() == [4, 4, 4]


def test_missing_models(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"no object detector at '.*nowhere': give the name of one on the Hugging"):
        _ = DETRDetector(str(tmp_path / "nowhere")).network
    tower = tiny_models.tower("clip", tmp_path / "clip")
    with pytest.raises(OSError, match="no object detector at"):
        _ = DETRDetector(tower).network


def test_an_extreme_aspect_ratio_does_not_stop_the_batch(folders: dict[str, str]) -> None:
    extractor = DETRDetector(folders["detr"], threshold=0.0)
    strip, good = extractor.extract([Image.new("RGB", (12_000, 1)), IMAGES[0]], progress=False)
    assert strip.issue is not None
    assert strip.issue.code in ("unfit", "tiny")
    assert good.objects
