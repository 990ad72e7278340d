"""Boxes cut out of pictures: the pixels that a backbone reads."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from mnergraph.features.pretrained import IMAGENET, RANDOM, checksum, display_name, from_torchvision
from mnergraph.features.store.tensor_cache import cached, key_of, stamp
from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.pair import Box, DetectedObject, Pair

#: Mean and deviation of ImageNet's channels, which torchvision's published weights expect.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class CropPixels:
    """The crops of a post's objects as pixels, for a backbone that learns with the model.

    Args:
        size: side of the square that every crop becomes, in pixels.
    """

    size: int = 224

    def boxed(self, pair: Pair) -> Pair:
        """The pair, its whole picture an object where nothing else has a box."""
        return boxed(pair)

    def __call__(self, pair: Pair) -> tuple[Tensor, Tensor]:
        """Pixels ``[objects, 3, size, size]``, 0 to 255, and which objects have any, ``[objects]``.

        A picture that can't be read gives none; a warning says so.
        """
        made = torch.zeros(len(pair.objects), 3, self.size, self.size, dtype=torch.uint8)
        has = torch.tensor([thing.box is not None for thing in pair.objects], dtype=torch.bool)
        places = [place for place, thing in enumerate(pair.objects) if thing.box is not None]
        if pair.image_path is None or not places:
            return made, has & False
        try:
            picture = open_image(pair.image_path, pair.id)
        except ImageError as error:
            warnings.warn(f"post {error}; its objects have no pixels", stacklevel=2)
            return made, has & False
        boxes = [thing.box for thing in pair.objects if thing.box is not None]
        for place, box in zip(places, picture.boxes(boxes, pair.size), strict=True):
            made[place] = cut(picture.image, box, self.size)
        return made, has


def cut(picture: Image.Image, box: Box, size: int) -> Tensor:
    """A box as a square ``[3, size, size]``, 0 to 255; it gets at least one pixel."""
    left = min(max(int(box[0]), 0), picture.width - 1)
    top = min(max(int(box[1]), 0), picture.height - 1)
    right, bottom = max(left + 1, round(box[2])), max(top + 1, round(box[3]))
    crop = picture.crop((left, top, min(right, picture.width), min(bottom, picture.height)))
    from torchvision.transforms.v2 import functional as pixels

    return pixels.pil_to_tensor(crop.resize((size, size), Image.Resampling.BILINEAR))


def normal(crops: Tensor) -> Tensor:
    """Pixels, 0 to 255, as a backbone of torchvision wants them."""
    from torchvision.transforms.v2 import functional as pixels

    return pixels.normalize(crops.float() / 255, MEAN, STD)


def boxed(pair: Pair) -> Pair:
    """The pair, its whole picture an object where nothing else has a box; as it is without a picture."""
    if pair.image_path is None or any(thing.box is not None for thing in pair.objects):
        return pair
    try:
        size = pair.size or open_image(pair.image_path).image.size
    except ImageError:
        return pair  # whoever needs its pixels will say so
    whole = DetectedObject("", box=(0.0, 0.0, float(size[0]), float(size[1])))
    return replace(pair, size=size, objects=(whole, *pair.objects))


#: Changes when the same settings, boxes and pictures give other vectors than before.
VERSION = 2


#: Pictures that are opened and cut at once.
THREADS = 8

#: The backbones of `RegionEncoder`, by torchvision's names.
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")


@dataclass(frozen=True)
class RegionEncoder:
    """Encodes boxes of a picture: crop, resize to a square, backbone, average pooling, standardise.

    Args:
        backbone: a ResNet of torchvision, ``resnet18`` to ``resnet152``.
        weights: ``random`` (seeded, for trying things out: named so in every result), ``imagenet``
            (torchvision's newest weights, downloaded when first used), the name of some of its weights
            (``IMAGENET1K_V1``, those of the papers), or the path of a state dict.
        size: side of the square that every crop becomes, in pixels.
        seed: of random weights.
        batch_size: crops at once.
    """

    backbone: str = "resnet18"
    weights: str = RANDOM
    size: int = 224
    seed: int = 0
    batch_size: int = 64

    def __post_init__(self) -> None:
        if self.backbone not in RESNETS:
            raise ValueError(f"backbone {self.backbone!r} is not among {', '.join(RESNETS)}")

    @property
    def name(self) -> str:
        """What these vectors are, for caches and records."""
        seed = f"-seed{self.seed}" if self.weights == RANDOM else ""
        return f"{self.backbone}-{Path(self.weights).stem}{seed}-{self.size}px"

    @cached_property
    def model(self) -> nn.Module:
        """The backbone, frozen, its classifier taken off."""
        return self.build()

    def build(self) -> nn.Module:
        """A backbone of its own, frozen, its classifier taken off: ``[crops, 3, size, size]`` to vectors."""
        import torchvision

        return from_torchvision(
            self.backbone,
            self.weights,
            getattr(torchvision.models, self.backbone),
            published=IMAGENET,
            seed=self.seed,
            head="fc",
        )

    @cached_property
    def out_channels(self) -> int:
        """Width of a region vector."""
        device = next(self.model.parameters()).device
        return self.model(torch.zeros(1, 3, 64, 64, device=device)).shape[1]

    def __call__(self, picture: Image.Image, boxes: Sequence[Box]) -> Tensor:
        """``[boxes, width]``; boxes are xyxy in pixels and get at least one pixel."""
        return self._encode([cut(picture, box, self.size) for box in boxes])

    def encode_images(
        self,
        sources: Sequence[str | Path | Image.Image],
        boxes: Sequence[Sequence[Box]],
        device: str | torch.device = "cpu",
    ) -> list[Tensor]:
        """Vectors of the boxes of each picture, ``[boxes, width]``, boxes in pixels of the upright picture.

        The pictures are opened and cut beside each other, in threads.
        """
        self.model.to(device)

        def crops_of(source: str | Path | Image.Image, boxes: Sequence[Box]) -> list[Tensor]:
            return [cut(open_image(source).image, box, self.size) for box in boxes] if boxes else []

        with ThreadPoolExecutor(THREADS) as pool:
            crops = list(pool.map(crops_of, sources, boxes))
        return list(self._encode([crop for some in crops for crop in some]).split([*map(len, crops)]))

    def identity(self) -> dict[str, object]:
        """What decides the vectors, as plain JSON; see `mnergraph.features.vision.extractor.Extractor.identity`."""
        settings = {name: value for name, value in asdict(self).items() if name != "batch_size"}
        settings["weights"] = display_name(self.weights)
        return {
            "extractor": "RegionEncoder",
            "version": VERSION,
            "settings": settings,
            "weights": checksum(self.model),
        }

    def __getstate__(self) -> dict[str, object]:
        # a worker needs the settings, not the network
        return {name: value for name, value in self.__dict__.items() if name != "model"}

    @torch.no_grad()
    def _encode(self, crops: list[Tensor]) -> Tensor:
        device = next(self.model.parameters()).device
        batches = [torch.stack(crops[i : i + self.batch_size]) for i in range(0, len(crops), self.batch_size)]
        rows = [self.model(normal(batch.to(device))).cpu() for batch in batches]
        return torch.cat(rows) if rows else torch.zeros(0, self.out_channels)

    def attach(self, pairs: Sequence[Pair], cache: Path | None = None, *, progress: bool = True) -> list[Pair]:
        """The pairs with a region vector on every boxed object.

        A post with a picture but without any box gets the whole picture as its one, general object. A picture
        that can't be read gives no vectors; a warning counts these.

        Args:
            pairs: the posts.
            cache: folder that keeps the vectors; a later call with the same posts reads them.
            progress: whether to show a progress bar.
        """
        seen = [boxed(pair) for pair in pairs]
        key = cache and key_of(seen, VERSION, asdict(self), stamp(Path(self.weights)))
        path = cache / f"regions-{self.name}-{key}.safetensors" if cache else None
        rows = cached(path, lambda: self._compute(seen, progress))
        return [
            _with_regions(pair, rows[str(place)]) if str(place) in rows else pair for place, pair in enumerate(seen)
        ]

    def _compute(self, pairs: Sequence[Pair], progress: bool) -> dict[str, Tensor]:
        """Vectors by the place of the post; crops of several posts share a batch."""
        rows: dict[str, Tensor] = {}
        unreadable: list[str] = []
        waiting: dict[str, list[Tensor]] = {}

        def encode() -> None:
            found = self._encode([crop for crops in waiting.values() for crop in crops])
            rows.update(zip(waiting, found.split([len(crops) for crops in waiting.values()]), strict=True))
            waiting.clear()

        bar = tqdm(pairs, desc=f"regions by {self.name}", unit="post", disable=not progress, mininterval=0.5)
        for place, pair in enumerate(bar):
            boxes = [thing.box for thing in pair.objects if thing.box is not None]
            if pair.image_path is None:
                continue
            try:
                picture = open_image(pair.image_path)
            except ImageError as error:
                unreadable.append(f"{pair.id} ({error})")
                continue
            if not boxes:  # it became readable since
                continue
            upright = picture.boxes(boxes, pair.size)
            waiting[str(place)] = [cut(picture.image, box, self.size) for box in upright]
            if sum(map(len, waiting.values())) >= self.batch_size:
                encode()
        encode()
        if unreadable:
            warnings.warn(
                f"{len(unreadable)} pictures can't be read; their objects have no region vector: "
                + "; ".join(unreadable[:5]),
                stacklevel=3,
            )
        return {place: row.contiguous() for place, row in rows.items()}


def _with_regions(pair: Pair, rows: Tensor) -> Pair:
    following = iter(rows)
    objects = tuple(thing if thing.box is None else replace(thing, region=next(following)) for thing in pair.objects)
    return replace(pair, objects=objects)
