"""A schema as a picture: its node types, and the relations among them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch

from mnergraph.graph import Schema
from mnergraph.pictures.style import COLOURS, DASHES, axes, families, legible, styles

#: What cannot reach the tags is drawn in this grey.
DEAF = "#a0a0a0"


def draw_schema(schema: Schema, *, ax: Axes | None = None) -> Figure:
    """Node types in a ring, the tagged one in bold; an arrow for every relation leads to who hears.

    An arrow has its relation's name on it, and the colour and dashes of its kind; relations within a node
    type are named in its box. What cannot reach the tags is grey.

    Args:
        schema: the schema, a model's ``schema`` for instance.
        ax: axes to draw into; a new figure without.
    """
    around = len(schema.nodes)
    size = 1.6 + 0.9 * around
    figure, ax = axes(ax, (size + 2, max(2.2, size if around > 2 else 0)))
    deaf = {relation.key for relation in schema.idle(around)}
    within: dict[str, list[str]] = {kind: [] for kind in schema.nodes}
    for relation in schema:
        if relation.src == relation.dst:
            note = ", not heard" if relation.key in deaf else ""
            within[relation.src].append(f"↻ {relation.name} ({type(relation.kind).__name__}{note})")
    places, boxes = nx.circular_layout(within), {}
    plain: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "ha": "center", "va": "center"}
    for kind, (x, y) in places.items():
        text = "\n".join(legible(line, 40) for line in (kind, *within[kind]))
        bold = "bold" if kind == schema.tags else "normal"
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
        boxes[kind] = ax.text(x, y, text, **plain, fontsize=9, weight=bold, bbox=frame, zorder=1)
    looks = styles(type(relation.kind).__name__ for relation in schema)
    between = {type(relation.kind).__name__ for relation in schema if relation.src != relation.dst}
    met: Counter[tuple[str, str]] = Counter()
    for relation in schema:
        ends = relation.src, relation.dst
        if relation.src == relation.dst:
            continue
        look = looks[type(relation.kind).__name__]
        colour = DEAF if relation.key in deaf else COLOURS[look]
        bow = 0.15 + 0.25 * met[ends]
        met[ends] += 1
        (x1, y1), (x2, y2) = places[relation.src], places[relation.dst]
        # drawn after the boxes, whose size is known by then
        ax.add_patch(
            FancyArrowPatch(
                (x1, y1),
                (x2, y2),
                connectionstyle=f"arc3,rad={bow}",
                patchA=boxes[relation.src].get_bbox_patch(),
                patchB=boxes[relation.dst].get_bbox_patch(),
                arrowstyle="-|>",
                mutation_scale=12,
                color=colour,
                linestyle=DASHES[look],
                linewidth=1.4,
                zorder=2,
            )
        )
        # the middle of the arc, a parabola
        at = (x1 + x2) / 2 + bow * (y2 - y1) / 2, (y1 + y2) / 2 - bow * (x2 - x1) / 2
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*at, legible(relation.name), **plain, fontsize=8, bbox=ground, zorder=3)
    told = [
        Line2D([], [], color=COLOURS[look], linestyle=DASHES[look], label=kind)
        for kind, look in looks.items()
        if kind in between
    ]
    if any(relation.key in deaf for relation in schema if relation.src != relation.dst):
        told.append(Line2D([], [], color=DEAF, label="cannot reach the tags"))
    if told:
        ax.legend(handles=told, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=3, frameon=False)
    ax.set_axis_off()
    ax.set(xlim=(-1.5, 1.5), ylim=(-1.3, 1.3) if around > 2 else (-0.45, 0.45), aspect="equal")
    return figure
