"""Objects by DETR and similar detectors of transformers, which predict one object per query."""

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
        weights: ``pretrained``, or ``random`` for the model's configuration with random weights.
        threshold: minimum score of a box (exclusive).
        top_k: maximum number of boxes, by score.
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
        """The image processor of the model, which also decodes its outputs."""
        return load_processor(AutoImageProcessor, self.model)

    @cached_property
    def network(self) -> Any:
        return from_transformers(
            AutoModelForObjectDetection, self.model, self.weights, description="object detector", seed=self.seed
        )

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return pixel_tensors(self.processor, image)

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        outputs = self.network(**batch)
        # [images, queries, 4], of an image of 1 x 1
        boxes, queries = to_xyxy(outputs.pred_boxes), outputs.pred_boxes.shape[1]
        # YOLOS appends its queries to the patches
        states = outputs.last_hidden_state[:, -queries:].cpu()
        # Each model's post-processing selects and scores boxes without returning the query indices, so the index
        # is passed as the left edge of each box.
        outputs.pred_boxes = torch.zeros_like(outputs.pred_boxes)
        outputs.pred_boxes[..., 0] = torch.arange(queries, device=boxes.device)
        picked = self.processor.post_process_object_detection(outputs, threshold=self.threshold)
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
