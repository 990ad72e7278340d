"""Plots of recorded attention: layers and heads, entities by nodes, and heat on the image."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from mnergraph.explain.plots.style import (
    COLORMAP,
    axes,
    ellipsize,
    entity_label,
    families,
    label_ticks,
    panels,
)
from mnergraph.explain.record import EdgeWeights, PairRecord
from mnergraph.features.vision.image_io import open_image
from mnergraph.graph.collate import EdgeType
from mnergraph.labels import Entity


def plot_attention_heads(
    record: PairRecord, relation: EdgeType, *, layer: str | None = None, ax: Axes | None = None
) -> Figure:
    """Plot the weights along one relation: a row for each layer, a panel for each head.

    In a panel rows are target nodes and columns source nodes; all panels share one scale. Gates are one head.

    Args:
        record: the post's record.
        relation: the edge type.
        layer: the layer to draw; by default all with weights along the relation.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        KeyError: when there are no weights along the relation.
    """
    layers = record.select(relation, layer=layer)
    columns = max(entry.weights.shape[1] for entry in layers)
    sources, targets = record.node_names(relation[0]), record.node_names(relation[2])
    side = min(3.2, max(1.5, 0.13 * max(len(sources), len(targets))))
    figure, ax = axes(ax, (1.9 + columns * side, 1.4 + len(layers) * (side + 0.3)))
    grid = panels(ax, len(layers), columns, gap=0.14)
    highest = max((float(entry.weights.max()) for entry in layers if entry.weights.numel()), default=1.0)
    image = None
    for row, entry in zip(grid, layers, strict=True):
        for head, panel in enumerate(row):
            if head >= entry.weights.shape[1]:
                panel.set_axis_off()
                continue
            image = _draw_head(panel, entry, head, highest)
            names = (sources if row is grid[-1] else [], targets if head == 0 else [])
            for axis, labels in zip("xy", names, strict=True):
                label_ticks(panel, axis, labels, max_length=14, max_ticks=int(side / 0.12))
    if image is not None:
        figure.colorbar(image, ax=ax, label=layers[0].what, shrink=0.8, pad=0.02)
    return figure


def _draw_head(panel: Axes, entry: EdgeWeights, head: int, highest: float) -> AxesImage:
    panel.set_title(f"layer {entry.layer}, head {head}", fontsize=8)
    return panel.imshow(entry.matrix()[head].numpy(), cmap=COLORMAP, vmin=0, vmax=highest, aspect="auto")


def plot_entity_object_attention(
    record: PairRecord, entities: Sequence[Entity], *, node_type: str = "object", ax: Axes | None = None
) -> Figure:
    """Plot the attention of each entity to each object as a heat map, entities by objects (GEI, figure 4).

    A cell is the mean over layers, heads and the entity's words (`PairRecord.attention_to`), printed where there is
    space.

    Args:
        record: the post's record.
        entities: the predicted entities, or other spans.
        node_type: the columns; by default objects, or another node type, such as one of your own.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        ValueError: when the post has no such nodes, there is no entity, or no weights to these nodes are recorded.
    """
    if not entities:
        raise ValueError("there is no entity to draw: the model predicted none, so give other spans")
    rows = np.stack([_attention(record, entity, node_type) for entity in entities])
    names = record.node_names(node_type)
    figure, ax = axes(ax, (2.6 + max(3.0, 0.34 * len(names)), 1.9 + 0.36 * len(rows)))
    image = ax.imshow(rows, cmap=COLORMAP, aspect="auto")
    label_ticks(ax, "x", names)
    label_ticks(ax, "y", [entity_label(entity, record.pair.words) for entity in entities], max_length=48)
    if len(names) <= 12:
        middle = rows.min() + 0.55 * (rows.max() - rows.min())
        for row, column in np.ndindex(*rows.shape):
            value = rows[row, column]
            color = "black" if value > middle else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    figure.colorbar(image, ax=ax, label="weight", pad=0.02)
    return figure


def plot_image_attention(record: PairRecord, entities: Sequence[Entity], *, ax: Axes | None = None) -> Figure:
    """Plot the image with its boxes, and for every entity a panel with its attention as heat on the image.

    Heat is on the boxes, or on the cells of a grid where the model reads the image's regions; the colors of a panel
    go from its lowest to its highest value. The box with the highest attention is drawn thickest, with its label
    and weight.

    Args:
        record: the post's record; the post has an image.
        entities: the predicted entities, or other spans; without any only the boxes are drawn.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        ValueError: when the post has no image.
        ImageError: when the image cannot be read.
    """
    pair = record.pair
    if pair.image_path is None:
        raise ValueError(f"post {pair.id!r} has no image to draw")
    image = open_image(pair.image_path)
    indices = [index for index, item in enumerate(pair.objects) if item.box is not None]
    boxes = image.boxes([box for item in pair.objects if (box := item.box) is not None], pair.size)
    shown: list[Entity | None] = [None, *entities]
    columns = min(3, len(shown))
    rows = ceil(len(shown) / columns)
    height = 3.4 * image.image.height / image.image.width
    figure, ax = axes(ax, (3.4 * columns + 0.4, (min(height, 6.0) + 0.35) * rows))
    grid = [panel for row in panels(ax, rows, columns, gap=0.1) for panel in row]
    pixels = np.asarray(image.image)
    for panel, entity in zip(grid, shown, strict=False):
        panel.imshow(pixels)
        panel.set(xticks=[], yticks=[])
        title = "boxes" if entity is None else entity_label(entity, pair.words)
        panel.set_title(title, fontsize=9, parse_math=False, fontfamily=families())
        heat = np.zeros(pixels.shape[:2])
        weights = np.zeros(len(boxes))
        if entity is not None:
            attention = record.attention_to((entity.start, entity.end), "object")
            if attention is not None and len(boxes):
                weights = attention.numpy()[indices]
            heat = _heat(record, entity, weights, boxes, pixels.shape[:2])
            positive = heat[heat > 0]
            if positive.size:
                low, high = positive.min(), positive.max()
                share = (heat - low) / max(high - low, 1e-9)
                alpha = np.where(heat > 0, 0.25 + 0.4 * share, 0)
                panel.imshow(heat, cmap=COLORMAP, vmin=low, vmax=high, alpha=alpha)
        best = int(weights.argmax()) if weights.any() else -1
        for number, (index, box) in enumerate(zip(indices, boxes, strict=True)):
            _draw_box(panel, box, thick=number == best)
            if entity is None or number == best:
                label = ellipsize(pair.objects[index].label or f"object {index}", 16)
                text = label if entity is None else f"{label} {weights[number]:.2f}"
                _draw_label(panel, box, text, small=len(boxes) > 10 and entity is None)
    for panel in grid[len(shown) :]:
        panel.set_axis_off()
    return figure


def _attention(record: PairRecord, entity: Entity, node_type: str) -> np.ndarray:
    attention = record.attention_to((entity.start, entity.end), node_type)
    if attention is None or not len(attention):
        raise ValueError(f"no weights are recorded between the words of {entity} and nodes of type {node_type!r}")
    return attention.numpy()


def _heat(
    record: PairRecord,
    entity: Entity,
    weights: np.ndarray,
    boxes: Sequence[tuple[float, float, float, float]],
    shape: tuple[int, ...],
) -> np.ndarray:
    """For every pixel the highest attention to a box or cell that contains it, ``[height, width]``."""
    heat = np.zeros(shape)
    height, width = shape
    for weight, (left, top, right, bottom) in zip(weights, boxes, strict=True):
        inside = (slice(max(0, int(top)), ceil(bottom)), slice(max(0, int(left)), ceil(right)))
        heat[inside] = np.maximum(heat[inside], weight)
    cells = record.attention_to((entity.start, entity.end), "image") if record.nodes.get("image", 0) > 1 else None
    if cells is not None and (side := round(len(cells) ** 0.5)) ** 2 == len(cells):
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        heat = np.maximum(heat, cells.numpy().reshape(side, side)[rows][:, columns])
    return heat


def _draw_box(panel: Axes, box: tuple[float, float, float, float], *, thick: bool) -> None:
    left, top, right, bottom = box
    for color, linewidth in (("black", 3.4 if thick else 2.0), ("white", 1.6 if thick else 0.8)):
        panel.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=color, linewidth=linewidth)
        )


def _draw_label(panel: Axes, box: tuple[float, float, float, float], text: str, *, small: bool) -> None:
    background = {"facecolor": "white", "edgecolor": "black", "pad": 1, "linewidth": 0.5, "alpha": 0.85}
    panel.text(
        box[0],
        box[1],
        text,
        fontsize=5 if small else 7,
        va="top",
        bbox=background,
        parse_math=False,
        fontfamily=families(),
        clip_on=True,
    )
