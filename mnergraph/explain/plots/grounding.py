"""Plot of where the image shows the entities of a post."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from mnergraph.explain.plots.boxes import place_labels, show_image
from mnergraph.explain.plots.style import DARK, QUIET, axes, ellipsize, entity_label, families, type_color
from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.labels import Entity
from mnergraph.pair import Box, Pair

#: Width of the plot in inches, and font size of labels in points.
_WIDTH, _LABEL = 8.0, 9.0


def plot_grounding(
    pair: Pair, entities: Sequence[Entity] = (), *, title: str = "", ax: Axes | None = None, gold: bool = True
) -> Figure:
    """Plot a post's image with the box of each entity that a model grounds, and the gold boxes.

    Predicted boxes are solid, with the entity's words and the probability of the box; gold ones are dashed. A type has
    one color in all plots, and labels do not overlap. Entities that are not in the image are listed above it. Without
    an image the boxes are drawn alone, and the field says so; without boxes the figure says that, too.

    Args:
        pair: the post.
        entities: its entities with their regions, as `Tagger.predict` or `EVG.ground` returns them.
        title: title of the plot.
        ax: axes to draw into; by default those of a new figure.
        gold: whether to draw the gold boxes of the post.

    Returns:
        the figure.
    """
    image, note = None, "no image"
    if pair.image_path is not None:
        try:
            image = open_image(pair.image_path)
        except ImageError as error:
            note = f"the image cannot be read\n{error.issue.code}"
    width, height = image.image.size if image is not None else pair.size or (4, 3)
    figure, ax = axes(ax, (_WIDTH, max(2.5, min(12.0, _WIDTH * height / width + 1))))

    def placed(box: Box) -> Box:
        return box if image is None else image.boxes([box], pair.size)[0]

    annotated = pair.grounding or () if gold else ()
    grounded = [entity for entity in entities if entity.region is not None]
    absent = [entity for entity in grounded if entity.region is not None and entity.region.box is None]
    drawn = any(known.boxes for known in annotated) or len(absent) < len(grounded)
    show_image(ax, None if image is None else image.image, (width, height), "" if drawn else note)
    for known in annotated:
        for box in map(placed, known.boxes):
            _outline(ax, box, type_color(known.type), "--")
    labels: list[tuple[Box, str]] = []
    colors = []
    for entity in grounded:
        assert entity.region is not None
        if entity.region.box is None:
            continue
        box, color = placed(entity.region.box), type_color(entity.type)
        _outline(ax, box, color, "-")
        words = ellipsize(" ".join(pair.words[entity.start : entity.end]), 28)
        labels.append((box, f"{words} {entity.type} {entity.region.score:.2f}"))
        colors.append(color)
    shown_width = _WIDTH * min(1.0, (figure.get_size_inches()[1] - 0.8) * width / (height * _WIDTH))
    for place, (_, text), color in zip(
        place_labels(labels, (width, height), shown_width, _LABEL), labels, colors, strict=True
    ):
        left, top, right, bottom = place
        ax.add_patch(Rectangle((left, top), right - left, bottom - top, facecolor=color, edgecolor="white", zorder=4))
        ax.text(
            (left + right) / 2,
            (top + bottom) / 2,
            text,
            fontsize=_LABEL,
            ha="center",
            va="center",
            color="white" if color in DARK else "black",
            parse_math=False,
            fontfamily=families(),
            zorder=5,
        )
    if not drawn:
        ax.text(width / 2, 0.9 * height, "no entity is shown in the image", ha="center", va="center", color=QUIET)
    lines = [title] if title else []
    if absent:
        listed = ", ".join(
            f"{entity_label(entity, pair.words)} {entity.region.score:.2f}" for entity in absent if entity.region
        )
        lines.append(f"not in the image: {textwrap.fill(listed, 80)}")
    if annotated:
        lines.append("dashed: gold")
    ax.set_title("\n".join(lines), fontsize=9, parse_math=False, fontfamily=families())
    return figure


def _outline(ax: Axes, box: Box, color: str, dashes: str) -> None:
    left, top, right, bottom = box
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=4, ec="white"))
    ax.add_patch(Rectangle((left, top), right - left, bottom - top, fill=False, lw=2.2, ec=color, ls=dashes))
