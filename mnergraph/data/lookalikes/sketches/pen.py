"""A pen that draws in unit coordinates: (0, 0) is an object's top left corner, (1, 1) its bottom right."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw

#: Drawn this many times larger and reduced afterwards, which smooths the edges.
SUPERSAMPLE = 2


INK = (44, 40, 48, 255)


Colour = tuple[int, int, int, int]


class Pen:
    """Draws one object on a layer of its own, transparent where nothing was drawn.

    Args:
        width: of the object, in pixels.
        height: of the object, in pixels.
        rng: where the jitter of its colours comes from, and whatever a sketch chooses.
    """

    def __init__(self, width: int, height: int, rng: random.Random) -> None:
        self.rng = rng
        self._scale = (width * SUPERSAMPLE - 1, height * SUPERSAMPLE - 1)
        self._layer = Image.new("RGBA", (width * SUPERSAMPLE, height * SUPERSAMPLE))
        self._draw = ImageDraw.Draw(self._layer)
        self._outline = max(SUPERSAMPLE, round(height * SUPERSAMPLE / 48))
        self._jitter = (rng.uniform(-0.025, 0.025), rng.uniform(0.85, 1.15), rng.uniform(0.9, 1.08))

    def oval(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """An ellipse that touches the four sides."""
        self._draw.ellipse(self._at(left, top, right, bottom), self._colour(fill), INK, self._outline)

    def box(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """A rectangle."""
        self._draw.rectangle(self._at(left, top, right, bottom), self._colour(fill), INK, self._outline)

    def patch(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """A rectangle without an outline: a window, a line of print."""
        self._draw.rectangle(self._at(left, top, right, bottom), self._colour(fill))

    def card(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """A rectangle with round corners."""
        place = self._at(left, top, right, bottom)
        radius = min(place[2] - place[0], place[3] - place[1]) / 5
        self._draw.rounded_rectangle(place, radius, self._colour(fill), INK, self._outline)

    def shape(self, fill: str, *corners: float) -> None:
        """A polygon: x and y of its corners in turn."""
        self._draw.polygon(self._at(*corners), self._colour(fill), INK, self._outline)

    def slice(self, fill: str, sides: tuple[float, float, float, float], start: float, end: float) -> None:
        """A slice of an ellipse, in degrees clockwise from three o'clock."""
        self._draw.pieslice(self._at(*sides), start, end, self._colour(fill), INK, self._outline)

    def line(self, fill: str, thickness: float, *points: float) -> None:
        """A line through points, its thickness a share of the object's height."""
        width = max(SUPERSAMPLE, round(thickness * self._scale[1]))
        self._draw.line(self._at(*points), self._colour(fill), width, joint="curve")

    def any(self, *colours: str) -> str:
        """One of these colours."""
        return self.rng.choice(colours)

    def lift(self) -> Image.Image:
        """What was drawn, width times height, its edges smooth."""
        return self._layer.reduce(SUPERSAMPLE)

    def _at(self, *unit: float) -> list[float]:
        """Unit coordinates to those of the layer."""
        return [value * self._scale[place % 2] for place, value in enumerate(unit)]

    def _colour(self, name: str) -> Colour:
        """The colour of this name (any that pillow reads) in this object's tint."""
        red, green, blue = (part / 255 for part in ImageColor.getrgb(name)[:3])
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        turn, richness, light = self._jitter
        tinted = colorsys.hsv_to_rgb((hue + turn) % 1, min(1, saturation * richness), min(1, value * light))
        return (round(tinted[0] * 255), round(tinted[1] * 255), round(tinted[2] * 255), 255)


class Sketch(NamedTuple):
    """How a class of object is drawn: its width relative to its height, and the strokes."""

    aspect: float
    strokes: Callable[[Pen], None]
