"""Places: objects of the type LOC."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch


def mountain(pen: Pen) -> None:
    pen.shape("#8d8779", 0.3, 0.98, 0.7, 0.26, 1.0, 0.98)
    pen.shape("#ffffff", 0.59, 0.46, 0.7, 0.26, 0.8, 0.48, 0.7, 0.42)
    pen.shape("#6f6a62", 0.0, 0.98, 0.4, 0.02, 0.78, 0.98)
    pen.shape("#ffffff", 0.27, 0.33, 0.4, 0.02, 0.52, 0.33, 0.45, 0.28, 0.4, 0.38, 0.34, 0.27)


def bridge(pen: Pen) -> None:
    pen.box("#3a86c8", 0.0, 0.78, 1.0, 0.98)
    for left in (0.2, 0.72):
        pen.box("#cf4526", left, 0.0, left + 0.08, 0.86)
    pen.line("#a8341a", 0.04, 0.0, 0.55, 0.24, 0.04, 0.36, 0.4, 0.5, 0.5, 0.64, 0.4, 0.76, 0.04, 1.0, 0.55)
    for x, y in (
        (0.08, 0.38),
        (0.34, 0.34),
        (0.42, 0.44),
        (0.5, 0.5),
        (0.58, 0.44),
        (0.66, 0.34),
        (0.92, 0.38),
    ):
        pen.line("#a8341a", 0.02, x, y, x, 0.6)
    pen.box("#cf4526", 0.0, 0.56, 1.0, 0.67)


def beach(pen: Pen) -> None:
    pen.box("#2ea3d6", 0.0, 0.5, 1.0, 0.74)
    pen.shape("#f2d98c", 0.0, 0.68, 0.3, 0.74, 0.7, 0.66, 1.0, 0.74, 1.0, 0.98, 0.0, 0.98)
    pen.line("#8a5a2b", 0.06, 0.3, 0.88, 0.36, 0.55, 0.32, 0.26)
    for x, y in ((0.02, 0.32), (0.08, 0.1), (0.36, 0.02), (0.58, 0.12), (0.6, 0.36)):
        pen.line("#2f9a46", 0.08, 0.32, 0.24, (x + 0.32) / 2, y, x, y + 0.08)
    pen.oval("#ffd23e", 0.74, 0.06, 0.96, 0.36)


def skyline(pen: Pen) -> None:
    towers = ((0.0, 0.5, 0.22), (0.2, 0.22, 0.4), (0.38, 0.02, 0.56), (0.54, 0.36, 0.76), (0.74, 0.16, 0.99))
    for left, top, right in towers:
        pen.box("#5d7191", left, top, right, 0.98)
        for row in range(int((0.94 - top) / 0.14)):
            for column in (0.28, 0.62):
                x, y = left + (right - left) * column, top + 0.07 + row * 0.14
                pen.patch("#ffe58a", x, y, x + 0.03, y + 0.06)


SKETCHES: dict[str, Sketch] = {
    "mountain": Sketch(1.4, mountain),
    "bridge": Sketch(1.7, bridge),
    "beach": Sketch(1.25, beach),
    "skyline": Sketch(1.3, skyline),
}
