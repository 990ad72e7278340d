"""Image features as a grid of regions and as one vector: torchvision's backbones and vision towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, ClassVar, Literal

import torchvision
from PIL import Image, ImageOps
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.transforms.v2 import functional as pixels
from transformers import AutoImageProcessor, AutoModel, PreTrainedModel

from mnergraph.features.pretrained import (
    IMAGENET,
    PRETRAINED,
    RANDOM,
    from_torchvision,
    from_transformers,
    load_processor,
    name_with_weights,
    pixel_tensors,
    weights_name,
)
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.crops import IMAGENET_MEAN, RESNETS, normalize
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.features.vision.pyramid import ResNetPyramid, check_stages

ResizeMode = Literal["squash", "crop", "center", "letterbox"]


@dataclass(frozen=True)
class BackboneGrid(Extractor):
    """Feature map of a torchvision ResNet (7 x 7 for 224 pixels) or patches of a ViT, and one pooled vector.

    The vector is the map's mean (ResNet) or the class token (ViT).

    Args:
        backbone: ``resnet18`` to ``resnet152``, or a ViT such as ``vit_b_16``.
        weights: see `mnergraph.features.vision.crops.RegionEncoder`.
        size: side of the square input, in pixels.
        resize_mode: how the image is made square: ``squash`` (aspect ratio changes), ``crop`` (the largest square in
            the middle), ``center`` (the shorter side resized to 8/7 of the square's, of which the middle is taken: 256
            and 224 pixels, as torchvision's classifiers are evaluated) or ``letterbox`` (padded with the mean color).
        stage: stage of a ResNet whose feature map is used, 1 to 4. The papers take the last; with *random* weights
            an early stage keeps more information.
        pool_size: side of the grid to which a ResNet's map is average-pooled; None keeps its size.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("image",)
    backbone: str = "resnet152"
    weights: str = RANDOM
    size: int = 224
    resize_mode: ResizeMode = "squash"
    stage: int = 4
    pool_size: int | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        supported = [name for name in torchvision.models.list_models() if name.startswith(("resnet", "vit_"))]
        if self.backbone not in supported:
            raise ValueError(f"backbone {self.backbone!r} is not among {', '.join(supported)}")
        if self.resize_mode not in RESIZE_MODES:
            raise ValueError(f"resize_mode is one of {', '.join(RESIZE_MODES)}, not {self.resize_mode!r}")
        if self.stage not in (1, 2, 3, 4):
            raise ValueError(f"a ResNet has stages 1 to 4, not {self.stage}")
        if self.backbone.startswith("vit_") and (self.stage, self.pool_size) != (4, None):
            raise ValueError(f"stage and pool_size apply to a ResNet; {self.backbone} has patches")

    @property
    def name(self) -> str:
        parts = [self.backbone, weights_name(self.weights, self.seed), f"{self.size}px", self.resize_mode]
        parts += [f"stage{self.stage}"] * (self.stage != 4)
        return "-".join(parts + [f"{self.pool_size}x{self.pool_size}"] * (self.pool_size is not None))

    @cached_property
    def network(self) -> nn.Module:
        vit = self.backbone.startswith("vit_")
        build = partial(torchvision.models.get_model, self.backbone)
        whole = from_torchvision(
            self.backbone,
            self.weights,
            partial(build, image_size=self.size) if vit else build,
            published_alias=IMAGENET,
            seed=self.seed,
            head="heads" if vit else "fc",
        )
        return create_feature_extractor(whole, {"encoder": "states"} if vit else {f"layer{self.stage}": "map"})

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        square = RESIZE_MODES[self.resize_mode](image, (self.size, self.size))
        return {"pixels": pixels.pil_to_tensor(square)}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        # [images, 3, size, size]
        found = self.network(normalize(batch["pixels"]))
        if "states" in found:  # [images, 1 + patches, width], the class token first
            return _image_evidence(found["states"][:, 1:], found["states"][:, 0])
        # [images, width, rows, columns]
        cells = found["map"]
        pooled = cells.mean((2, 3))
        if self.pool_size is not None:
            cells = nn.functional.adaptive_avg_pool2d(cells, self.pool_size)
        # [images, rows x columns, width], row by row from the top left
        return _image_evidence(cells.flatten(2).transpose(1, 2), pooled)


@dataclass(frozen=True)
class BackbonePyramid(Extractor):
    """The stages of a torchvision ResNet, each averaged to 2 x 2 places, in one vector (HVPNeT).

    See `mnergraph.features.vision.pyramid.ResNetPyramid`. The vector is the pooled one and the only one of the grid.

    Args:
        backbone: ``resnet18`` to ``resnet152``.
        weights: see `mnergraph.features.vision.crops.RegionEncoder`.
        size: side of the square input, in pixels.
        resize_mode: see `BackboneGrid`.
        num_stages: how many stages, from the last; 4 are all.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("image",)
    backbone: str = "resnet50"
    weights: str = RANDOM
    size: int = 224
    resize_mode: ResizeMode = "squash"
    num_stages: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.backbone not in RESNETS:
            raise ValueError(f"backbone {self.backbone!r} is not among {', '.join(RESNETS)}")
        if self.resize_mode not in RESIZE_MODES:
            raise ValueError(f"resize_mode is one of {', '.join(RESIZE_MODES)}, not {self.resize_mode!r}")
        check_stages(self.num_stages)

    @property
    def name(self) -> str:
        parts = [self.backbone, weights_name(self.weights, self.seed), f"{self.size}px", self.resize_mode]
        return "-".join([*parts, f"pyramid{self.num_stages}"])

    @cached_property
    def network(self) -> nn.Module:
        build = partial(torchvision.models.get_model, self.backbone)
        resnet = from_torchvision(
            self.backbone, self.weights, build, published_alias=IMAGENET, seed=self.seed, head="fc"
        )
        return ResNetPyramid(resnet, self.num_stages)

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        square = RESIZE_MODES[self.resize_mode](image, (self.size, self.size))
        return {"pixels": pixels.pil_to_tensor(square)}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        # [images, channels * 4]
        vectors = self.network(normalize(batch["pixels"]))
        return _image_evidence(vectors[:, None], vectors)


@dataclass(frozen=True)
class VisionTower(Extractor):
    """Patches and pooled vector of a vision model of transformers: CLIP, SigLIP, DINO, ViT, ...

    Images are preprocessed by the model's own processor. The vector is the model's pooled output, or else its class
    token, or else the mean of the patches.

    Args:
        model: hub name or folder; of a vision-language model only the vision tower is used.
        weights: ``pretrained``, or ``random`` for the model's configuration with random weights.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("image",)
    model: str
    weights: Literal["pretrained", "random"] = PRETRAINED
    seed: int = 0

    @property
    def name(self) -> str:
        return name_with_weights(self.model, self.weights, self.seed)

    @cached_property
    def processor(self) -> Any:
        """The image processor of the model."""
        return load_processor(AutoImageProcessor, self.model)

    @cached_property
    def network(self) -> PreTrainedModel:
        whole = from_transformers(
            AutoModel, self.model, self.weights, description="vision model", seed=self.seed, optional_parts=("pooler",)
        )
        return getattr(whole, "vision_model", whole)

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return pixel_tensors(self.processor, image)

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        found = self.network(**batch)
        states = found.last_hidden_state
        if states.dim() == 4:  # of a convolutional net, [images, width, rows, columns]
            states, before = states.flatten(2).transpose(1, 2), 0
        else:  # class and register tokens stand before the patches
            height, width = batch["pixel_values"].shape[-2:]
            side = getattr(self.network.config, "patch_size", None)
            patches = (height // side) * (width // side) if isinstance(side, int) else states.shape[1]
            before = max(0, states.shape[1] - patches)
        grid, pooled = states[:, before:], getattr(found, "pooler_output", None)
        if pooled is None:
            pooled = states[:, 0] if before else grid.mean(1)
        return _image_evidence(grid, pooled.flatten(1))


def _image_evidence(grid: Tensor, pooled: Tensor) -> list[ImageEvidence]:
    """Return one `ImageEvidence` per image of ``[images, regions, width]`` and ``[images, width]``."""
    both = zip(grid.contiguous().cpu(), pooled.cpu(), strict=True)
    return [ImageEvidence(grid=of, pooled=one) for of, one in both]


RESIZE_MODES: dict[str, Any] = {
    "squash": lambda image, size: image.resize(size, Image.Resampling.BILINEAR),
    "crop": lambda image, size: ImageOps.fit(image, size, Image.Resampling.BILINEAR),
    "center": lambda image, size: pixels.center_crop(pixels.resize(image, [size[0] * 8 // 7]), list(size)),
    "letterbox": lambda image, size: ImageOps.pad(
        image, size, Image.Resampling.BILINEAR, color=tuple(round(255 * mean) for mean in IMAGENET_MEAN)
    ),
}
