"""Crops of a post's image for its object and image nodes."""

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
    """Square crops of a post's image, if it can be opened.

    Args:
        pair: the post, as `Pair.to_dict` returns it.
        images: number of image nodes: one for the whole image, or one for each cell of a square grid.
    """

    def __init__(self, pair: Mapping[str, Any], *, images: int = 1) -> None:
        self.image = None
        if pair.get("image_path"):
            with contextlib.suppress(ImageError):
                self.image = open_image(Path(pair["image_path"]))
        self.size = pair.get("size")
        side = round(images**0.5)
        self.grid = side if side * side == images else 1

    def crop(self, node: Mapping[str, Any]) -> Image.Image | None:
        """Return the crop of a node: an object's box or an image node's cell; None for nodes without either."""
        if self.image is None:
            return None
        if node["type"] == "image":
            row, column = divmod(node["index"], self.grid)
            width, height = (side / self.grid for side in self.image.image.size)
            return self._square((column * width, row * height, (column + 1) * width, (row + 1) * height))
        if node["type"] == "object" and node.get("box"):
            boxes = self.image.boxes([tuple(node["box"])], self.size and tuple(self.size))
            return self._square(boxes[0])
        return None

    def _square(self, box: Box) -> Image.Image:
        """The inside of a box, at least one pixel of the image, centered on white."""
        assert self.image is not None
        whole = self.image.image
        left, top = (min(max(int(box[side]), 0), whole.size[side] - 1) for side in (0, 1))
        right, bottom = (min(max(round(box[2 + side]), 1), whole.size[side]) for side in (0, 1))
        crop = whole.crop((left, top, max(right, left + 1), max(bottom, top + 1)))
        side = max(crop.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(crop, ((side - crop.width) // 2, (side - crop.height) // 2))
        return square.resize((_SIDE, _SIDE))
