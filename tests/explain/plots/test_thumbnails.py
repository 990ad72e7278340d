"""Crops: what lies in a box or a cell, also where a box leaves the picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sights import RED_BOX, sight

from mnergraph.explain.plots.thumbnails import Thumbnails


def pair(folder: Path) -> dict[str, Any]:
    sight().save(folder / "1.png")
    return {"image_path": str(folder / "1.png"), "size": (40, 30)}


@pytest.mark.parametrize("scale", [1, 2])
def test_a_box_is_cut_out(tmp_path: Path, scale: int) -> None:
    told = {**pair(tmp_path), "size": (40 * scale, 30 * scale)}
    box = [scale * side for side in RED_BOX]
    found = Thumbnails(told).crop({"type": "object", "index": 0, "box": box})
    assert found is not None
    assert found.getpixel((60, 60)) == (255, 0, 0)
    # the box is higher than wide: white stands beside it
    assert found.getpixel((1, 60)) == (255, 255, 255)


def test_a_box_that_leaves_the_picture(tmp_path: Path) -> None:
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


def test_nothing_to_see(tmp_path: Path) -> None:
    thing = {"type": "object", "index": 0, "box": [0, 0, 9, 9]}
    assert Thumbnails({}).crop(thing) is None
    assert Thumbnails({"image_path": str(tmp_path / "gone.png")}).crop(thing) is None
    assert Thumbnails(pair(tmp_path)).crop({"type": "object", "index": 0}) is None
    assert Thumbnails(pair(tmp_path)).crop({"type": "token", "index": 0}) is None
