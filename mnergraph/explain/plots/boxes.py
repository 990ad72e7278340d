"""Numbered boxes on an image, and the list that says what the numbers are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from mnergraph.explain.plots.style import COLORS, DARK, DASHES, EMPTY, QUIET, families, fit_text, text_inches
from mnergraph.pair import Box

#: Font size of numbers and of the list in points, and height of a line of the list in inches.
NUMBER, TEXT, LINE = 7.0, 8.0, 0.19
#: Distance between columns of the list in inches.
COLUMN_GAP = 0.25


@dataclass(frozen=True)
class NumberedBox:
    """A box on an image.

    Attributes:
        number: the number on it.
        box: left, top, right, bottom in pixels of the image.
        color: color of box and number; None for black and white.
        dashes: its line.
        thick: whether it is emphasized.
    """

    number: int
    box: Box
    color: str | None = None
    dashes: Any = "-"
    thick: bool = False


def box_look(index: int) -> tuple[str, Any]:
    """Return a color and dashes for a box by its index; both repeat only after as many boxes as their product."""
    return COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]


def show_image(panel: Axes, image: Any, size: tuple[float, float], note: str = "") -> None:
    """Draw an image, or in its place a field with a note.

    Args:
        panel: the axes, whose coordinates are pixels then.
        image: what imshow takes, or None.
        size: width and height.
        note: what is said where there is no image.
    """
    width, height = size
    panel.set(xlim=(0, width), ylim=(height, 0), aspect="equal", xticks=[], yticks=[], anchor="NW")
    panel.set_axis_off()
    if image is not None:
        panel.imshow(image, extent=(0, width, height, 0), aspect="equal")
        return
    panel.add_patch(Rectangle((0, 0), width, height, facecolor=EMPTY, edgecolor="#888888", linewidth=0.8))
    if note:
        panel.text(width / 2, height / 2, note, ha="center", va="center", color=QUIET, fontsize=9, parse_math=False)


def draw_boxes(panel: Axes, boxes: Sequence[NumberedBox], size: tuple[float, float], inches: float) -> None:
    """Draw boxes, each with its number at a corner or near it, where no other number is.

    Args:
        panel: the axes of the image.
        boxes: the boxes, the most important first.
        size: width and height of the image in pixels.
        inches: width of the panel.
    """
    per_inch = size[0] / inches
    taken: list[Box] = []
    for entry in boxes:
        width = (text_inches(str(entry.number), NUMBER, "bold") + 0.07) * per_inch
        taken.append(_free_place(entry.box, (width, 0.155 * per_inch), size, taken))
    # the most important last, on top of the others
    for entry, place in reversed(list(zip(boxes, taken, strict=True))):
        left, top, right, bottom = entry.box
        outline, color = "black" if entry.color is None else "white", entry.color or "white"
        wide = 2.4 if entry.thick else 1.3
        for edge, line, dashes in ((outline, wide + 1.4, "-"), (color, wide, entry.dashes)):
            frame = Rectangle((left, top), right - left, bottom - top, fill=False, ec=edge, lw=line, ls=dashes)
            panel.add_patch(frame)
        field = Rectangle(place[:2], place[2] - place[0], place[3] - place[1], ec="black", lw=0.5, zorder=4)
        field.set_facecolor(entry.color or "white")
        panel.add_patch(field)
        panel.text(
            (place[0] + place[2]) / 2,
            (place[1] + place[3]) / 2,
            str(entry.number),
            fontsize=NUMBER,
            weight="bold",
            ha="center",
            va="center_baseline",
            color="white" if entry.color in DARK else "black",
            zorder=5,
        )


def place_labels(
    labels: Sequence[tuple[Box, str]], size: tuple[float, float], inches: float, points: float
) -> list[Box]:
    """Return the rectangle of each label above its box, or where there is space near it, so that none overlap.

    Args:
        labels: box and text of every label, the most important first.
        size: width and height of the image in pixels.
        inches: width of the panel.
        points: font size.
    """
    per_inch = size[0] / inches
    taken: list[Box] = []
    for box, text in labels:
        own = ((text_inches(text, points) + 0.08) * per_inch, (1.5 * points / 72) * per_inch)
        taken.append(_free_place(box, own, size, taken, above=True))
    return taken


def _free_place(
    box: Box, own: tuple[float, float], size: tuple[float, float], taken: Sequence[Box], *, above: bool = False
) -> Box:
    """The rectangle nearest to a corner of the box, inside the image, that overlaps none of those taken."""
    width, height = own
    room = max(size[0] - width, 0.0), max(size[1] - height, 0.0)

    def placed(x: float, y: float) -> Box:
        left, top = min(max(x, 0.0), room[0]), min(max(y, 0.0), room[1])
        return left, top, left + width, top + height

    def is_free(place: Box) -> bool:
        return not any(
            place[0] < other[2] and other[0] < place[2] and place[1] < other[3] and other[1] < place[3]
            for other in taken
        )

    left, top, right, bottom = box
    corners = [(left, top), (right - width, top), (left, bottom - height), (right - width, bottom - height)]
    if above:
        corners = [(left, top - height), (left, bottom), (right - width, top - height), *corners]
    for corner in corners:
        if is_free(place := placed(*corner)):
            return place
    start = placed(*corners[0])
    columns = np.arange(0, room[0] + 1e-6, max(width * 0.35, 1e-6))
    rows = np.arange(0, room[1] + 1e-6, height * 1.02)
    # a step down is a smaller change than one to the side
    grid = sorted(
        ((x, y) for x in (start[0], *columns) for y in (start[1], *rows)),
        key=lambda at: abs(at[0] - start[0]) / width + abs(at[1] - start[1]) / height,
    )
    return next((place for x, y in grid if is_free(place := placed(x, y))), start)


@dataclass(frozen=True)
class ListRow:
    """A line of the list beside an image.

    Attributes:
        number: the number of the box; None for what has no box.
        text: what it is.
        value: a number that is shown at the end, as text.
        share: length of its bar, 0 to 1; None for none.
        color: color of number and bar.
    """

    number: int | None
    text: str
    value: str = ""
    share: float | None = None
    color: Any = None


def draw_list(panel: Axes, rows: Sequence[ListRow], inches: tuple[float, float], notes: Sequence[str] = ()) -> None:
    """Draw the list of boxes: number, label, bar and value in a line each, then notes.

    Args:
        panel: the axes.
        rows: the lines, in several columns if the panel is less high than all of them.
        inches: width and height of the panel, of which lines and font sizes are.
        notes: further lines in a pale color, below the first column.
    """
    panel.set(xlim=(0, inches[0]), ylim=(inches[1], 0))
    panel.set_axis_off()
    per_column, columns = list_columns(len(rows), inches[1] - LINE * len(notes))
    width = (inches[0] - COLUMN_GAP * (columns - 1)) / columns
    values = max((text_inches(row.value, TEXT) for row in rows), default=0.0)
    bars = 0.7 if any(row.share is not None for row in rows) else 0.0
    most = width - 0.32 - values - 0.08 - (bars + 0.08 if bars else 0)
    font: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "fontsize": TEXT, "va": "center"}
    for index, row in enumerate(rows):
        column, line = divmod(index, per_column)
        x, y = column * (width + COLUMN_GAP), (line + 0.5) * LINE
        if row.number is not None:
            label: dict[str, Any] = {
                "facecolor": row.color or "white",
                "edgecolor": "black",
                "linewidth": 0.5,
                "pad": 1.2,
            }
            ink = "white" if row.color in DARK else "black"
            number: dict[str, Any] = {"fontsize": NUMBER, "weight": "bold", "ha": "center", "va": "center"}
            panel.text(x + 0.13, y, str(row.number), color=ink, bbox=label, **number)
        panel.text(x + 0.3, y, fit_text(row.text, most, TEXT), **font)
        panel.text(x + width, y, row.value, ha="right", **font)
        if row.share is not None:
            left = x + width - values - 0.08 - bars
            panel.add_patch(Rectangle((left, y - 0.06), bars, 0.12, facecolor=EMPTY))
            panel.add_patch(Rectangle((left, y - 0.06), bars * row.share, 0.12, facecolor=row.color or "black"))
    for index, note in enumerate(notes):
        panel.text(
            0.0, (min(len(rows), per_column) + index + 0.5) * LINE, note, **{**font, "fontsize": 7.0, "color": QUIET}
        )


def list_columns(rows: int, height: float) -> tuple[int, int]:
    """Return the number of lines of a list in a column of this height in inches, and the number of columns."""
    per_column = max(1, int(height / LINE + 1e-6))
    columns = max(1, -(-rows // per_column))
    return max(1, -(-rows // columns)), columns
