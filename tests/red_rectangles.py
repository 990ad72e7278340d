"""A red rectangle in pictures that reach a detector in all the ways pictures do, and how to find it again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from odd_images import lying
from PIL import Image
from torch import Tensor

from mnergraph.features.vision.extractor import ImageEvidence

#: Where it is, in pixels of the upright picture of 40 x 30.
RED_BOX = (3.0, 5.0, 17.0, 21.0)


def sight(width: int = 40, height: int = 30) -> Image.Image:
    picture = Image.new("RGB", (width, height))
    picture.paste((255, 0, 0), tuple(map(int, RED_BOX)))  # type: ignore[arg-type]
    return picture


def sighting() -> dict[str, Callable[[Path], Path]]:
    """Ways to write the picture into a folder, by name: as it is, and as EXIF has it turned."""

    def write(folder: Path, orientation: int) -> Path:
        return lying(sight(), folder / "1.png", orientation)

    return {
        f"orientation {orientation}": lambda folder, orientation=orientation: write(folder, orientation)
        for orientation in (1, 3, 5, 6, 7, 8)
    }


def red_in(image: Tensor, dark: float) -> Tensor:
    """The box of what is bright in the first channel of ``[3, height, width]``, whatever its scale."""
    red = image[0] - image[1]
    rows, columns = torch.nonzero(red > (red.max() + max(red.min().item(), dark)) / 2).unbind(1)
    ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return torch.stack(ends).float()


def red_boxes(seen: ImageEvidence) -> list[tuple[float, float, float, float]]:
    assert seen.objects is not None
    return [thing.box for thing in seen.objects if thing.box is not None]
