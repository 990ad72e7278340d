"""What the objects of a post look like: squares cut from its picture."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.pair import Box

_SIDE = 120


class Thumbnails:
    """A post's picture, where it can be opened.

    Args:
        pair: the post, as `Pair.to_dict` tells it.
        images: how many nodes the picture has: one for all of it, or one for each cell of a square grid.
    """

    def __init__(self, pair: Mapping[str, Any], *, images: int = 1) -> None:
        self.picture = None
        if pair.get("image_path"):
            with contextlib.suppress(ImageError):
                self.picture = open_image(Path(pair["image_path"]))
        self.size = pair.get("size")
        side = round(images**0.5)
        self.grid = side if side * side == images else 1

    def of(self, told: Mapping[str, Any]) -> Image.Image | None:
        """What a node shows: an object's box, an image node's cell; None where there is nothing to see."""
        if self.picture is None:
            return None
        if told["type"] == "image":
            row, column = divmod(told["index"], self.grid)
            width, height = (side / self.grid for side in self.picture.image.size)
            return self._square((column * width, row * height, (column + 1) * width, (row + 1) * height))
        if told["type"] == "object" and told.get("box"):
            boxes = self.picture.boxes([tuple(told["box"])], self.size and tuple(self.size))
            return self._square(boxes[0])
        return None

    def _square(self, box: Box) -> Image.Image:
        """What lies in a box, at least a pixel of the picture, on white."""
        assert self.picture is not None
        whole = self.picture.image
        left, top = (min(max(int(box[side]), 0), whole.size[side] - 1) for side in (0, 1))
        right, bottom = (min(max(round(box[2 + side]), 1), whole.size[side]) for side in (0, 1))
        crop = whole.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        side = max(crop.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
        return square.resize((_SIDE, _SIDE))
