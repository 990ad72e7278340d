"""Drawing in unit coordinates: (0, 0) is an object's top left corner, (1, 1) its bottom right."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw

#: Supersampling factor for smooth edges.
SUPERSAMPLE = 2


#: Color of outlines.
INK = (44, 40, 48, 255)


Color = tuple[int, int, int, int]


class Pen:
    """Draws one object on a transparent layer.

    Args:
        width: of the object, in pixels.
        height: of the object, in pixels.
        rng: random numbers for the color jitter and the sketch's random choices.
    """

    def __init__(self, width: int, height: int, rng: random.Random) -> None:
        self.rng = rng
        self._scale = (width * SUPERSAMPLE - 1, height * SUPERSAMPLE - 1)
        self._layer = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self._draw = ImageDraw.Draw(self._layer)
        self._outline = max(SUPERSAMPLE, round(height * SUPERSAMPLE / 48))
        self._jitter = (rng.uniform(-0.025, 0.025), rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.08))

    def oval(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw an ellipse that touches the four sides."""
        self._draw.ellipse(self._to_pixels(left, top, right, bottom), self._color(fill), INK, self._outline)

    def box(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle."""
        self._draw.rectangle(self._to_pixels(left, top, right, bottom), self._color(fill), INK, self._outline)

    def patch(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle without an outline."""
        self._draw.rectangle(self._to_pixels(left, top, right, bottom), self._color(fill))

    def rounded_box(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle with round corners."""
        box = self._to_pixels(left, top, right, bottom)
        radius = min(box[2] - box[0], box[3] - box[1]) / 5
        self._draw.rounded_rectangle(box, radius, self._color(fill), INK, self._outline)

    def shape(self, fill: str, *corners: float) -> None:
        """Draw a polygon, given x and y of its corners in turn."""
        self._draw.polygon(self._to_pixels(*corners), self._color(fill), INK, self._outline)

    def slice(self, fill: str, sides: tuple[float, float, float, float], start: float, end: float) -> None:
        """Draw a slice of an ellipse, in degrees clockwise from three o'clock."""
        self._draw.pieslice(self._to_pixels(*sides), start, end, self._color(fill), INK, self._outline)

    def line(self, fill: str, thickness: float, *points: float) -> None:
        """Draw a line through points; its thickness is a share of the object's height."""
        width = max(SUPERSAMPLE, round(thickness * self._scale[1]))
        self._draw.line(self._to_pixels(*points), self._color(fill), width, joint="curve")

    def choose(self, *colors: str) -> str:
        """Return one of these colors at random."""
        return self.rng.choice(colors)

    def render(self) -> Image.Image:
        """Return the drawing, ``width`` by ``height`` pixels, with smooth edges."""
        return self._layer.reduce(SUPERSAMPLE)

    def _to_pixels(self, *unit: float) -> list[float]:
        """Return the layer's pixel coordinates of unit coordinates, x and y in turn."""
        return [value * self._scale[axis % 2] for axis, value in enumerate(unit)]

    def _color(self, name: str) -> Color:
        """Return RGBA of a Pillow color name with this object's jitter of hue, saturation and value."""
        red, green, blue = (channel / 255 for channel in ImageColor.getrgb(name)[:3])
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        hue_shift, saturation_factor, value_factor = self._jitter
        tinted = colorsys.hsv_to_rgb(
            (hue + hue_shift) % 1, min(1, saturation * saturation_factor), min(1, value * value_factor)
        )
        return (round(tinted[0] * 255), round(tinted[1] * 255), round(tinted[2] * 255), 255)


class Sketch(NamedTuple):
    """The drawing of an object class: its width relative to its height, and its strokes."""

    aspect: float
    strokes: Callable[[Pen], None]
