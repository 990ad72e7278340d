"""Boxes cut out of pictures: the pixels that a backbone reads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.faults import PictureError
from mnergraph.features.pictures import open_picture
from mnergraph.graph import Box, Object, Pair

#: Mean and deviation of ImageNet's channels, which torchvision's published weights expect.
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Cuts:
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
        if pair.picture is None or not places:
            return made, has & False
        try:
            picture = open_picture(pair.picture, pair.id)
        except PictureError as error:
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
    return pixels.pil_to_tensor(crop.resize((size, size), Image.Resampling.BILINEAR))


def normal(crops: Tensor) -> Tensor:
    """Pixels, 0 to 255, as a backbone of torchvision wants them."""
    return pixels.normalize(crops.float() / 255, MEAN, STD)


def boxed(pair: Pair) -> Pair:
    """The pair, its whole picture an object where nothing else has a box; as it is without a picture."""
    if pair.picture is None or any(thing.box is not None for thing in pair.objects):
        return pair
    try:
        size = pair.size or open_picture(pair.picture).image.size
    except PictureError:
        return pair  # whoever needs its pixels will say so
    whole = Object("", box=(0.0, 0.0, float(size[0]), float(size[1])))
    return replace(pair, size=size, objects=(whole, *pair.objects))
