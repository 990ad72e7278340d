"""A picture with what an extractor saw in it: boxes, labels, scores, groundings."""

from __future__ import annotations

import textwrap
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from mnergraph.features.extract import Seen

#: Okabe and Ito's colours, which the colour-blind tell apart; dashes tell them apart in black and white.
COLOURS = ("#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7")
#: Those on which white letters are read better than black ones.
DARK = ("#009E73", "#0072B2", "#D55E00")
DASHES: tuple[Any, ...] = ("-", "--", "-.", ":")


def draw_evidence(
    picture: Image.Image, seen: Seen, *, title: str = "", ax: Axes | None = None, most: int = 40
) -> Figure:
    """The picture with boxes, each with its label, score and, where a phrase grounds it, the phrase's words.

    Args:
        picture: upright, as `mnergraph.features.pictures.open_picture` gives it.
        seen: what was seen in it.
        title: above it.
        ax: where to draw; by default a figure of its own.
        most: as many objects as are drawn, best first.
    """
    if ax is None:
        width, height = picture.size
        ax = Figure(figsize=(8, max(2.5, min(12.0, 8 * height / width + 1))), layout="constrained").subplots()
    ax.imshow(picture)
    ax.set_axis_off()
    # drawn backwards, so that the best lie on top
    for place, thing in reversed(list(enumerate((seen.objects or ())[:most]))):
        if thing.box is None:
            continue
        left, top, right, bottom = thing.box
        colour, dash = COLOURS[place % len(COLOURS)], DASHES[place // len(COLOURS) % len(DASHES)]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2, ec=colour, ls=dash))
        where = "" if thing.words is None else f" [{thing.words[0]}:{thing.words[1]}]"
        ax.text(
            left,
            top,
            f"{place + 1} {textwrap.shorten(thing.label or 'object', 28)} {thing.score:.2f}{where}",
            fontsize=8,
            va="bottom",
            color="white" if colour in DARK else "black",
            parse_math=False,
            bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
        )
    told = [title] if title else []
    if seen.caption:
        told.append(textwrap.fill(seen.caption, 90))
    if seen.grid is not None:
        told.append(f"grid {list(seen.grid.shape)}")
    if seen.objects is not None and len(seen.objects) > most:
        told.append(f"{len(seen.objects) - most} more objects")
    if seen.fault:
        told.append(f"{seen.fault.kind}: {seen.fault.detail}")
    ax.set_title("\n".join(told), fontsize=9, parse_math=False)
    figure = ax.get_figure(root=True)
    assert isinstance(figure, Figure)
    return figure
