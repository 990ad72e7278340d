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

from mnergraph.features.pretrained import (
    PRETRAINED,
    from_transformers,
    load_processor,
    name_with_weights,
    pixel_tensors,
)
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.boxes import best_objects, clip_boxes, evidence_of_objects, to_xyxy
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.pair import DetectedObject


@dataclass(frozen=True)
class DETRDetector(Extractor):
    """Boxes of DETR, Deformable DETR, RT-DETR, YOLOS, ..., each with its label, score and region vector.

    Args:
        model: hub name or folder, such as ``facebook/detr-resnet-50``.
        weights: ``pretrained``, or ``random`` for the model's configuration with weights nobody trained.
        threshold: the score that a box must exceed.
        top_k: as many boxes as are kept, best first.
        region_encoder: gives the box's crop as its vector (GEI: ResNet-152); None for the last state of the query
            that found it.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("objects",)
    model: str
    weights: Literal["pretrained", "random"] = PRETRAINED
    threshold: float = 0.5
    top_k: int = 10
    region_encoder: RegionEncoder | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        vectors = f"-{self.region_encoder.name}" if self.region_encoder else ""
        return f"{name_with_weights(self.model, self.weights, self.seed)}-top{self.top_k}{vectors}"

    @cached_property
    def processor(self) -> Any:
        """What prepares pictures for the model and reads its boxes off."""
        return load_processor(AutoImageProcessor, self.model)

    @cached_property
    def network(self) -> Any:
        return from_transformers(
            AutoModelForObjectDetection, self.model, self.weights, description="object detector", seed=self.seed
        )

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return pixel_tensors(self.processor, image)

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        said = self.network(**batch)
        # [pictures, queries, 4], of a picture of 1 x 1
        boxes, queries = to_xyxy(said.pred_boxes), said.pred_boxes.shape[1]
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
                clip_boxes(own[query] * scale, item.size),
                one["scores"].tolist(),
                of[query],
                strict=True,
            )
            objects = [
                DetectedObject(self.network.config.id2label[label], box, score, region=state)
                for label, box, score, state in rows
            ]
            found.append(best_objects(objects, self.top_k))
        return evidence_of_objects(found, items, self.region_encoder, boxes.device)
