"""Emblems of organizations: objects of the type ORG."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch

GLASS_COLOR = "#bfe3f2"


def logo(pen: Pen) -> None:
    pen.oval("#1d9f92", 0.12, 0.0, 0.88, 0.72)
    pen.oval("#ffffff", 0.24, 0.12, 0.76, 0.6)
    pen.slice("#f08a24", (0.24, 0.12, 0.76, 0.6), 200, 20)
    pen.shape("#1d9f92", 0.3, 0.52, 0.5, 0.18, 0.7, 0.52, 0.5, 0.42)
    for left, right in ((0.02, 0.16), (0.22, 0.36), (0.42, 0.56), (0.62, 0.76), (0.82, 0.98)):
        pen.patch("#20303a", left, 0.8, right, 0.98)


def badge(pen: Pen) -> None:
    pen.shape("#ffffff", 0.02, 0.08, 0.5, 0.0, 0.98, 0.08, 0.98, 0.52, 0.82, 0.8, 0.5, 0.99, 0.18, 0.8, 0.02, 0.52)
    pen.shape("#d3202f", 0.1, 0.4, 0.36, 0.4, 0.36, 0.84, 0.22, 0.74, 0.1, 0.52)
    pen.shape("#d3202f", 0.64, 0.4, 0.9, 0.4, 0.9, 0.52, 0.78, 0.74, 0.64, 0.84)
    pen.shape("#1c2f7a", 0.08, 0.13, 0.5, 0.06, 0.92, 0.13, 0.92, 0.4, 0.08, 0.4)
    pen.shape(
        "#ffd43b", 0.5, 0.09, 0.55, 0.2, 0.68, 0.2, 0.58, 0.27, 0.62, 0.38, 0.5, 0.31, 0.38, 0.38, 0.42, 0.27,
        0.32, 0.2, 0.45, 0.2,
    )  # fmt: skip


def storefront(pen: Pen) -> None:
    pen.box("#e8d3b0", 0.04, 0.2, 0.96, 0.98)
    pen.box("#27402f", 0.04, 0.0, 0.96, 0.22)
    for left in (0.18, 0.32, 0.46, 0.6, 0.74):
        pen.patch("#f5f0d8", left, 0.07, left + 0.08, 0.15)
    pen.box(GLASS_COLOR, 0.1, 0.52, 0.56, 0.86)
    pen.box("#8a4b2a", 0.66, 0.52, 0.88, 0.98)
    for stripe in range(6):
        left, fill = stripe / 6, ("#e0452f", "#ffffff")[stripe % 2]
        pen.shape(fill, 0.05 + left * 0.9, 0.22, 0.2 + left * 0.9, 0.22, left + 1 / 6, 0.46, left, 0.46)


def tower(pen: Pen) -> None:
    pen.line("#33333a", 0.03, 0.25, 0.1, 0.25, 0.24)
    pen.line("#33333a", 0.03, 0.75, 0.1, 0.75, 0.24)
    pen.box("#ffc81f", 0.0, 0.0, 1.0, 0.15)
    for left in (0.12, 0.34, 0.56, 0.78):
        pen.patch("#7a1d10", left, 0.045, left + 0.12, 0.105)
    pen.box("#2c5f66", 0.12, 0.2, 0.88, 0.98)
    for row in range(7):
        for left in (0.2, 0.43, 0.66):
            pen.patch(GLASS_COLOR, left, 0.25 + row * 0.09, left + 0.14, 0.305 + row * 0.09)
    pen.box("#1c2b30", 0.38, 0.87, 0.62, 0.98)


SKETCHES: dict[str, Sketch] = {
    "logo": Sketch(0.9, logo),
    "team badge": Sketch(0.82, badge),
    "storefront": Sketch(1.1, storefront),
    "office tower": Sketch(0.5, tower),
}
