"""Crops of boxes, as pixels and as region vectors of a backbone."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal, get_args

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from mnergraph.features.pretrained import IMAGENET, RANDOM, display_name, from_torchvision, state_dict_sha256
from mnergraph.features.store.tensor_cache import cache_key, cached, file_stamp
from mnergraph.features.vision.image_io import LARGE_SIDE, ImageError, open_image
from mnergraph.features.vision.pyramid import ResNetPyramid, check_stages
from mnergraph.pair import Box, DetectedObject, Pair

#: How a box becomes a square, see `crop_box`.
CropFit = Literal["squash", "center"]

#: Mean and standard deviation of ImageNet's channels, by which torchvision's weights expect normalized input.
IMAGENET_MEAN, IMAGENET_STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class CropPixels:
    """Reads the crops of a post's objects as pixels, for a backbone that is trained with the model.

    Args:
        size: side of the square to which every crop is resized, in pixels.
        fit: how, see `crop_box`.
    """

    size: int = 224
    fit: CropFit = "squash"

    def boxed(self, pair: Pair) -> Pair:
        """Return the pair; its whole image becomes an object if no object has a box."""
        return with_image_box(pair)

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Return pixels ``[objects, 3, size, size]``, 0 to 255, and which objects have any, ``[objects]``.

        An image that can't be read gives none, with a warning.
        """
        pixels_of = torch.zeros(len(pair.objects), 3, self.size, self.size, dtype=torch.uint8)
        has = torch.tensor([obj.box is not None for obj in pair.objects], dtype=torch.bool)
        indices = [index for index, obj in enumerate(pair.objects) if obj.box is not None]
        if pair.image_path is None or not indices:
            return pixels_of, has & False
        try:
            loaded = open_image(pair.image_path, pair.id)
        except ImageError as error:
            warnings.warn(f"post {error}; its objects have no pixels", stacklevel=2)
            return pixels_of, has & False
        boxes = [obj.box for obj in pair.objects if obj.box is not None]
        for index, box in zip(indices, loaded.boxes(boxes, pair.size), strict=True):
            pixels_of[index] = crop_box(loaded.image, box, self.size, self.fit)
        return pixels_of, has


def crop_box(image: Image.Image, box: Box, size: int, fit: CropFit = "squash") -> Tensor:
    """Return the crop of a box (at least one pixel) as a square ``[3, size, size]``, 0 to 255.

    Args:
        image: the image.
        box: left, top, right, bottom in pixels.
        size: side of the square.
        fit: ``"squash"`` resizes all of the box to the square; ``"center"`` resizes its shorter side to 8/7 of the
            square's and takes the square in the middle (256 and 224 pixels in UMGF's released code).
    """
    left = min(max(int(box[0]), 0), image.width - 1)
    top = min(max(int(box[1]), 0), image.height - 1)
    right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
    crop = image.crop((left, top, min(right, image.width), min(bottom, image.height)))
    from torchvision.transforms.v2 import functional as pixels

    if fit == "center":
        return pixels.pil_to_tensor(pixels.center_crop(pixels.resize(crop, [size * 8 // 7]), [size, size]))
    return pixels.pil_to_tensor(crop.resize((size, size), Image.Resampling.BILINEAR))


def normalize(crops: Tensor) -> Tensor:
    """Return pixels, 0 to 255, normalized for the backbones of torchvision."""
    from torchvision.transforms.v2 import functional as pixels

    return pixels.normalize(crops.float() / 255, IMAGENET_MEAN, IMAGENET_STD)


def with_image_box(pair: Pair) -> Pair:
    """Return the pair; its whole image becomes an object if no object has a box."""
    if pair.image_path is None or any(obj.box is not None for obj in pair.objects):
        return pair
    try:
        size = pair.size or open_image(pair.image_path).image.size
    except ImageError:
        return pair  # reported where the pixels are read
    whole = DetectedObject("", box=(0.0, 0.0, float(size[0]), float(size[1])))
    return replace(pair, size=size, objects=(whole, *pair.objects))


#: Raised when the same settings, boxes and images give other vectors than before.
REGION_ENCODER_VERSION = 2


#: Number of threads that open and crop images.
CROP_THREADS = 8

#: The backbones of `RegionEncoder`, by torchvision's names.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class RegionEncoder:
    """Encodes boxes of an image: crop, resize to a square, normalize, ResNet, average pooling.

    Args:
        backbone: a ResNet of torchvision, ``resnet18`` to ``resnet152``.
        weights: ``random`` (seeded, for trying things out: named so in every result), ``imagenet``
            (torchvision's newest weights, downloaded when first used), the name of some of its weights
            (``IMAGENET1K_V1``, those of the papers), or the path of a state dict.
        size: side of the square to which every crop is resized, in pixels.
        seed: of random weights.
        batch_size: crops at once.
        fit: how a box becomes a square, see `crop_box`; ``"center"`` as in UMGF's released code.
        pyramid_stages: how many of the ResNet's stages, from the last, make the vector, each averaged to 2 x 2 places
            (4 in HVPNeT, see `ResNetPyramid`); None for the average of the last one.
    """

    backbone: str = "resnet18"
    weights: str = RANDOM
    size: int = 224
    seed: int = 0
    batch_size: int = 64
    fit: CropFit = "squash"
    pyramid_stages: int | None = None

    def __post_init__(self) -> None:
        if self.fit not in get_args(CropFit):
            raise ValueError(f"fit is {' or '.join(get_args(CropFit))}, not {self.fit!r}")
        if self.pyramid_stages is not None:
            check_stages(self.pyramid_stages)
        if self.backbone not in RESNETS:
            raise ValueError(f"backbone {self.backbone!r} is not among {', '.join(RESNETS)}")
        if not 1 <= self.size <= LARGE_SIDE or self.batch_size < 1:
            raise ValueError(
                f"size={self.size!r}, batch_size={self.batch_size!r}; right is a side of 1 to {LARGE_SIDE} pixels and "
                "at least one crop at once"
            )

    @property
    def name(self) -> str:
        """Short name for caches and metadata."""
        seed = f"-seed{self.seed}" if self.weights == RANDOM else ""
        fit = "" if self.fit == "squash" else f"-{self.fit}"
        pyramid = "" if self.pyramid_stages is None else f"-pyramid{self.pyramid_stages}"
        return f"{self.backbone}-{Path(self.weights).stem}{seed}-{self.size}px{fit}{pyramid}"

    @cached_property
    def model(self) -> nn.Module:
        """The backbone, frozen, without its classifier."""
        return self.build()

    def build(self) -> nn.Module:
        """A backbone of its own, frozen, its classifier taken off: ``[crops, 3, size, size]`` to vectors."""
        import torchvision

        resnet = from_torchvision(
            self.backbone,
            self.weights,
            getattr(torchvision.models, self.backbone),
            published_alias=IMAGENET,
            seed=self.seed,
            head="fc",
        )
        return resnet if self.pyramid_stages is None else ResNetPyramid(resnet, self.pyramid_stages)

    @cached_property
    def out_channels(self) -> int:
        """Width of a region vector."""
        device = next(self.model.parameters()).device
        return self.model(torch.zeros(1, 3, 64, 64, device=device)).shape[1]

    def __call__(self, image: Image.Image, boxes: Sequence[Box]) -> Tensor:
        """Return the vectors ``[boxes, out_channels]`` of boxes (xyxy, in pixels) of an open image."""
        return self._encode([crop_box(image, box, self.size, self.fit) for box in boxes])

    def encode_images(
        self,
        sources: Sequence[str | Path | Image.Image],
        boxes: Sequence[Sequence[Box]],
        device: str | torch.device = "cpu",
    ) -> list[Tensor]:
        """Return the vectors ``[boxes, out_channels]`` of the boxes of each image, in pixels of the upright image.

        The images are opened and cropped in threads.
        """
        self.model.to(device)

        def crops_of(source: str | Path | Image.Image, boxes: Sequence[Box]) -> list[Tensor]:
            if not boxes:
                return []
            image = open_image(source).image
            return [crop_box(image, box, self.size, self.fit) for box in boxes]

        with ThreadPoolExecutor(CROP_THREADS) as pool:
            crops = list(pool.map(crops_of, sources, boxes))
        return list(self._encode([crop for image_crops in crops for crop in image_crops]).split([*map(len, crops)]))

    def identity(self) -> dict[str, object]:
        """Return everything that determines the vectors, as plain JSON data; see `Extractor.identity`."""
        settings = {name: value for name, value in self._settings().items() if name != "batch_size"}
        settings["weights"] = display_name(self.weights)
        return {
            "extractor": "RegionEncoder",
            "version": REGION_ENCODER_VERSION,
            "settings": settings,
            "weights": state_dict_sha256(self.model),
        }

    def _settings(self) -> dict[str, object]:
        """Return the settings without those at their defaults that stores and caches made before do not have."""
        later = (("fit", "squash"), ("pyramid_stages", None))
        return {name: value for name, value in asdict(self).items() if (name, value) not in later}

    def __getstate__(self) -> dict[str, object]:
        # workers need the settings, not the network
        return {name: value for name, value in self.__dict__.items() if name != "model"}

    @torch.no_grad()
    def _encode(self, crops: list[Tensor]) -> Tensor:
        device = next(self.model.parameters()).device
        batches = [torch.stack(crops[i : i + self.batch_size]) for i in range(0, len(crops), self.batch_size)]
        rows = [self.model(normalize(batch.to(device))).cpu() for batch in batches]
        return torch.cat(rows) if rows else torch.zeros(0, self.out_channels)

    def attach(self, pairs: Sequence[Pair], cache: Path | None = None, *, progress: bool = True) -> list[Pair]:
        """Return the pairs with a region vector on every object with a box.

        A post with an image but without boxes gets the whole image as an object. A warning counts the images that
        cannot be read; their objects get no vectors.

        Args:
            pairs: the posts.
            cache: folder of cached vectors, which a later call with the same posts reads.
            progress: whether to show a progress bar.
        """
        boxed = [with_image_box(pair) for pair in pairs]
        key = cache and cache_key(boxed, REGION_ENCODER_VERSION, self._settings(), file_stamp(Path(self.weights)))
        path = cache / f"regions-{self.name}-{key}.safetensors" if cache else None
        rows = cached(path, lambda: self._compute(boxed, progress))
        return [
            _with_regions(pair, rows[str(index)]) if str(index) in rows else pair for index, pair in enumerate(boxed)
        ]

    def _compute(self, pairs: Sequence[Pair], progress: bool) -> dict[str, Tensor]:
        """Return the vectors by index of the post; crops of several posts share a batch."""
        rows: dict[str, Tensor] = {}
        unreadable: list[str] = []
        waiting: dict[str, list[Tensor]] = {}

        def encode() -> None:
            found = self._encode([crop for crops in waiting.values() for crop in crops])
            rows.update(zip(waiting, found.split([len(crops) for crops in waiting.values()]), strict=True))
            waiting.clear()

        bar = tqdm(pairs, desc=f"regions by {self.name}", unit="post", disable=not progress, mininterval=0.5)
        for index, pair in enumerate(bar):
            boxes = [obj.box for obj in pair.objects if obj.box is not None]
            if pair.image_path is None:
                continue
            try:
                loaded = open_image(pair.image_path)
            except ImageError as error:
                unreadable.append(f"{pair.id} ({error})")
                continue
            if not boxes:  # it became readable since
                continue
            upright = loaded.boxes(boxes, pair.size)
            waiting[str(index)] = [crop_box(loaded.image, box, self.size, self.fit) for box in upright]
            if sum(map(len, waiting.values())) >= self.batch_size:
                encode()
        encode()
        if unreadable:
            warnings.warn(
                f"{len(unreadable)} images can't be read; their objects have no region vector: "
                + "; ".join(unreadable[:5]),
                stacklevel=3,
            )
        return {index: row.contiguous() for index, row in rows.items()}


def _with_regions(pair: Pair, rows: Tensor) -> Pair:
    following = iter(rows)
    objects = tuple(obj if obj.box is None else replace(obj, region=next(following)) for obj in pair.objects)
    return replace(pair, objects=objects)
