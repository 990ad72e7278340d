"""Convert detected boxes to objects and image evidence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import BatchImage, ImageEvidence
from mnergraph.pair import Box, DetectedObject


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> list[Box]:
    """Return boxes ``[n, 4]`` (xyxy, in pixels) clipped to an image of this width and height."""
    width, height = size
    rims = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.cpu().clamp(min=0).minimum(rims).tolist()]


def to_xyxy(boxes: Tensor) -> Tensor:
    """Convert boxes ``[..., 4]`` from center, width and height to left, top, right and bottom."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def best_objects(objects: Sequence[DetectedObject], top_k: int | None = None) -> tuple[DetectedObject, ...]:
    """Return the ``top_k`` objects of highest score whose clipped boxes are not empty."""
    visible = [obj for obj in objects if obj.box and _area(obj.box) > 0]
    return tuple(sorted(visible, key=lambda obj: -obj.score)[:top_k])


def evidence_of_objects(
    found: Sequence[Sequence[DetectedObject]],
    items: Sequence[BatchImage],
    region_encoder: RegionEncoder | None,
    device: torch.device,
) -> list[ImageEvidence]:
    """Return the evidence of every image: its objects, with region vectors if a region encoder is given."""
    if region_encoder is None:
        return [ImageEvidence(objects=tuple(objects)) for objects in found]
    boxes = [[obj.box for obj in objects if obj.box is not None] for objects in found]
    vectors = region_encoder.encode_images([item.source for item in items], boxes, device)
    return [
        ImageEvidence(objects=tuple(replace(obj, region=row) for obj, row in zip(objects, rows, strict=True)))
        for objects, rows in zip(found, vectors, strict=True)
    ]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
