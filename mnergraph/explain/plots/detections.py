"""Plot of the evidence that an extractor found in an image: boxes, labels, scores, phrases."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from mnergraph.explain.plots.boxes import (
    COLUMN_GAP,
    LINE,
    ListRow,
    NumberedBox,
    box_look,
    draw_boxes,
    draw_list,
    list_columns,
    show_image,
)
from mnergraph.explain.plots.style import axes
from mnergraph.features.vision.extractor import ImageEvidence

#: Width of image and list in inches.
_IMAGE, _LIST = 5.6, 2.6
#: So many lines of the list may be higher than the image.
_LINES = 20


def plot_detections(
    image: Image.Image, evidence: ImageEvidence, *, title: str = "", ax: Axes | None = None, max_objects: int = 20
) -> Figure:
    """Plot an image with boxes and their indices, and beside it their labels, scores and the words that ground them.

    Args:
        image: the upright image, as `mnergraph.features.vision.image_io.open_image` returns it.
        evidence: what an extractor found in it.
        title: title of the plot.
        ax: axes to draw into; by default those of a new figure.
        max_objects: number of objects to draw and to list, best first; the list says how many there are.

    Returns:
        the figure.
    """
    objects = list(evidence.objects or ())
    best = sorted(range(len(objects)), key=lambda index: -objects[index].score)[:max_objects]
    boxes, rows = [], []
    for place, index in enumerate(best):
        item = objects[index]
        color, dashes = box_look(place)
        if item.box is not None:
            boxes.append(NumberedBox(index, item.box, color, dashes))
        words = "" if item.span is None else f" [{item.span[0]}:{item.span[1]}]"
        rows.append(ListRow(index, f"{item.label or 'object'}{words}", f"{item.score:.2f}", color=color))
    notes = []
    if evidence.objects is not None and not objects:
        notes.append("no objects")
    if left_out := len(objects) - len(rows):
        notes.append(f"{left_out} of {len(objects)} objects with lower scores left out")
    height = min(9.0, max(1.6, _IMAGE * image.height / image.width))
    size = max(height, LINE * (min(len(rows), _LINES) + len(notes)) + 0.1)
    _, columns = list_columns(len(rows), size - LINE * len(notes))
    wide = columns * _LIST + (columns - 1) * COLUMN_GAP
    width = _IMAGE + 0.15 + wide if rows or notes else _IMAGE
    figure, ax = axes(ax, (width, size + 0.6))
    ax.set_axis_off()
    panel = ax.inset_axes((0, 0, _IMAGE / width, 1))
    show_image(panel, image, image.size)
    draw_boxes(panel, boxes, image.size, min(_IMAGE, size * image.width / image.height))
    if rows or notes:
        draw_list(ax.inset_axes((1 - wide / width, 0, wide / width, 1)), rows, (wide, size), notes)
    ax.set_title(_title(evidence, title), fontsize=9, parse_math=False, loc="left")
    return figure


def _title(evidence: ImageEvidence, title: str) -> str:
    """The title, caption, shape of the grid, and the image's fault."""
    lines = [title] if title else []
    if evidence.caption:
        lines.append(textwrap.fill(evidence.caption, 90))
    if evidence.grid is not None:
        lines.append(f"grid {list(evidence.grid.shape)}")
    if evidence.issue:
        lines.append(f"{evidence.issue.code}: {evidence.issue.detail}")
    return "\n".join(lines)
