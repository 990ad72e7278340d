"""A schema as a picture: its node types, and the relations among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from mnergraph.explain.plots.style import COLOURS, DASHES, axes, ellipsize, families, styles, text_width
from mnergraph.graph.edge_rules import EdgeRule
from mnergraph.graph.schema import Relation, Schema

#: What no path leads from to the tags.
UNREACHABLE = "#a0a0a0"


#: A letter's size in inches.
_LETTER = 9 / 72


#: How far arrows from the same node to the same one bend, as shares of their length.
_LEAST, _MOST = 0.15, 0.6


def plot_schema(schema: Schema, *, ax: Axes | None = None) -> Figure:
    """Node types in a ring, the tagged one in bold; an arrow for every relation leads to who hears.

    An arrow has its relation's name on it, and the colour and dashes of its kind; relations within a node
    type are named in its box. A type without relations has a dashed frame. What cannot reach the tags by any
    path is grey.

    Args:
        schema: the schema, a model's ``schema`` for instance.
        ax: axes to draw into; a new figure without.
    """
    unreachable = {relation.key for relation in schema.unreachable_relations(len(schema.nodes))}
    between = [relation for relation in schema if relation.src != relation.dst]
    texts = {kind: _box(schema, kind, unreachable) for kind in schema.nodes}
    places = nx.circular_layout(schema.nodes)
    arcs = _bows(between)
    middles = {relation.key: _middle(relation, places, arcs[relation.key]) for relation in between}
    half = max(text_width(line) for text in texts.values() for line in text.split("\n")) * _LETTER / 2 + 0.2
    inches = _inches(len(schema.nodes), half, between)
    points = [*places.values(), *middles.values()]
    wide, high = (max(abs(float(point[axis])) for point in points) for axis in (0, 1))
    reach = wide + half / inches, high + 0.5 / inches
    figure, ax = axes(ax, (2 * reach[0] * inches + 0.2, 2 * reach[1] * inches + 0.7))
    plain: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "ha": "center", "va": "center"}
    boxes: dict[str, Text] = {}
    spoken = {kind for relation in schema for kind in (relation.src, relation.dst)}
    for kind, (x, y) in places.items():
        bold = "bold" if kind == schema.tags else "normal"
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
        frame["linestyle"] = "-" if kind in spoken else "--"
        boxes[kind] = ax.text(x, y, texts[kind], **plain, fontsize=9, weight=bold, bbox=frame, zorder=1)
    looks = styles(_kind(relation.rule) for relation in schema)
    for relation in between:
        kind = _kind(relation.rule)
        grey = relation.key in unreachable
        # drawn after the boxes, whose size is known by then
        ax.add_patch(
            FancyArrowPatch(
                places[relation.src],
                places[relation.dst],
                connectionstyle=f"arc3,rad={arcs[relation.key]}",
                patchA=boxes[relation.src].get_bbox_patch(),
                patchB=boxes[relation.dst].get_bbox_patch(),
                arrowstyle="-|>",
                mutation_scale=12,
                color=UNREACHABLE if grey else COLOURS[looks[kind]],
                linestyle="-" if grey else DASHES[looks[kind]],
                linewidth=1.4,
                clip_on=False,
                zorder=2,
            )
        )
        name = ellipsize(relation.name)
        text = name if len(looks) <= len(COLOURS) else f"{name}\n{ellipsize(kind)}"
        ground = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*middles[relation.key], text, **plain, fontsize=8, bbox=ground, zorder=3)
    told = _legend([relation for relation in between if relation.key not in unreachable], looks)
    if any(relation.key in unreachable for relation in between):
        told.append(Line2D([], [], color=UNREACHABLE, label="cannot reach the tags"))
    if told:
        columns = max(1, int(2 * reach[0] * inches / 2))
        ax.legend(handles=told, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False)
    ax.set_axis_off()
    ax.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
    return figure


def _inches(nodes: int, half: float, between: list[Relation]) -> float:
    """Inches from the ring's centre to a node: boxes keep apart, and so do arrows side by side."""
    crowd = max(Counter((relation.src, relation.dst) for relation in between).values(), default=1)
    named = max((text_width(ellipsize(relation.name)) for relation in between), default=0) * _LETTER / 2
    apart = half + named + 0.3 if nodes == 2 else 1.1 + 0.25 * nodes
    return max(apart, 0.4 * crowd)


def _box(schema: Schema, kind: str, unreachable: set[tuple[str, str, str]]) -> str:
    """A node type and the relations within it."""
    lines = [ellipsize(kind)]
    for relation in schema:
        if relation.src == relation.dst == kind:
            note = ", not heard" if relation.key in unreachable else ""
            lines.append(f"↻ {ellipsize(relation.name)} ({ellipsize(_kind(relation.rule))}{note})")
    return "\n".join(lines)


def _kind(kind: EdgeRule) -> str:
    """A kind of relation with its settings, as it is written in Python."""
    settings = ", ".join(f"{value!r}" for value in asdict(kind).values())
    return f"{type(kind).__name__}({settings})" if settings else type(kind).__name__


def _bows(between: list[Relation]) -> dict[tuple[str, str, str], float]:
    """How far each arrow bends, so that those from the same node to the same one lie apart."""
    counts = Counter((relation.src, relation.dst) for relation in between)
    step = {ends: min(0.25, (_MOST - _LEAST) / max(1, count - 1)) for ends, count in counts.items()}
    met: Counter[tuple[str, str]] = Counter()
    bows = {}
    for relation in between:
        ends = relation.src, relation.dst
        bows[relation.key] = _LEAST + step[ends] * met[ends]
        met[ends] += 1
    return bows


def _middle(relation: Relation, places: Any, bow: float) -> tuple[float, float]:
    """The middle of an arrow's arc, a parabola."""
    (x1, y1), (x2, y2) = places[relation.src], places[relation.dst]
    return (x1 + x2) / 2 + bow * (y2 - y1) / 2, (y1 + y2) / 2 - bow * (x2 - x1) / 2


def _legend(relations: list[Relation], looks: dict[str, int]) -> list[Line2D]:
    """A line for every kind of these relations."""
    kinds = sorted({_kind(relation.rule) for relation in relations})
    if len(looks) > len(COLOURS):  # then arrows say it themselves
        return []
    return [
        Line2D([], [], color=COLOURS[looks[kind]], linestyle=DASHES[looks[kind]], label=ellipsize(kind))
        for kind in kinds
    ]
