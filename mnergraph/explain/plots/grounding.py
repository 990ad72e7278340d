"""Plot of where the image shows the entities of a post."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnergraph.explain.plots.detections import DARK
from mnergraph.explain.plots.style import COLORS, axes, entity_label, style_indices, text_arguments
from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.labels import Entity
from mnergraph.pair import Box, Pair


def plot_grounding(
    pair: Pair, entities: Sequence[Entity] = (), *, title: str = "", ax: Axes | None = None, gold: bool = True
) -> Figure:
    """Plot a post's image with the box of each entity that a model grounds, and the gold boxes.

    Predicted boxes are solid, with the entity's words and the probability of the box; gold ones are dashed. A type has
    one color. Entities that are not in the image are listed below it. Without an image the boxes are drawn alone;
    without boxes the figure says so.

    Args:
        pair: the post.
        entities: its entities with their regions, as `Tagger.predict` or `EVG.ground` returns them.
        title: title of the plot.
        ax: axes to draw into; by default those of a new figure.
        gold: whether to draw the gold boxes of the post.

    Returns:
        the figure.
    """
    image = None
    if pair.image_path is not None:
        try:
            image = open_image(pair.image_path)
        except ImageError:
            image = None
    width, height = image.image.size if image is not None else pair.size or (4, 3)
    figure, ax = axes(ax, (8, max(2.5, min(12.0, 8 * height / width + 1))))
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    ax.set_aspect("equal")
    if image is not None:
        ax.imshow(image.image, extent=(0, width, height, 0))
    else:
        ax.add_patch(Rectangle((0, 0), width, height, facecolor="#f2f2f2", edgecolor="#888888"))

    def placed(box: Box) -> Box:
        return box if image is None else image.boxes([box], pair.size)[0]

    annotated = pair.grounding or () if gold else ()
    colors = {
        name: COLORS[index % len(COLORS)]
        for name, index in style_indices([one.type for one in entities] + [one.type for one in annotated]).items()
    }
    for known in annotated:
        for box in map(placed, known.boxes):
            _outline(ax, box, colors[known.type], "--")
    absent, drawn = [], any(known.boxes for known in annotated)
    for entity in entities:
        if entity.region is None:
            continue
        if entity.region.box is None:
            absent.append(f"{entity_label(entity, pair.words)} {entity.region.score:.2f}")
            continue
        box, color, drawn = placed(entity.region.box), colors[entity.type], True
        _outline(ax, box, color, "-")
        label = text_arguments(" ".join(pair.words[entity.start : entity.end]), 28)
        label["s"] = f"{label.pop('text')} {entity.type} {entity.region.score:.2f}"
        high = box[1] < 0.08 * height  # no room above the box
        ax.text(
            box[0],
            box[3] if high else box[1],
            **label,
            fontsize=9,
            va="top" if high else "bottom",
            color="white" if color in DARK else "black",
            bbox={"facecolor": color, "edgecolor": "none", "pad": 1.5, "alpha": 0.9},
        )
    if not drawn:
        ax.text(width / 2, height / 2, "no entity is shown in the image", ha="center", va="center", color="#444444")
    lines = [title] if title else []
    lines += [f"not in the image: {textwrap.fill(', '.join(absent), 80)}"] if absent else []
    if annotated:
        lines.append("dashed: gold")
    ax.set_title("\n".join(lines), fontsize=9, parse_math=False)
    return figure


def _outline(ax: Axes, box: Box, color: str, dashes: str) -> None:
    left, top, right, bottom = box
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=4, ec="white"))
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2.2, ec=color, ls=dashes))
