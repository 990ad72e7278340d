"""A picture with what an extractor saw in it: boxes, labels, scores, groundings."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from mnergraph.explain.plots.style import COLOURS, DASHES, axes, write
from mnergraph.features.vision.extractor import ImageEvidence

#: Of `COLOURS`, those on which white letters are read better than black ones.
DARK = ("#0072B2", "#D55E00", "#009E73", "#000000")


def plot_detections(
    picture: Image.Image, seen: ImageEvidence, *, title: str = "", ax: Axes | None = None, most: int = 40
) -> Figure:
    """The picture with boxes, each with its label, score and, where a phrase grounds it, the phrase's words.

    Args:
        picture: upright, as `mnergraph.features.vision.image_io.open_image` gives it.
        seen: what was seen in it.
        title: above it.
        ax: where to draw; by default a figure of its own.
        most: as many objects as are drawn, best first.
    """
    width, height = picture.size
    figure, ax = axes(ax, (8, max(2.5, min(12.0, 8 * height / width + 1))))
    ax.imshow(picture)
    ax.set_axis_off()
    # drawn backwards, so that the best lie on top
    for place, thing in reversed(list(enumerate((seen.objects or ())[:most]))):
        if thing.box is None:
            continue
        left, top, right, bottom = thing.box
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2, ec=colour, ls=dash))
        label = write(thing.label or "object", 28)
        where = "" if thing.span is None else f" [{thing.span[0]}:{thing.span[1]}]"
        label["s"] = f"{place + 1} {label.pop('text')} {thing.score:.2f}{where}"
        ax.text(
            left,
            top,
            **label,
            fontsize=8,
            va="bottom",
            color="white" if colour in DARK else "black",
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
        )
    ax.set_title(_told(seen, title, most), fontsize=9, parse_math=False)
    return figure


def _told(seen: ImageEvidence, title: str, most: int) -> str:
    """What stands above the picture."""
    told = [title] if title else []
    if seen.caption:
        told.append(textwrap.fill(seen.caption, 90))
    if seen.grid is not None:
        told.append(f"grid {list(seen.grid.shape)}")
    if seen.objects is not None and len(seen.objects) > most:
        told.append(f"{len(seen.objects) - most} more objects")
    if seen.issue:
        told.append(f"{seen.issue.code}: {seen.issue.detail}")
    return "\n".join(told)
