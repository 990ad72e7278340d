"""Crops of boxes and cells, also of boxes that reach outside the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from red_rectangles import RED_BOX, red_rectangle

from mnergraph.explain.plots.thumbnails import Thumbnails


def pair(folder: Path) -> dict[str, Any]:
    red_rectangle().save(folder / "1.png")
    return {"image_path": str(folder / "1.png"), "size": (40, 30)}


@pytest.mark.parametrize("scale", [1, 2])
def test_crop_of_a_box(tmp_path: Path, scale: int) -> None:
    values = {**pair(tmp_path), "size": (40 * scale, 30 * scale)}
    box = [scale * side for side in RED_BOX]
    result = Thumbnails(values).crop({"type": "object", "index": 0, "box": box})
    assert result is not None
    assert result.getpixel((60, 60)) == (255, 0, 0)
    # the box is higher than wide: the rest of the square is white
    assert result.getpixel((1, 60)) == (255, 255, 255)


def test_a_box_that_reaches_outside_the_image(tmp_path: Path) -> None:
    crops = Thumbnails(pair(tmp_path))
    for box in ([-9, -9, 99, 99], [99, 99, 120, 120], [-9, -9, -5, -5], [4, 6, 4, 6]):
        assert crops.crop({"type": "object", "index": 0, "box": box}) is not None


def test_cells_of_a_grid(tmp_path: Path) -> None:
    crops = Thumbnails(pair(tmp_path), images=16)
    inside, outside = (crops.crop({"type": "image", "index": index}) for index in (5, 15))
    assert inside is not None
    assert outside is not None
    assert inside.getpixel((20, 60)) == (255, 0, 0)
    assert outside.getpixel((60, 60)) == (0, 0, 0)


def test_nodes_without_a_crop(tmp_path: Path) -> None:
    item = {"type": "object", "index": 0, "box": [0, 0, 9, 9]}
    assert Thumbnails({}).crop(item) is None
    assert Thumbnails({"image_path": str(tmp_path / "gone.png")}).crop(item) is None
    assert Thumbnails(pair(tmp_path)).crop({"type": "object", "index": 0}) is None
    assert Thumbnails(pair(tmp_path)).crop({"type": "token", "index": 0}) is None
