"""Drawing in unit coordinates: (0, 0) is an object's top left corner, (1, 1) its bottom right."""

from __future__ import annotations

import colorsys
import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageColor, ImageDraw

#: Factor by which drawings are enlarged before they are reduced, which smooths the edges.
SUPERSAMPLE = 2


INK = (44, 40, 48, 255)


Colour = tuple[int, int, int, int]


class Pen:
    """Draws one object on a layer of its own, transparent where nothing was drawn.

    Args:
        width: of the object, in pixels.
        height: of the object, in pixels.
        rng: the random numbers of the colors' jitter and of the sketch's choices.
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
        self._draw.ellipse(self._at(left, top, right, bottom), self._colour(fill), INK, self._outline)

    def box(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle."""
        self._draw.rectangle(self._at(left, top, right, bottom), self._colour(fill), INK, self._outline)

    def patch(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle without an outline: a window, a line of print."""
        self._draw.rectangle(self._at(left, top, right, bottom), self._colour(fill))

    def card(self, fill: str, left: float, top: float, right: float, bottom: float) -> None:
        """Draw a rectangle with round corners."""
        place = self._at(left, top, right, bottom)
        radius = min(place[2] - place[0], place[3] - place[1]) / 5
        self._draw.rounded_rectangle(place, radius, self._colour(fill), INK, self._outline)

    def shape(self, fill: str, *corners: float) -> None:
        """Draw a polygon, given x and y of its corners in turn."""
        self._draw.polygon(self._at(*corners), self._colour(fill), INK, self._outline)

    def slice(self, fill: str, sides: tuple[float, float, float, float], start: float, end: float) -> None:
        """Draw a slice of an ellipse, in degrees clockwise from three o'clock."""
        self._draw.pieslice(self._at(*sides), start, end, self._colour(fill), INK, self._outline)

    def line(self, fill: str, thickness: float, *points: float) -> None:
        """Draw a line through points; its thickness is a share of the object's height."""
        width = max(SUPERSAMPLE, round(thickness * self._scale[1]))
        self._draw.line(self._at(*points), self._colour(fill), width, joint="curve")

    def any(self, *colours: str) -> str:
        """Return one of these colors at random."""
        return self.rng.choice(colours)

    def lift(self) -> Image.Image:
        """Return the drawing, ``width`` by ``height`` pixels, with smooth edges."""
        return self._layer.reduce(SUPERSAMPLE)

    def _at(self, *unit: float) -> list[float]:
        """Return unit coordinates as those of the layer."""
        return [value * self._scale[place % 2] for place, value in enumerate(unit)]

    def _colour(self, name: str) -> Colour:
        """Return a color, by any name that Pillow reads, in this object's tint."""
        red, green, blue = (part / 255 for part in ImageColor.getrgb(name)[:3])
        hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
        turn, richness, light = self._jitter
        tinted = colorsys.hsv_to_rgb((hue + turn) % 1, min(1, saturation * richness), min(1, value * light))
        return (round(tinted[0] * 255), round(tinted[1] * 255), round(tinted[2] * 255), 255)


class Sketch(NamedTuple):
    """The drawing of an object class: its width relative to its height, and its strokes."""

    aspect: float
    strokes: Callable[[Pen], None]
