"""Layers and heads side by side."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle

from mnergraph.explain.plots.style import (
    SCALE,
    axes,
    ellipsize,
    entity_label,
    families,
    label_ticks,
    names_of,
    panels,
)
from mnergraph.explain.record import EdgeWeights, PairRecord
from mnergraph.features.vision.image_io import open_image
from mnergraph.graph.collate import EdgeType
from mnergraph.labels import Entity


def plot_attention_heads(
    record: PairRecord, relation: EdgeType, *, layer: str | None = None, ax: Axes | None = None
) -> Figure:
    """Layers and heads side by side along one relation: a row for each layer, a panel for each head.

    In a panel rows are receivers and columns senders; all panels share one scale. Gates are one head.

    Args:
        record: what was weighed in the post.
        relation: which relation.
        layer: the one layer to draw; by default all that weigh it.
        ax: axes to draw into; a new figure without.

    Raises:
        KeyError: when nothing was weighed along the relation.
    """
    found = record.select(relation, layer=layer)
    columns = max(one.weights.shape[1] for one in found)
    senders, receivers = (_node_names(record, relation[side]) for side in (0, 2))
    side = min(3.2, max(1.5, 0.13 * max(len(senders), len(receivers))))
    figure, ax = axes(ax, (1.9 + columns * side, 1.4 + len(found) * (side + 0.3)))
    every = panels(ax, len(found), columns, gap=0.14)
    most = max((float(one.weights.max()) for one in found if one.weights.numel()), default=1.0)
    image = None
    for row, one in zip(every, found, strict=True):
        for head, panel in enumerate(row):
            if head >= one.weights.shape[1]:
                panel.set_axis_off()
                continue
            image = _panel(panel, one, head, most)
            names = (senders if row is every[-1] else [], receivers if head == 0 else [])
            for axis, written in zip("xy", names, strict=True):
                label_ticks(panel, axis, written, most=14, at_most=int(side / 0.12))
    if image is not None:
        figure.colorbar(image, ax=ax, label=found[0].what, shrink=0.8, pad=0.02)
    return figure


def _panel(panel: Axes, one: EdgeWeights, head: int, most: float) -> AxesImage:
    panel.set_title(f"layer {one.layer}, head {head}", fontsize=8)
    return panel.imshow(one.matrix()[head].numpy(), cmap=SCALE, vmin=0, vmax=most, aspect="auto")


def _node_names(record: PairRecord, kind: str) -> list[str]:
    pair = record.pair
    if kind == "token":
        return [pair.words[word] if word >= 0 else "–" for word in record.word.tolist()]
    if kind == "object":
        return names_of(pair.objects)
    if kind == "entity":
        return [" ".join(pair.words[slice(*span)]) for span in record.spans()]
    return [f"{kind} {place}" for place in range(record.nodes[kind])]


def plot_entity_object_attention(record: PairRecord, entities: Sequence[Entity], *, ax: Axes | None = None) -> Figure:
    """What each entity heard of each object: a heat map, entities by objects (GEI, figure 4).

    A cell is the mean over layers, heads and the entity's words (`PairRecord.heard`), printed where there is
    room.

    Args:
        record: what was weighed in the post.
        entities: those that the model found, or others.
        ax: axes to draw into; a new figure without.

    Raises:
        ValueError: when the post has no object, there is no entity, or nothing weighed what words hear.
    """
    names = names_of(record.pair.objects)
    rows = np.stack([_heard(record, entity, "object") for entity in _some(entities)])
    figure, ax = axes(ax, (2.6 + max(3.0, 0.34 * len(names)), 1.9 + 0.36 * len(rows)))
    image = ax.imshow(rows, cmap=SCALE, aspect="auto")
    label_ticks(ax, "x", names)
    label_ticks(ax, "y", [entity_label(entity, record.pair.words) for entity in entities], most=48)
    if len(names) <= 12:
        middle = rows.min() + 0.55 * (rows.max() - rows.min())
        for row, column in np.ndindex(*rows.shape):
            value = rows[row, column]
            colour = "black" if value > middle else "white"
            ax.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=8, color=colour)
    figure.colorbar(image, ax=ax, label="weight", pad=0.02)
    return figure


def plot_image_attention(record: PairRecord, entities: Sequence[Entity], *, ax: Axes | None = None) -> Figure:
    """The picture with its boxes, and for every entity a panel with what it heard as a layer of heat.

    Heat lies on the boxes, or on the cells of a grid where the model reads the picture's regions; a panel's
    colours go from the least to the most that was heard there. The box heard most is drawn thickest, with
    its label and weight.

    Args:
        record: what was weighed in the post, which has a picture.
        entities: those that the model found, or others; without any the boxes alone are drawn.
        ax: axes to draw into; a new figure without.

    Raises:
        ValueError: when the post has no picture.
        ImageError: when it can't be read.
    """
    pair = record.pair
    if pair.image_path is None:
        raise ValueError(f"post {pair.id!r} has no picture to draw")
    picture = open_image(pair.image_path)
    places = [place for place, thing in enumerate(pair.objects) if thing.box is not None]
    boxes = picture.boxes([box for thing in pair.objects if (box := thing.box) is not None], pair.size)
    shown: list[Entity | None] = [None, *entities]
    columns = min(3, len(shown))
    rows = ceil(len(shown) / columns)
    height = 3.4 * picture.image.height / picture.image.width
    figure, ax = axes(ax, (3.4 * columns + 0.4, (min(height, 6.0) + 0.35) * rows))
    every = [one for row in panels(ax, rows, columns, gap=0.1) for one in row]
    pixels = np.asarray(picture.image)
    for panel, entity in zip(every, shown, strict=False):
        panel.imshow(pixels)
        panel.set(xticks=[], yticks=[])
        title = "boxes" if entity is None else entity_label(entity, pair.words)
        panel.set_title(title, fontsize=9, parse_math=False, fontfamily=families())
        heat = np.zeros(pixels.shape[:2])
        shares = np.zeros(len(boxes))
        if entity is not None:
            heard = record.attention_to((entity.start, entity.end), "object")
            if heard is not None and len(boxes):
                shares = heard.numpy()[places]
            heat = _heat(record, entity, shares, boxes, pixels.shape[:2])
            told = heat[heat > 0]
            if told.size:
                share = (heat - told.min()) / max(told.max() - told.min(), 1e-9)
                alpha = np.where(heat > 0, 0.25 + 0.4 * share, 0)
                panel.imshow(heat, cmap=SCALE, vmin=told.min(), vmax=told.max(), alpha=alpha)
        best = int(shares.argmax()) if shares.any() else -1
        for number, (place, box) in enumerate(zip(places, boxes, strict=True)):
            _box(panel, box, number == best)
            if entity is None or number == best:
                label = ellipsize(pair.objects[place].label or f"object {place}", 16)
                text = label if entity is None else f"{label} {shares[number]:.2f}"
                _tag(panel, box, text, small=len(boxes) > 10 and entity is None)
    for panel in every[len(shown) :]:
        panel.set_axis_off()
    return figure


def _some(entities: Sequence[Entity]) -> Sequence[Entity]:
    if not entities:
        raise ValueError("there is no entity to draw; the model found none, so give spans of your own")
    return entities


def _heard(record: PairRecord, entity: Entity, kind: str) -> np.ndarray:
    heard = record.attention_to((entity.start, entity.end), kind)
    if heard is None or not len(heard):
        raise ValueError(f"nothing was weighed between the words of {entity} and nodes of type {kind!r}")
    return heard.numpy()


def _heat(
    record: PairRecord,
    entity: Entity,
    shares: np.ndarray,
    boxes: Sequence[tuple[float, float, float, float]],
    shape: tuple[int, ...],
) -> np.ndarray:
    """For every pixel the most that was heard of a box or cell over it, ``[height, width]``."""
    heat = np.zeros(shape)
    height, width = shape
    for share, (left, top, right, bottom) in zip(shares, boxes, strict=True):
        inside = (slice(max(0, int(top)), ceil(bottom)), slice(max(0, int(left)), ceil(right)))
        heat[inside] = np.maximum(heat[inside], share)
    grid = record.attention_to((entity.start, entity.end), "image") if record.nodes.get("image", 0) > 1 else None
    if grid is not None and (side := round(len(grid) ** 0.5)) ** 2 == len(grid):
        rows, columns = np.arange(height) * side // height, np.arange(width) * side // width
        heat = np.maximum(heat, grid.numpy().reshape(side, side)[rows][:, columns])
    return heat


def _box(panel: Axes, box: tuple[float, float, float, float], most: bool) -> None:
    left, top, right, bottom = box
    for colour, wide in (("black", 3.4 if most else 2.0), ("white", 1.6 if most else 0.8)):
        panel.add_patch(
            Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=colour, linewidth=wide)
        )


def _tag(panel: Axes, box: tuple[float, float, float, float], text: str, *, small: bool) -> None:
    ground = {"facecolor": "white", "edgecolor": "black", "pad": 1, "linewidth": 0.5, "alpha": 0.85}
    panel.text(
        box[0],
        box[1],
        text,
        fontsize=5 if small else 7,
        va="top",
        bbox=ground,
        parse_math=False,
        fontfamily=families(),
        clip_on=True,
    )
