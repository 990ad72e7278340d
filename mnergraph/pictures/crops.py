"""What the objects of a post look like: squares cut from its picture."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from mnergraph.features.pictures import PictureError, open_picture


class Crops:
    """What there is to see of a post's picture, where it can be opened."""

    def __init__(self, pair: Mapping[str, Any]) -> None:
        self.picture = None
        if pair.get("picture"):
            with contextlib.suppress(PictureError):
                self.picture = open_picture(Path(pair["picture"]))
        self.size = pair.get("size")

    def of(self, told: Mapping[str, Any]) -> Image.Image | None:
        """The crop of an object with a box, the whole for an image node, else None."""
        if (
            self.picture is None
            or (told["type"], told.get("box")) == ("object", None)
            or told["type"] not in ("object", "image")
        ):
            return None
        whole = self.picture.image
        if told["type"] == "object":
            ((left, top, right, bottom),) = self.picture.boxes(
                [tuple(told["box"])], self.size and tuple(self.size)
            )
            whole = whole.crop(
                (int(left), int(top), max(int(left) + 1, round(right)), max(int(top) + 1, round(bottom)))
            )
        side = max(whole.size)
        square = Image.new("RGB", (side, side), "white")
        square.paste(whole, ((side - whole.width) // 2, (side - whole.height) // 2))
        return square.resize((120, 120))
