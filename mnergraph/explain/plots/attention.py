"""Plots of recorded attention: layers and heads, entities by nodes, and heat on the image."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mnergraph.explain.plots.boxes import LINE, ListRow, NumberedBox, draw_boxes, draw_list, show_image
from mnergraph.explain.plots.style import (
    COLORMAP,
    QUIET,
    axes,
    empty_state,
    entity_label,
    families,
    label_ticks,
    panels,
    weight_text,
)
from mnergraph.explain.record import EdgeWeights, PairRecord
from mnergraph.features.vision.image_io import ImageError, LoadedImage, open_image
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.node_types import DEFAULT_NODE_TYPES
from mnergraph.labels import Entity
from mnergraph.pair import Box


def plot_attention_heads(
    record: PairRecord, relation: EdgeType, *, layer: str | None = None, ax: Axes | None = None
) -> Figure:
    """Plot the weights along one relation: a row for each layer, a panel for each head.

    In a panel rows are target nodes and columns source nodes; all panels share one scale, from 0 to the highest
    weight. Gates are one head. A post without such nodes has an empty figure that says so.

    Args:
        record: the post's record.
        relation: the edge type.
        layer: the layer to draw; by default all with weights along the relation.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        KeyError: when the model computes no weights along the relation.
    """
    for node_type in (relation[0], relation[2]):
        if record.nodes.get(node_type) == 0:
            return empty_state(ax, f"{_post(record)} has no {node_type} nodes")
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
    record: PairRecord,
    entities: Sequence[Entity],
    *,
    node_type: str = "object",
    max_nodes: int = 16,
    ax: Axes | None = None,
) -> Figure:
    """Plot the attention of each entity to each object as a heat map, entities by objects (GEI, figure 4).

    A cell is the mean over layers, heads and the entity's words (`PairRecord.attention_to`), with its number; colors
    go from 0 to the highest weight. A row without recorded weights is grey. Without any entity, node or weight the
    figure is empty and says why.

    Args:
        record: the post's record.
        entities: the predicted entities, or other spans.
        node_type: the columns; by default objects, or another node type, such as one of your own.
        max_nodes: number of columns; of more nodes those of the highest weights are drawn, in their order, and the
            figure says how many there are.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        ValueError: for a node type that neither the record nor this package has.
    """
    if node_type not in record.nodes and node_type not in DEFAULT_NODE_TYPES:
        raise ValueError(f"the record has no node type {node_type!r}, only {', '.join(sorted(record.nodes))}")
    if not entities:
        return empty_state(ax, f"{_post(record)} has no predicted entity; other spans may be given")
    count = record.nodes.get(node_type, 0)
    if not count:
        return empty_state(ax, f"{_post(record)} has no {node_type} nodes")
    rows = np.full((len(entities), count), np.nan)
    for row, entity in zip(rows, entities, strict=True):
        attention = record.attention_to((entity.start, entity.end), node_type)
        if attention is not None and len(attention):
            row[:] = attention.numpy()
    if np.isnan(rows).all():
        return empty_state(ax, f"no weights from {node_type} nodes to the entities of {_post(record)} are recorded")
    strongest = np.argsort(-np.nanmax(rows, axis=0), kind="stable")[:max_nodes]
    kept = np.sort(strongest)
    names = record.node_names(node_type)
    rows = rows[:, kept]
    figure, ax = axes(ax, (2.6 + max(3.0, 0.42 * len(kept)), 1.9 + 0.36 * len(rows)))
    colors = matplotlib.colormaps[COLORMAP].with_extremes(bad="#d8d8d8")
    highest = float(np.nanmax(rows))
    image = ax.imshow(rows, cmap=colors, vmin=0, vmax=highest or 1.0, aspect="auto")
    label_ticks(ax, "x", [names[index] for index in kept])
    label_ticks(ax, "y", [entity_label(entity, record.pair.words) for entity in entities], max_length=48)
    for row, column in np.ndindex(*rows.shape):
        value = rows[row, column]
        if np.isnan(value):
            continue
        color = "black" if value > 0.55 * highest else "white"
        ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=color)
    for empty in np.flatnonzero(np.isnan(rows).all(axis=1)).tolist():
        ax.text((len(kept) - 1) / 2, empty, "no weights", ha="center", va="center", fontsize=8, color=QUIET)
    if left_out := count - len(kept):
        note = f"{left_out} of {count} {node_type} nodes with lower weights left out"
        ax.set_title(note, fontsize=8, color=QUIET, loc="left", parse_math=False)
    figure.colorbar(image, ax=ax, label="weight", pad=0.02)
    return figure


#: Width of the image and of its list, their distance, and height of the title above them, in inches.
_IMAGE, _LIST, _GAP, _TITLE = 3.3, 2.3, 0.12, 0.34


class _Cells(NamedTuple):
    """A grid of images with a list each, in inches.

    Attributes:
        columns: number of columns.
        rows: number of rows.
        width: width of a cell.
        height: height of a cell.
        image: left, bottom, width and height of the image in a cell.
        list: the same of the list.
    """

    columns: int
    rows: int
    width: float
    height: float
    image: tuple[float, float, float, float]
    list: tuple[float, float, float, float]

    @classmethod
    def of(cls, count: int, size: tuple[float, float], list_height: float) -> _Cells:
        """Return the grid of so many images: three side by side with lists below, others two by two, lists beside.

        Args:
            count: number of images.
            size: width and height of the image.
            list_height: height of the longest list.
        """
        high = min(5.0, max(1.3, _IMAGE * size[1] / size[0]))
        if count == 3:
            wide = min(_IMAGE, high * size[0] / size[1])
            whole = max(wide, _LIST)
            image, below = (0.0, list_height + _GAP, wide, high), (0.0, 0.0, whole, list_height)
            return cls(3, 1, whole + 3 * _GAP, high + _GAP + list_height + _TITLE, image, below)
        high = max(high, list_height)
        wide = min(_IMAGE, high * size[0] / size[1])
        columns = min(2, count)
        beside = (wide + _GAP, 0.0, _LIST, high)
        whole = wide + _GAP + _LIST + 3 * _GAP
        return cls(columns, ceil(count / columns), whole, high + _TITLE, (0.0, 0.0, wide, high), beside)

    def place(self, number: int, part: tuple[float, float, float, float]) -> tuple[float, float, float, float]:
        """Return image or list of a cell as shares of the whole grid, for ``inset_axes``."""
        row, column = divmod(number, self.columns)
        across, up = 1 / (self.columns * self.width), 1 / (self.rows * self.height)
        left, bottom, width, height = part
        return (
            column / self.columns + left * across,
            1 - (row + 1) / self.rows + bottom * up,
            width * across,
            height * up,
        )


def plot_image_attention(
    record: PairRecord, entities: Sequence[Entity], *, top_k: int = 5, ax: Axes | None = None
) -> Figure:
    """Plot the image with boxes and their indices, and for every entity a panel with its attention as heat on it.

    Heat is on the boxes, or on the cells of a grid where the model reads the image's regions. All panels have one
    scale, from 0 to the highest weight of the post. Beside each image, or below it where there are three, is the list
    of its boxes; an entity's panel has the boxes of its highest weights, the highest first, with a bar from 0.

    Posts without an image, or whose image cannot be read, have a field that says so in its place, and the same lists;
    those without objects, too, have an empty figure that says so.

    Args:
        record: the post's record.
        entities: the predicted entities, or other spans; without any only the boxes are drawn.
        top_k: number of boxes or cells in an entity's panel. The first panel has those of all entities.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.
    """
    pair = record.pair
    opened, note = _opened(record)
    if opened is None:
        size, boxes = pair.size or (4, 3), [item.box for item in pair.objects]
    else:
        size = opened.image.size
        boxes = [None if item.box is None else opened.boxes([item.box], pair.size)[0] for item in pair.objects]
    attention = [_entity_attention(record, entity, boxes) for entity in entities]
    highest = max((float(weights.max()) for weights in attention if len(weights)), default=0.0)
    chosen = [[int(index) for index in np.argsort(-weights, kind="stable")[:top_k]] for weights in attention]
    objects = len(boxes)
    if opened is None and not objects and not highest:
        return empty_state(ax, f"{_post(record)}: {' '.join(note.split())}, and no objects")
    shown = dict.fromkeys(index for of in chosen for index in of if index < objects)
    if not shown:
        by_score = sorted(range(objects), key=lambda index: -pair.objects[index].score)
        shown = dict.fromkeys(by_score[: max(20, top_k)])
    lists = [_first_list(record, sorted(shown))]
    lists += [_entity_list(record, weights, of, highest) for weights, of in zip(attention, chosen, strict=True)]
    cells = _Cells.of(len(lists), size, LINE * max(len(of) + len(notes) for of, notes in lists) + 0.05)
    figure, ax = axes(ax, (cells.columns * cells.width + (0.8 if highest else 0.0), cells.rows * cells.height + 0.1))
    ax.set_axis_off()
    titles = ["boxes", *(entity_label(entity, pair.words) for entity in entities)]
    pixels = None if opened is None else np.asarray(opened.image)
    for number, (title, (of, notes)) in enumerate(zip(titles, lists, strict=True)):
        panel = ax.inset_axes(cells.place(number, cells.image))
        show_image(panel, pixels, size, note)
        panel.set_title(title, fontsize=9, parse_math=False, fontfamily=families(), loc="left")
        drawn = list(shown) if number == 0 else [index for index in chosen[number - 1] if index < objects]
        if number and highest:
            heat = _heat(attention[number - 1], boxes, record, size)
            share = heat / highest
            extent = (0, size[0], size[1], 0)
            alpha = np.where(heat > 0, 0.15 + 0.55 * share, 0)
            panel.imshow(heat, cmap=COLORMAP, vmin=0, vmax=highest, alpha=alpha, extent=extent, aspect="equal")
        numbered = [
            NumberedBox(index, box, thick=number > 0 and index == drawn[0])
            for index in drawn
            if (box := boxes[index]) is not None
        ]
        draw_boxes(panel, numbered, size, cells.image[2])
        draw_list(ax.inset_axes(cells.place(number, cells.list)), of, cells.list[2:], notes)
    if highest:
        scale = ScalarMappable(Normalize(0, highest), COLORMAP)
        figure.colorbar(
            scale, ax=ax, label="weight", pad=0.01, fraction=0.03, shrink=min(1.0, 2.2 / (cells.rows * cells.height))
        )
    return figure


def _post(record: PairRecord) -> str:
    return f"post {record.pair.id!r}" if record.pair.id else "the post"


def _opened(record: PairRecord) -> tuple[LoadedImage | None, str]:
    """The post's image, and what is said where there is none."""
    if record.pair.image_path is None:
        return None, "no image"
    try:
        return open_image(record.pair.image_path), ""
    except ImageError as error:
        return None, f"the image cannot be read\n{error.issue.code}"


def _cells(record: PairRecord) -> int:
    """The number of rows of the image's grid; 0 where there is no square grid."""
    count = record.nodes.get("image", 0)
    side = round(count**0.5)
    return side if side > 1 and side * side == count else 0


def _entity_attention(record: PairRecord, entity: Entity, boxes: Sequence[Box | None]) -> np.ndarray:
    """Weights of objects, then of the grid's cells; zeros where none are recorded."""
    span = entity.start, entity.end
    weights = np.zeros(len(boxes) + _cells(record) ** 2)
    objects = record.attention_to(span, "object")
    if objects is not None and len(objects):
        weights[: len(boxes)] = objects.numpy()
    cells = record.attention_to(span, "image") if _cells(record) else None
    if cells is not None:
        weights[len(boxes) :] = cells.numpy()
    return weights


def _first_list(record: PairRecord, shown: Sequence[int]) -> tuple[list[ListRow], list[str]]:
    """Numbers and names of the boxes, and what is left out."""
    objects = record.pair.objects
    rows = [ListRow(index, objects[index].label or "object", f"{objects[index].score:.2f}") for index in shown]
    notes = ["scores of the detector"] if rows else []
    if not objects:
        notes.append(f"image in {_cells(record)} x {_cells(record)} cells" if _cells(record) else "no objects")
    if without := sum(objects[index].box is None for index in shown):
        notes.append(f"{without} without a box")
    if left_out := len(objects) - len(shown):
        notes.append(f"{left_out} of {len(objects)} objects left out")
    return rows, notes


def _entity_list(
    record: PairRecord, weights: np.ndarray, chosen: Sequence[int], highest: float
) -> tuple[list[ListRow], list[str]]:
    """The highest weights of an entity, and how many there are."""
    if not weights.any():
        return [], ["no weights to objects or image cells"]
    objects, colors, side = record.pair.objects, matplotlib.colormaps[COLORMAP], _cells(record)
    rows = []
    for index in chosen:
        share = float(weights[index]) / highest
        cell = index - len(objects)
        name = objects[index].label or "object" if cell < 0 else f"row {cell // side}, column {cell % side}"
        number = index if cell < 0 else None
        rows.append(ListRow(number, name, weight_text(float(weights[index])), share, to_hex(colors(share))))
    left_out = len(weights) - len(rows)
    return rows, [f"{left_out} more with lower weights"] if left_out else []


def _heat(
    weights: np.ndarray, boxes: Sequence[Box | None], record: PairRecord, size: tuple[float, float]
) -> np.ndarray:
    """For every pixel the highest attention to a box or cell that contains it, ``[height, width]``."""
    width, height = (max(1, round(side)) for side in size)
    heat = np.zeros((height, width))
    for weight, box in zip(weights, boxes, strict=False):
        if box is not None:
            left, top, right, bottom = box
            inside = (slice(max(0, int(top)), max(0, ceil(bottom))), slice(max(0, int(left)), max(0, ceil(right))))
            heat[inside] = np.maximum(heat[inside], weight)
    if side := _cells(record):
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        heat = np.maximum(heat, weights[len(boxes) :].reshape(side, side)[rows][:, columns])
    return heat
