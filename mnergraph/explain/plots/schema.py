"""Plot of a schema: its node types and relations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import fields
from itertools import permutations
from typing import Any, NamedTuple

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch
from matplotlib.text import Text
from torch import nn

from mnergraph.explain.plots.style import COLORS, DASHES, axes, ellipsize, families, style_indices, text_inches
from mnergraph.graph.edge_rules import EdgeRule
from mnergraph.graph.schema import Relation, Schema
from mnergraph.models.base import Tagger
from mnergraph.nn.layers.node_types import Creation

#: Color of relations from which no path leads to the tags, and of arrows to node types that layers create.
UNREACHABLE, CREATES = "#a0a0a0", "#d9d2c4"


#: Of more node types the ring has the order in which they are given.
_MANY = 7


#: How far arrows between the same two nodes bend, as shares of their length.
_LEAST, _MOST = 0.15, 0.6


class _Link(NamedTuple):
    """An arrow between two node types: a relation, or a creation of nodes, which has no rule."""

    src: str
    name: str
    dst: str
    rule: EdgeRule | None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.src, self.name, self.dst


def created_types(model: nn.Module) -> dict[str, Creation]:
    """Return how the node types that layers of a model create come about (the layers' ``creates``), by name."""
    created: dict[str, Creation] = {}
    for module in model.modules():
        known = getattr(module, "creates", None)
        if isinstance(known, Mapping):
            created |= known
    return created


def plot_schema(schema: Schema | Tagger, *, ax: Axes | None = None) -> Figure:
    """Plot node types in a ring, the tagged one in bold, with an arrow to the target type for every relation.

    An arrow has its relation's name on it, and the color and dashes of its edge rule; relations within a node type
    are named in its box. Of a model, wide pale arrows show which node types its layers create from which, such as
    visual nodes merged from image and objects. A type without any arrow has a dashed frame. Relations that cannot
    reach the tags are grey.

    Args:
        schema: a model, or the schema alone, which does not know what the layers create.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.
    """
    created: Mapping[str, Creation] = {}
    if isinstance(schema, Tagger):
        created, schema = created_types(schema), schema.schema
    names = dict.fromkeys([*schema.nodes, *(name for how in created.values() for name in how.sources), *created])
    unreachable = {relation.key for relation in schema.unreachable_relations(len(schema.nodes))}
    creations = [_Link(source, how.how, name, None) for name, how in created.items() for source in how.sources]
    between = [_Link(*relation.key, relation.rule) for relation in schema if relation.src != relation.dst]
    links = [*between, *creations]
    texts = {node_type: _box_text(schema, node_type, unreachable) for node_type in names}
    positions = nx.circular_layout(_ring([*names], links))
    bends = _bends(links)
    middles = {link.key: _middle(link, positions, bends[link.key]) for link in links}
    half = max(text_inches(line, 9) for text in texts.values() for line in text.split("\n")) / 2 + 0.2
    inches = _radius(len(names), half, links)
    points = [*positions.values(), *middles.values()]
    wide, high = (max(abs(float(point[axis])) for point in points) for axis in (0, 1))
    reach = wide + half / inches, high + 0.5 / inches
    figure, ax = axes(ax, (2 * reach[0] * inches + 0.2, 2 * reach[1] * inches + 0.7))
    centered: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "ha": "center", "va": "center"}
    boxes: dict[str, Text] = {}
    related = {node_type for relation in schema for node_type in (relation.src, relation.dst)}
    related |= {node_type for link in creations for node_type in (link.src, link.dst)}
    for node_type, (x, y) in positions.items():
        bold = "bold" if node_type == schema.tags else "normal"
        frame = {"boxstyle": "round,pad=0.5", "facecolor": "white", "edgecolor": "black"}
        frame["linestyle"] = "-" if node_type in related else "--"
        boxes[node_type] = ax.text(x, y, texts[node_type], **centered, fontsize=9, weight=bold, bbox=frame, zorder=1)
    looks = style_indices(_rule_name(relation.rule) for relation in schema)
    for link in links:
        color, dashes, width, head = CREATES, "-", 5.0, 22.0
        if link.rule is not None:
            look, grey = looks[_rule_name(link.rule)], link.key in unreachable
            color, dashes = (UNREACHABLE, "-") if grey else (COLORS[look], DASHES[look])
            width, head = 1.4, 12.0
        # drawn after the boxes, whose sizes are needed
        ax.add_patch(
            FancyArrowPatch(
                positions[link.src],
                positions[link.dst],
                connectionstyle=f"arc3,rad={bends[link.key]}",
                patchA=boxes[link.src].get_bbox_patch(),
                patchB=boxes[link.dst].get_bbox_patch(),
                arrowstyle="-|>",
                mutation_scale=head,
                color=color,
                linestyle=dashes,
                linewidth=width,
                clip_on=False,
                zorder=2 if link.rule is not None else 1.5,
            )
        )
        name = ellipsize(link.name)
        is_long = link.rule is not None and len(looks) > len(COLORS)
        text = f"{name}\n{ellipsize(_rule_name(link.rule))}" if is_long and link.rule is not None else name
        background = {"facecolor": "white", "edgecolor": "none", "pad": 1}
        style = "italic" if link.rule is None else "normal"
        ax.text(*middles[link.key], text, **centered, fontsize=8, bbox=background, style=style, zorder=3)
    handles = _legend_handles([relation for relation in schema if relation.src != relation.dst], looks, unreachable)
    if any(link.key in unreachable for link in between):
        handles.append(Line2D([], [], color=UNREACHABLE, label="cannot reach the tags"))
    if creations:
        handles.append(Line2D([], [], color=CREATES, linewidth=5, label="nodes created in the forward pass"))
    if handles:
        columns = max(1, int(2 * reach[0] * inches / 2))
        ax.legend(handles=handles, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=columns, frameon=False)
    ax.set_axis_off()
    ax.set(xlim=(-reach[0], reach[0]), ylim=(-reach[1], reach[1]), aspect="equal")
    return figure


def _ring(names: list[str], links: Sequence[_Link]) -> list[str]:
    """The node types in the order around the ring in which arrows are shortest; as given if they are many."""
    if len(names) > _MANY:
        return names
    count, ends = len(names), {(link.src, link.dst) for link in links}

    def length(order: Sequence[str]) -> int:
        place = {name: index for index, name in enumerate(order)}
        apart = (abs(place[src] - place[dst]) for src, dst in ends)
        return sum(min(steps, count - steps) for steps in apart)

    first, *rest = names
    orders: list[list[str]] = [[first, *others] for others in permutations(rest)]
    return min(orders, key=length)


def _radius(nodes: int, half: float, between: Sequence[_Link]) -> float:
    """The radius of the ring in inches, so large that boxes and parallel arrows do not overlap."""
    parallel = max(Counter((relation.src, relation.dst) for relation in between).values(), default=1)
    longest = max((text_inches(ellipsize(relation.name), 8) for relation in between), default=0) / 2
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


def _bends(between: Sequence[_Link]) -> dict[tuple[str, str, str], float]:
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


def _middle(relation: _Link, positions: Any, bend: float) -> tuple[float, float]:
    """The middle of an arrow's arc, a parabola."""
    (x1, y1), (x2, y2) = positions[relation.src], positions[relation.dst]
    return (x1 + x2) / 2 + bend * (y2 - y1) / 2, (y1 + y2) / 2 - bend * (x2 - x1) / 2


def _legend_handles(
    relations: list[Relation], looks: dict[str, int], unreachable: set[tuple[str, str, str]]
) -> list[Line2D]:
    """A line for every edge rule of the relations that reach the tags; none if there are more rules than colors."""
    if len(looks) > len(COLORS):  # the rules are written on the arrows instead
        return []
    rules = sorted({_rule_name(relation.rule) for relation in relations if relation.key not in unreachable})
    return [
        Line2D([], [], color=COLORS[looks[rule]], linestyle=DASHES[looks[rule]], label=ellipsize(rule))
        for rule in rules
    ]
