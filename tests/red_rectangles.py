"""Images with a red rectangle, stored in every EXIF orientation, to test the boxes of detectors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from odd_images import save_rotated
from PIL import Image
from torch import Tensor

from mnergraph.features.vision.extractor import ImageEvidence

#: The rectangle's box in pixels of the upright image of 40 x 30.
RED_BOX = (3.0, 5.0, 17.0, 21.0)


def red_rectangle(width: int = 40, height: int = 30) -> Image.Image:
    """Return a black image with the red rectangle."""
    image = Image.new("RGB", (width, height))
    image.paste((255, 0, 0), tuple(map(int, RED_BOX)))  # type: ignore[arg-type]
    return image


def rotated_files() -> dict[str, Callable[[Path], Path]]:
    """Return functions that write the image to a folder in one EXIF orientation each, by name."""

    def write(folder: Path, orientation: int) -> Path:
        return save_rotated(red_rectangle(), folder / "1.png", orientation)

    return {
        f"orientation {orientation}": lambda folder, orientation=orientation: write(folder, orientation)
        for orientation in (1, 3, 5, 6, 7, 8)
    }


def find_red_box(image: Tensor, dark: float) -> Tensor:
    """Return the box ``[4]`` of the red pixels of an image ``[3, height, width]`` with values of any scale.

    ``dark`` is a lower bound of the value of other pixels.
    """
    red = image[0] - image[1]
    rows, columns = torch.nonzero(red > (red.max() + max(red.min().item(), dark)) / 2).unbind(1)
    ends = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    return torch.stack(ends).float()


def red_boxes(evidence: ImageEvidence) -> list[tuple[float, float, float, float]]:
    """Return the boxes of the detected objects."""
    assert evidence.objects is not None
    return [obj.box for obj in evidence.objects if obj.box is not None]
