"""Distractors: objects of no entity type."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch


def tree(pen: Pen) -> None:
    pen.box("#7a4a22", 0.42, 0.56, 0.58, 0.98)
    pen.oval("#2f7d32", 0.0, 0.22, 0.62, 0.7)
    pen.oval("#2f7d32", 0.38, 0.22, 1.0, 0.7)
    pen.oval("#3c9440", 0.18, 0.0, 0.82, 0.52)


def cloud(pen: Pen) -> None:
    pen.rounded_box("#f4f7fb", 0.1, 0.5, 0.9, 0.97)
    for left, top, right in ((0.0, 0.4, 0.42), (0.56, 0.36, 1.0), (0.22, 0.02, 0.72)):
        pen.oval("#f4f7fb", left, top, right, 0.97)
    pen.patch("#f4f7fb", 0.16, 0.6, 0.84, 0.9)


def dog(pen: Pen) -> None:
    coat = pen.choose("#b5793a", "#8f5a2c", "#c99a5b")
    pen.line(coat, 0.09, 0.1, 0.5, 0.02, 0.2)
    for left in (0.12, 0.26, 0.5, 0.64):
        pen.box(coat, left, 0.6, left + 0.1, 0.98)
    pen.oval(coat, 0.06, 0.38, 0.8, 0.78)
    pen.oval(coat, 0.58, 0.06, 0.94, 0.52)
    pen.oval(coat, 0.78, 0.26, 1.0, 0.48)
    pen.oval("#5c3616", 0.54, 0.06, 0.7, 0.46)
    pen.patch("#16100c", 0.8, 0.2, 0.84, 0.26)
    pen.patch("#16100c", 0.95, 0.29, 1.0, 0.37)


def ball(pen: Pen) -> None:
    whole = (0.0, 0.0, 0.99, 0.99)
    for turn, fill in enumerate(("#e5352f", "#ffffff", "#2d6fe0", "#ffffff", "#f5c62c", "#ffffff")):
        pen.slice(fill, whole, turn * 60 + 15, turn * 60 + 75)
    pen.oval("#ffffff", 0.41, 0.41, 0.59, 0.59)


def lamp(pen: Pen) -> None:
    pen.line("#54545e", 0.04, 0.5, 0.3, 0.5, 0.94)
    pen.oval("#54545e", 0.18, 0.91, 0.82, 0.99)
    pen.shape("#ffdf6b", 0.28, 0.0, 0.72, 0.0, 0.98, 0.34, 0.02, 0.34)


def cup(pen: Pen) -> None:
    pen.oval("#8a2f8f", 0.6, 0.3, 0.99, 0.8)
    pen.oval("#f5eef7", 0.7, 0.42, 0.9, 0.68)
    pen.shape("#8a2f8f", 0.02, 0.14, 0.74, 0.14, 0.66, 0.98, 0.1, 0.98)
    pen.oval("#4a2a18", 0.02, 0.02, 0.74, 0.26)


def flower(pen: Pen) -> None:
    pen.line("#2f8a3a", 0.045, 0.5, 0.4, 0.5, 0.99)
    pen.oval("#3fa14a", 0.52, 0.66, 0.96, 0.82)
    for x, y in ((0.5, 0.12), (0.79, 0.25), (0.69, 0.46), (0.31, 0.46), (0.21, 0.25)):
        pen.oval("#f58ac0", x - 0.21, y - 0.12, x + 0.21, y + 0.12)
    pen.oval("#f7c52d", 0.34, 0.21, 0.66, 0.4)


def chair(pen: Pen) -> None:
    for left in (0.08, 0.78):
        pen.box("#8f5f33", left, 0.58, left + 0.14, 0.98)
    for left in (0.08, 0.43, 0.78):
        pen.box("#8f5f33", left, 0.06, left + 0.14, 0.56)
    pen.box("#a9743f", 0.04, 0.0, 0.96, 0.16)
    pen.box("#a9743f", 0.0, 0.5, 1.0, 0.64)


SKETCHES: dict[str, Sketch] = {
    "tree": Sketch(0.75, tree),
    "cloud": Sketch(1.6, cloud),
    "dog": Sketch(1.3, dog),
    "ball": Sketch(1.0, ball),
    "lamp": Sketch(0.5, lamp),
    "cup": Sketch(1.0, cup),
    "flower": Sketch(0.65, flower),
    "chair": Sketch(0.62, chair),
}
