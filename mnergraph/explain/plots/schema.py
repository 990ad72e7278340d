"""Plot of a schema: its node types and relations."""

from __future__ import annotations

from collections import Counter
from dataclasses import fields
from typing import Any

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text

from mnergraph.explain.plots.style import COLORS, DASHES, axes, ellipsize, families, style_indices, text_width
from mnergraph.graph.edge_rules import EdgeRule
from mnergraph.graph.schema import Relation, Schema

#: Color of relations from which no path leads to the tags.
UNREACHABLE = "#a0a0a0"


#: Font size in inches.
_LETTER = 9 / 72


#: How far arrows between the same two nodes bend, as shares of their length.
_LEAST, _MOST = 0.15, 0.6


def plot_schema(schema: Schema, *, ax: Axes | None = None) -> Figure:
    """Plot node types in a ring, the tagged one in bold, with an arrow to the target type for every relation.

    An arrow has its relation's name on it, and the color and dashes of its edge rule; relations within a node type
    are named in its box. A type without relations has a dashed frame. Relations that cannot reach the tags are grey.

    Args:
        schema: the schema, such as a model's ``schema``.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.
    """
    unreachable = {relation.key for relation in schema.unreachable_relations(len(schema.nodes))}
    between = [relation for relation in schema if relation.src != relation.dst]
    texts = {node_type: _box_text(schema, node_type, unreachable) for node_type in schema.nodes}
    positions = nx.circular_layout(schema.nodes)
    bends = _bends(between)
    middles = {relation.key: _middle(relation, positions, bends[relation.key]) for relation in between}
    half = max(text_width(line) for text in texts.values() for line in text.split("\n")) * _LETTER / 2 + 0.2
    inches = _radius(len(schema.nodes), half, between)
    points = [*positions.values(), *middles.values()]
    wide, high = (max(abs(float(point[axis])) for point in points) for axis in (0, 1))
    reach = wide + half / inches, high + 0.5 / inches
    figure, ax = axes(ax, (2 * reach[0] * inches + 0.2, 2 * reach[1] * inches + 0.7))
    centered: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "ha": "center", "va": "center"}
    boxes: dict[str, Text] = {}
    related = {node_type for relation in schema for node_type in (relation.src, relation.dst)}
    for node_type, (x, y) in positions.items():
        bold = "bold" if node_type == schema.tags else "normal"
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
        frame["linestyle"] = "-" if node_type in related else "--"
        boxes[node_type] = ax.text(x, y, texts[node_type], **centered, fontsize=9, weight=bold, bbox=frame, zorder=1)
    looks = style_indices(_rule_name(relation.rule) for relation in schema)
    for relation in between:
        rule = _rule_name(relation.rule)
        grey = relation.key in unreachable
        # drawn after the boxes, whose sizes are needed
        ax.add_patch(
            FancyArrowPatch(
                positions[relation.src],
                positions[relation.dst],
                connectionstyle=f"arc3,rad={bends[relation.key]}",
                patchA=boxes[relation.src].get_bbox_patch(),
                patchB=boxes[relation.dst].get_bbox_patch(),
                arrowstyle="-|>",
                mutation_scale=12,
                color=UNREACHABLE if grey else COLORS[looks[rule]],
                linestyle="-" if grey else DASHES[looks[rule]],
                linewidth=1.4,
                clip_on=False,
                zorder=2,
            )
        )
        name = ellipsize(relation.name)
        text = name if len(looks) <= len(COLORS) else f"{name}\n{ellipsize(rule)}"
        background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        ax.text(*middles[relation.key], text, **centered, fontsize=8, bbox=background, zorder=3)
    handles = _legend_handles([relation for relation in between if relation.key not in unreachable], looks)
    if any(relation.key in unreachable for relation in between):
        handles.append(Line2D([], [], color=UNREACHABLE, label="cannot reach the tags"))
    if handles:
        columns = max(1, int(2 * reach[0] * inches / 2))
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False)
    ax.set_axis_off()
    ax.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
    return figure


def _radius(nodes: int, half: float, between: list[Relation]) -> float:
    """The radius of the ring in inches, so large that boxes and parallel arrows do not overlap."""
    parallel = max(Counter((relation.src, relation.dst) for relation in between).values(), default=1)
    longest = max((text_width(ellipsize(relation.name)) for relation in between), default=0) * _LETTER / 2
    apart = half + longest + 0.3 if nodes == 2 else 1.1 + 0.25 * nodes
    return max(apart, 0.4 * parallel)


def _box_text(schema: Schema, node_type: str, unreachable: set[tuple[str, str, str]]) -> str:
    """A node type and the relations within it."""
    lines = [ellipsize(node_type)]
    for relation in schema:
        if relation.src == relation.dst == node_type:
            note = ", cannot reach the tags" if relation.key in unreachable else ""
            lines.append(f"↻ {ellipsize(relation.name)} ({ellipsize(_rule_name(relation.rule))}{note})")
    return "\n".join(lines)


def _rule_name(rule: EdgeRule) -> str:
    """Return an edge rule as Python code, with the settings that are not its defaults."""
    values = ((entry, getattr(rule, entry.name)) for entry in fields(rule))
    settings = ", ".join(f"{value!r}" for entry, value in values if value != entry.default)
    return f"{type(rule).__name__}({settings})" if settings else type(rule).__name__


def _bends(between: list[Relation]) -> dict[tuple[str, str, str], float]:
    """How far each arrow bends, so that arrows between the same two nodes are apart."""
    counts = Counter((relation.src, relation.dst) for relation in between)
    step = {ends: min(0.25, (_MOST - _LEAST) / max(1, count - 1)) for ends, count in counts.items()}
    drawn: Counter[tuple[str, str]] = Counter()
    bends = {}
    for relation in between:
        ends = relation.src, relation.dst
        bends[relation.key] = _LEAST + step[ends] * drawn[ends]
        drawn[ends] += 1
    return bends


def _middle(relation: Relation, positions: Any, bend: float) -> tuple[float, float]:
    """The middle of an arrow's arc, a parabola."""
    (x1, y1), (x2, y2) = positions[relation.src], positions[relation.dst]
    return (x1 + x2) / 2 + bend * (y2 - y1) / 2, (y1 + y2) / 2 - bend * (x2 - x1) / 2


def _legend_handles(relations: list[Relation], looks: dict[str, int]) -> list[Line2D]:
    """A line for every edge rule of these relations; none if there are more rules than colors."""
    rules = sorted({_rule_name(relation.rule) for relation in relations})
    if len(looks) > len(COLORS):  # the rules are written on the arrows instead
        return []
    return [
        Line2D([], [], color=COLORS[looks[rule]], linestyle=DASHES[looks[rule]], label=ellipsize(rule))
        for rule in rules
    ]
