"""What a detector found, as objects of a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import BatchImage, ImageEvidence
from mnergraph.pair import Box, DetectedObject


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> list[Box]:
    """Boxes ``[n, 4]`` in pixels of a picture of this width and height, clipped to it."""
    width, height = size
    rims = torch.tensor([width, height, width, height], dtype=boxes.dtype)
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in boxes.cpu().clamp(min=0).minimum(rims).tolist()]


def to_xyxy(boxes: Tensor) -> Tensor:
    """Centre, width and height ``[..., 4]`` as left, top, right and bottom."""
    x, y, width, height = boxes.unbind(-1)
    return torch.stack([x - width / 2, y - height / 2, x + width / 2, y + height / 2], -1)


def best_objects(objects: Sequence[DetectedObject], top_k: int | None = None) -> tuple[DetectedObject, ...]:
    """The best of these by score, those left out of which nothing lies in the picture."""
    visible = [thing for thing in objects if thing.box and _area(thing.box) > 0]
    return tuple(sorted(visible, key=lambda thing: -thing.score)[:top_k])


def evidence_of_objects(
    found: Sequence[Sequence[DetectedObject]],
    items: Sequence[BatchImage],
    region_encoder: RegionEncoder | None,
    device: torch.device,
) -> list[ImageEvidence]:
    """The objects of every picture, with the vectors of their crops where a cropper is given."""
    if region_encoder is None:
        return [ImageEvidence(objects=tuple(objects)) for objects in found]
    boxes = [[thing.box for thing in objects if thing.box is not None] for objects in found]
    vectors = region_encoder.encode_images([item.source for item in items], boxes, device)
    return [
        ImageEvidence(objects=tuple(replace(thing, region=row) for thing, row in zip(objects, rows, strict=True)))
        for objects, rows in zip(found, vectors, strict=True)
    ]


def _area(box: Box) -> float:
    return max(0.0, box[2] - box[0]) * max(0.0, box[3] - box[1])
