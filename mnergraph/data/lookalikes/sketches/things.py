"""Named things: objects of the type MISC."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch

GLASS_COLOR = "#bfe3f2"


def trophy(pen: Pen) -> None:
    for left, right in ((0.0, 0.4), (0.6, 1.0)):
        pen.oval("#d99e1b", left, 0.06, right, 0.44)
        pen.oval("#fff4cf", left + 0.1, 0.14, right - 0.1, 0.36)
    pen.box("#d99e1b", 0.43, 0.56, 0.57, 0.8)
    pen.slice("#f5bd2c", (0.18, -0.56, 0.82, 0.64), 0, 180)
    pen.box("#f5bd2c", 0.14, 0.0, 0.86, 0.1)
    pen.box("#6b4023", 0.24, 0.8, 0.76, 0.98)


def poster(pen: Pen) -> None:
    pen.box("#fff8e6", 0.0, 0.02, 1.0, 0.98)
    pen.box("#16213f", 0.1, 0.1, 0.9, 0.62)
    pen.oval("#ff5fa2", 0.26, 0.18, 0.74, 0.54)
    pen.shape("#ffe14d", 0.38, 0.26, 0.68, 0.36, 0.38, 0.46)
    for left, top in ((0.1, 0.69), (0.22, 0.79), (0.3, 0.88)):
        pen.patch("#2b2b33", left, top, 1 - left, top + 0.045)
    pen.oval("#e5352f", 0.44, 0.0, 0.56, 0.08)


def phone(pen: Pen) -> None:
    pen.rounded_box("#1b1b20", 0.0, 0.0, 1.0, 0.99)
    pen.patch("#dff1ff", 0.1, 0.1, 0.9, 0.86)
    for row in range(4):
        for column, fill in enumerate(("#e5352f", "#2fae5a", "#2d6fe0")):
            left, top = 0.17 + column * 0.24, 0.15 + row * 0.17
            pen.patch(fill, left, top, left + 0.17, top + 0.1)
    pen.oval("#8c8c96", 0.4, 0.885, 0.6, 0.965)


def car(pen: Pen) -> None:
    body = pen.choose("#d3262b", "#e06a1b", "#c21d5a")
    pen.shape(body, 0.2, 0.48, 0.34, 0.02, 0.7, 0.02, 0.86, 0.48)
    pen.shape(GLASS_COLOR, 0.28, 0.46, 0.38, 0.14, 0.5, 0.14, 0.5, 0.46)
    pen.shape(GLASS_COLOR, 0.55, 0.46, 0.55, 0.14, 0.67, 0.14, 0.77, 0.46)
    pen.rounded_box(body, 0.0, 0.42, 1.0, 0.82)
    pen.oval("#ffec99", 0.9, 0.48, 0.99, 0.64)
    for left in (0.12, 0.66):
        pen.oval("#1f1f24", left, 0.6, left + 0.22, 0.99)
        pen.oval("#c9c9d2", left + 0.07, 0.72, left + 0.15, 0.87)


SKETCHES: dict[str, Sketch] = {
    "trophy": Sketch(0.8, trophy),
    "poster": Sketch(0.7, poster),
    "phone": Sketch(0.52, phone),
    "car": Sketch(1.7, car),
}
