"""Images of drawn objects with their exact boxes: random positions, sizes and tints, without overlap."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Sequence

from PIL import Image

from mnergraph.data.lookalikes.sketches import SKETCHES, Pen

#: Left, top, right and bottom in pixels, right and bottom exclusive.
PixelBox = tuple[int, int, int, int]


#: Range of the square root of an object's area, relative to the image's side.
SIDE_RANGE = (0.3, 0.46)


#: Number of objects that fit at that size; where there are more, all are drawn smaller.
MAX_FULL_SIZE_OBJECTS = 3


#: Free pixels between two objects.
MARGIN = 2


def object_size(label: str, side: float) -> tuple[int, int]:
    """Return width and height of an object of this label that covers about ``side`` times ``side`` pixels.

    Raises:
        KeyError: when there is no sketch of this label.
    """
    if label not in SKETCHES:
        raise KeyError(f"there is no sketch of {label!r}; there are {', '.join(SKETCHES)}")
    stretch = SKETCHES[label].aspect ** 0.5
    return round(side * stretch), round(side / stretch)


def sprite(label: str, width: int, height: int, rng: random.Random) -> Image.Image:
    """Return the drawing of an object on a transparent background, facing left or right."""
    pen = Pen(width, height, rng)
    SKETCHES[label].strokes(pen)
    drawing = pen.render()
    return drawing.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else drawing


def background(size: int, rng: random.Random) -> Image.Image:
    """Return a background of two pale colors, one above the other."""
    canvas = Image.new("RGB", (size, size), _pale(rng))
    canvas.paste(_pale(rng), (0, round(size * rng.uniform(0.45, 0.75)), size, size))
    return canvas


def draw_image(
    labels: Sequence[str], size: int, rng: random.Random, areas: Sequence[PixelBox | None] | None = None
) -> tuple[Image.Image, list[PixelBox]]:
    """Return a square image with one object of every label, and their boxes in the order of the labels.

    Boxes are left, top, right, bottom in pixels, right and bottom exclusive, and enclose exactly the object's pixels.
    Objects never overlap; one that does not fit is drawn smaller. ``areas`` are the parts of the image in which they
    lie, in the order of the labels, None for anywhere; objects with areas come first, as others could fill them.
    """
    canvas, boxes = background(size, rng), list[PixelBox]()
    for number, label in enumerate(labels):
        area = (areas[number] if areas else None) or (0, 0, size, size)
        side = size * rng.uniform(*SIDE_RANGE) * min(1, (MAX_FULL_SIZE_OBJECTS / len(labels)) ** 0.5)
        left, top, right, bottom = _free_box(label, side, boxes, area, rng)
        drawing = sprite(label, right - left, bottom - top, rng)
        visible = drawing.getbbox()
        if visible is None:
            raise ValueError(f"{label!r} has no visible pixel in an image of {size} pixels; make it larger")
        canvas.paste(drawing, (left, top), drawing)
        boxes.append((left + visible[0], top + visible[1], left + visible[2], top + visible[3]))
    return canvas, boxes


def _free_box(label: str, side: float, occupied: Sequence[PixelBox], area: PixelBox, rng: random.Random) -> PixelBox:
    """Return a free box for this object in an area; it becomes smaller whenever forty random positions are taken."""
    x, y, free_width, free_height = area[0], area[1], area[2] - area[0], area[3] - area[1]
    while True:
        width, height = object_size(label, side)
        for _ in range(40 if width <= free_width and height <= free_height else 0):
            left = x + int(rng.random() * (free_width - width + 1))
            top = y + int(rng.random() * (free_height - height + 1))
            box = (left, top, left + width, top + height)
            if not any(_overlap(box, other) for other in occupied):
                return box
        side *= 0.9


def _overlap(box: PixelBox, other: PixelBox) -> bool:
    """Return whether two boxes overlap or are closer than the margin."""
    return (
        box[0] < other[2] + MARGIN
        and other[0] < box[2] + MARGIN
        and box[1] < other[3] + MARGIN
        and other[1] < box[3] + MARGIN
    )


def _pale(rng: random.Random) -> tuple[int, int, int]:
    """Return a light color of random hue."""
    color = colorsys.hsv_to_rgb(rng.random(), rng.uniform(0.08, 0.28), rng.uniform(0.82, 0.97))
    return round(color[0] * 255), round(color[1] * 255), round(color[2] * 255)
