"""Objects by torchvision's Faster R-CNN and Mask R-CNN, with box features of the final boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar

import torch
import torchvision
from PIL import Image
from torch import Tensor
from torchvision.models import detection
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.pretrained import COCO, RANDOM, from_torchvision, weights_name
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.boxes import clip_boxes
from mnergraph.features.vision.crops import IMAGENET_MEAN, IMAGENET_STD
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.pair import DetectedObject

#: Names of COCO's classes by torchvision's label index; 0 is the background.
COCO_LABELS: tuple[str, ...] = tuple(detection.FasterRCNN_ResNet50_FPN_V2_Weights.DEFAULT.meta["categories"])


#: COCO's 80 classes, without the background and unused indices.
COCO_CLASSES = tuple(name for name in COCO_LABELS if name not in ("__background__", "N/A"))


@dataclass(frozen=True)
class RCNNDetector(Extractor):
    """Boxes of a Faster or Mask R-CNN, each with its label, score and region vector.

    The region vectors are the outputs of the box head for the final boxes (torchvision computes them only for the
    proposals): ``[objects, 1024]``. Masks are not computed.

    Args:
        detector: ``fasterrcnn_resnet50_fpn_v2``, ``maskrcnn_resnet50_fpn_v2``,
            ``fasterrcnn_mobilenet_v3_large_320_fpn`` (for CPUs) or another of torchvision's.
        weights: ``random`` (seeded, for trying things out), ``coco`` (torchvision's newest weights,
            downloaded when first used), the name of some of its weights, or the path of a state dict.
        threshold: minimum score of a box (exclusive).
        top_k: maximum number of boxes, by score.
        min_size: pixels to which the image's shorter side is scaled; None for the detector's own.
        max_size: pixels that the longer side may not exceed; None for the detector's own.
        labels: names of classes 1, 2, ... of weights trained on other classes than COCO's.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("objects",)
    detector: str = "fasterrcnn_resnet50_fpn_v2"
    weights: str = RANDOM
    threshold: float = 0.5
    top_k: int = 10
    min_size: int | None = None
    max_size: int | None = None
    labels: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        known = [name for name in torchvision.models.list_models(module=detection) if "rcnn" in name]
        known = [name for name in known if not name.startswith("keypoint")]
        if self.detector not in known:
            raise ValueError(f"detector {self.detector!r} is not among {', '.join(known)}")

    @property
    def name(self) -> str:
        return f"{self.detector}-{weights_name(self.weights, self.seed)}-top{self.top_k}"

    @cached_property
    def transform(self) -> GeneralizedRCNNTransform:
        """Normalizes and resizes an image and pads it to a multiple of 32 pixels."""
        min_size, max_size = (320, 640) if "_320_" in self.detector else (800, 1333)
        if self.min_size is not None:
            min_size = self.min_size
        if self.max_size is not None:
            max_size = self.max_size
        return GeneralizedRCNNTransform(min_size, max_size, IMAGENET_MEAN, IMAGENET_STD).eval()

    @cached_property
    def network(self) -> Any:
        build = partial(
            torchvision.models.get_model,
            self.detector,
            weights_backbone=None,
            box_score_thresh=self.threshold,
            box_detections_per_img=self.top_k,
        )
        if self.labels:
            build = partial(build, num_classes=1 + len(self.labels))
        net = from_torchvision(self.detector, self.weights, build, published_alias=COCO, seed=self.seed)
        for part in ("mask_roi_pool", "mask_head", "mask_predictor"):
            setattr(net.roi_heads, part, None)
        return net

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        images, _ = self.transform([pixels.pil_to_tensor(image).float() / 255])
        return {"pixels": images.tensors[0], "inner": torch.tensor(images.image_sizes[0])}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        inner = [(height, width) for height, width in batch["inner"].tolist()]
        images, heads = ImageList(batch["pixels"], inner), self.network.roi_heads
        maps = self.network.backbone(images.tensors)
        proposals, _ = self.network.rpn(images, maps)
        found, _ = heads(maps, proposals, inner)
        counts = [len(one["boxes"]) for one in found]
        # [objects, 1024]
        vectors = heads.box_head(heads.box_roi_pool(maps, [one["boxes"] for one in found], inner))
        outer = [(item.size[1], item.size[0]) for item in items]
        found = self.transform.postprocess(found, inner, outer)
        names = ("", *self.labels) if self.labels else COCO_LABELS
        return [
            ImageEvidence(
                objects=tuple(
                    DetectedObject(names[label], box, score, region=row)
                    for label, box, score, row in zip(
                        one["labels"].tolist(),
                        clip_boxes(one["boxes"], item.size),
                        one["scores"].tolist(),
                        rows,
                        strict=True,
                    )
                )
            )
            for one, item, rows in zip(found, items, vectors.cpu().split(counts), strict=True)
        ]
