"""Plot of the evidence that an extractor found in an image: boxes, labels, scores, phrases."""

from __future__ import annotations

import textwrap

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from mnergraph.explain.plots.style import COLORS, DASHES, axes, text_arguments
from mnergraph.features.vision.extractor import ImageEvidence

#: Of `COLORS`, those on which white text is more legible than black text.
DARK = ("#0072B2", "#D55E00", "#009E73", "#000000")


def plot_detections(
    image: Image.Image, evidence: ImageEvidence, *, title: str = "", ax: Axes | None = None, max_objects: int = 40
) -> Figure:
    """Plot an image with boxes, each with its label, score and, if a phrase grounds it, the phrase's words.

    Args:
        image: the upright image, as `mnergraph.features.vision.image_io.open_image` returns it.
        evidence: what an extractor found in it.
        title: title of the plot.
        ax: axes to draw into; by default those of a new figure.
        max_objects: number of objects to draw, best first.

    Returns:
        the figure.
    """
    width, height = image.size
    figure, ax = axes(ax, (8, max(2.5, min(12.0, 8 * height / width + 1))))
    ax.imshow(image)
    ax.set_axis_off()
    # drawn backwards, so that the best are on top
    for index, item in reversed(list(enumerate((evidence.objects or ())[:max_objects]))):
        if item.box is None:
            continue
        left, top, right, bottom = item.box
        color, dash = COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2, ec=color, ls=dash))
        label = text_arguments(item.label or "object", 28)
        words = "" if item.span is None else f" [{item.span[0]}:{item.span[1]}]"
        label["s"] = f"{index + 1} {label.pop('text')} {item.score:.2f}{words}"
        ax.text(
            left,
            top,
            **label,
            fontsize=8,
            va="bottom",
            color="white" if color in DARK else "black",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
        )
    ax.set_title(_title(evidence, title, max_objects), fontsize=9, parse_math=False)
    return figure


def _title(evidence: ImageEvidence, title: str, max_objects: int) -> str:
    """The title, caption, shape of the grid, number of objects not drawn, and the image's fault."""
    lines = [title] if title else []
    if evidence.caption:
        lines.append(textwrap.fill(evidence.caption, 90))
    if evidence.grid is not None:
        lines.append(f"grid {list(evidence.grid.shape)}")
    if evidence.objects is not None and len(evidence.objects) > max_objects:
        lines.append(f"{len(evidence.objects) - max_objects} more objects")
    if evidence.issue:
        lines.append(f"{evidence.issue.code}: {evidence.issue.detail}")
    return "\n".join(lines)
