"""Objects by DETR and its heirs: transformers' object detection, in which every query may find one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoImageProcessor, AutoModelForObjectDetection

from mnergraph.features.pretrained import PRETRAINED, from_transformers, named, pixel_tensors, processor
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.boxes import best, corners, seen, within
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import Extractor, ImageEvidence, Item
from mnergraph.pair import DetectedObject


@dataclass(frozen=True)
class DETRDetector(Extractor):
    """Boxes of DETR, Deformable DETR, RT-DETR, YOLOS, ..., each with its label, score and region vector.

    Args:
        model: hub name or folder, such as ``facebook/detr-resnet-50``.
        weights: ``pretrained``, or ``random`` for the model's configuration with weights nobody trained.
        threshold: the score that a box must exceed.
        top: as many boxes as are kept, best first.
        crops: gives the box's crop as its vector (GEI: ResNet-152); None for the last state of the query
            that found it.
        seed: of random weights.
    """

    gives: ClassVar[tuple[str, ...]] = ("objects",)
    model: str
    weights: Literal["pretrained", "random"] = PRETRAINED
    threshold: float = 0.5
    top: int = 10
    crops: RegionEncoder | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        vectors = f"-{self.crops.name}" if self.crops else ""
        return f"{named(self.model, self.weights, self.seed)}-top{self.top}{vectors}"

    @cached_property
    def processor(self) -> Any:
        """What prepares pictures for the model and reads its boxes off."""
        return processor(AutoImageProcessor, self.model)

    @cached_property
    def net(self) -> Any:
        return from_transformers(
            AutoModelForObjectDetection, self.model, self.weights, what="object detector", seed=self.seed
        )

    def prepare(self, picture: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return pixel_tensors(self.processor, picture)

    def compute(self, batch: Mapping[str, Tensor], items: Sequence[Item]) -> list[ImageEvidence]:
        said = self.net(**batch)
        # [pictures, queries, 4], of a picture of 1 x 1
        boxes, queries = corners(said.pred_boxes), said.pred_boxes.shape[1]
        # YOLOS keeps its queries behind the patches
        states = said.last_hidden_state[:, -queries:].cpu()
        # Each family scores and picks in its own way, and tells boxes but not whose they are. Given the
        # number of the query as the left edge of each box, it tells that.
        said.pred_boxes = torch.zeros_like(said.pred_boxes)
        said.pred_boxes[..., 0] = torch.arange(queries, device=boxes.device)
        picked = self.processor.post_process_object_detection(said, threshold=self.threshold)
        found = []
        for one, item, own, of in zip(picked, items, boxes.cpu(), states, strict=True):
            query = one["boxes"][:, 0].round().long().cpu()
            scale = torch.tensor(item.size * 2)
            rows = zip(
                one["labels"].tolist(),
                within(own[query] * scale, item.size),
                one["scores"].tolist(),
                of[query],
                strict=True,
            )
            objects = [
                DetectedObject(self.net.config.id2label[label], box, score, region=state)
                for label, box, score, state in rows
            ]
            found.append(best(objects, self.top))
        return seen(found, items, self.crops, boxes.device)
