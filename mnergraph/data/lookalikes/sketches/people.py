"""People: objects of the type PER."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch

SKIN = ("#f3c9a5", "#d9a06b", "#a9713f", "#7d4f2a")


HAIR = ("#2b1d16", "#5a3a1c", "#8c5a24")


def man(pen: Pen) -> None:
    skin = pen.choose(*SKIN)
    pen.line(skin, 0.06, 0.12, 0.32, 0.12, 0.6)
    pen.line(skin, 0.06, 0.88, 0.32, 0.88, 0.6)
    pen.box("#31344a", 0.26, 0.56, 0.49, 0.98)
    pen.box("#31344a", 0.51, 0.56, 0.74, 0.98)
    pen.shape("#2f6fc0", 0.02, 0.26, 0.98, 0.26, 0.98, 0.44, 0.8, 0.44, 0.8, 0.6, 0.2, 0.6, 0.2, 0.44, 0.02, 0.44)
    pen.oval(skin, 0.26, 0.02, 0.74, 0.26)
    pen.slice(pen.choose(*HAIR), (0.24, 0.0, 0.76, 0.22), 180, 360)


def woman(pen: Pen) -> None:
    skin, hair = pen.choose(*SKIN), pen.choose(*HAIR)
    pen.shape(hair, 0.24, 0.08, 0.76, 0.08, 0.86, 0.38, 0.14, 0.38)
    pen.line(skin, 0.05, 0.36, 0.75, 0.36, 1.0)
    pen.line(skin, 0.05, 0.64, 0.75, 0.64, 1.0)
    pen.line(skin, 0.05, 0.36, 0.32, 0.06, 0.56)
    pen.line(skin, 0.05, 0.64, 0.32, 0.94, 0.56)
    pen.shape("#c92f6b", 0.32, 0.27, 0.68, 0.27, 0.62, 0.46, 0.98, 0.82, 0.02, 0.82, 0.38, 0.46)
    pen.oval(skin, 0.29, 0.03, 0.71, 0.27)
    pen.slice(hair, (0.25, 0.0, 0.75, 0.22), 180, 360)


def child(pen: Pen) -> None:
    skin = pen.choose(*SKIN)
    pen.line("#555555", 0.015, 0.82, 0.24, 0.8, 0.62)
    pen.oval("#e5352f", 0.66, 0.0, 0.99, 0.27)
    pen.line(skin, 0.07, 0.6, 0.6, 0.8, 0.56)
    pen.line(skin, 0.07, 0.16, 0.6, 0.06, 0.78)
    pen.line(skin, 0.07, 0.29, 0.8, 0.29, 0.99)
    pen.line(skin, 0.07, 0.46, 0.8, 0.46, 0.99)
    pen.box("#3f9a4c", 0.2, 0.74, 0.55, 0.88)
    pen.box("#f4c62a", 0.17, 0.54, 0.58, 0.76)
    pen.oval(skin, 0.12, 0.2, 0.63, 0.56)
    pen.slice("#2d7fd0", (0.1, 0.17, 0.65, 0.55), 180, 360)


def singer(pen: Pen) -> None:
    skin = pen.choose(*SKIN)
    pen.oval("#20160f", 0.2, 0.0, 0.8, 0.3)
    pen.oval(skin, 0.33, 0.07, 0.67, 0.3)
    pen.oval("#5b1020", 0.43, 0.2, 0.57, 0.27)
    pen.shape("#8b35b8", 0.28, 0.3, 0.72, 0.3, 0.76, 0.62, 0.24, 0.62)
    pen.shape("#e2b93b", 0.24, 0.62, 0.76, 0.62, 0.84, 0.98, 0.56, 0.98, 0.5, 0.72, 0.44, 0.98, 0.16, 0.98)
    pen.line("#33333a", 0.03, 0.12, 0.36, 0.12, 0.98)
    pen.line("#33333a", 0.04, 0.0, 0.98, 0.26, 0.98)
    pen.line(skin, 0.06, 0.3, 0.36, 0.14, 0.46)
    pen.line(skin, 0.06, 0.7, 0.36, 0.96, 0.2)
    pen.oval("#9a9aa5", 0.03, 0.24, 0.21, 0.37)


SKETCHES: dict[str, Sketch] = {
    "man": Sketch(0.45, man),
    "woman": Sketch(0.5, woman),
    "child": Sketch(0.65, child),
    "singer": Sketch(0.6, singer),
}
