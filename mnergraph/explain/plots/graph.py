"""Plot of a post's graph with the edges of the highest weights of every relation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any, NamedTuple

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from mnergraph.explain.plots.graph_layout import NodeBox, labelled_types, layout_nodes
from mnergraph.explain.plots.style import COLORS, DASHES, axes, style_indices, text_arguments
from mnergraph.explain.plots.thumbnails import Thumbnails


class DrawnEdge(NamedTuple):
    """An edge to draw.

    Attributes:
        src: name of the source node.
        dst: name of the target node.
        key: the edge type.
        weight: the mean weight.
    """

    src: str
    dst: str
    key: tuple[str, str, str]
    weight: float

    @property
    def relation(self) -> str:
        """The relation's name."""
        return self.key[1]


def strongest_edges(
    graph: nx.MultiDiGraph, top_k: int, relations: Collection[str] | None, layer: str | None, head: int | None
) -> list[DrawnEdge]:
    """Return the edges of the highest weights of every relation, the lowest first, so that the highest are on top.

    Relations of the same name between other node types are separate.

    Args:
        graph: as `mnergraph.explain.to_networkx` makes it.
        top_k: edges per relation.
        relations: names of the relations; None for all.
        layer: the layer whose weights are read; None for the mean over all.
        head: the head whose weights are read; None for the mean over all.

    Raises:
        ValueError: for a relation or layer without weights in the graph.
    """
    by_key: dict[tuple[str, str, str], list[DrawnEdge]] = defaultdict(list)
    layers: set[str] = set()
    stands_for = {name: node["stands_for"] for name, node in graph.nodes(data=True) if "stands_for" in node}
    for src, dst, edge in graph.edges(data=True):
        by_layer = {
            **{name: [value] for name, value in edge.get("mean_gate", {}).items()},
            **edge.get("attention", {}),
        }
        layers |= set(by_layer)
        weights = [
            weight
            for name, heads in by_layer.items()
            if layer in (None, name)
            for weight in (heads if head is None else heads[head : head + 1])
        ]
        ends = stands_for.get(src, src), stands_for.get(dst, dst)
        if weights and ends[0] != ends[1]:
            key = graph.nodes[ends[0]]["type"], edge["relation"], graph.nodes[ends[1]]["type"]
            by_key[key].append(DrawnEdge(*ends, key, fmean(weights)))
    if layer is not None and layer not in layers:
        raise ValueError(f"no weights of layer {layer!r}; the graph has {', '.join(sorted(layers)) or 'none'}")
    names = {name for _, name, _ in by_key}
    if unknown := set(relations or ()) - names:
        present = ", ".join(sorted(names)) or "no relation"
        raise ValueError(f"no weights of {', '.join(sorted(unknown))}; the graph has weights of {present}")
    chosen = [edges for (_, name, _), edges in by_key.items() if relations is None or name in relations]
    best = [edge for edges in chosen for edge in sorted(edges, key=lambda edge: -edge.weight)[:top_k]]
    return sorted((edge for edge in best if edge.weight > 0), key=lambda edge: edge.weight)


def plot_graph(
    graph: nx.MultiDiGraph,
    *,
    ax: Axes | None = None,
    top_k: int = 12,
    relations: Collection[str] | None = None,
    layer: str | None = None,
    head: int | None = None,
) -> Figure:
    """Plot the graph of a post: entities above their words, objects and other nodes below, and the strongest edges.

    Predicted entities are marked in the sentence. Every relation has its own color and dashes; the strongest edge
    of each is the thickest, and arrows point to the target node. Relations of both directions are separate. Loops
    are not drawn. A merged node is drawn as the node it stands for. Nodes of your own types are drawn as boxes with
    their labels (`NodeType.describe`), and nodes of other types where a drawn edge touches them.

    Args:
        graph: as `mnergraph.explain.attention_graph` or `to_networkx` makes it.
        ax: axes to draw into; by default those of a new figure.
        top_k: edges per relation; relations without weights have none.
        relations: names of the relations to draw; by default all.
        layer: the layer whose weights are drawn; by default the mean over all.
        head: the head whose weights are drawn; by default the mean over all. Gates have head 0 alone.

    Returns:
        the figure.

    Raises:
        ValueError: for a relation or layer without weights in the graph.
    """
    edges = strongest_edges(graph, top_k, relations, layer, head)
    nodes = graph.nodes
    touched = {name for edge in edges for name in (edge.src, edge.dst)}
    others = [name for name in nodes if name in touched and nodes[name]["type"] not in ("token", "object", "entity")]
    layout = layout_nodes(graph, others)
    boxes, width, height = layout.boxes, layout.width, layout.height
    figure, ax = axes(ax, (width + 0.4, height + 1.1))
    scale = _font_scale(ax, figure, width, height)
    ax.set(xlim=(-0.2, width + 0.2), ylim=(height + 0.4, -0.15), aspect="equal")
    ax.set_axis_off()
    looks = style_indices(edge.relation for edge in edges)
    for edge in edges:
        highest = max(other.weight for other in edges if other.key == edge.key)
        _draw_arrow(ax, edge, boxes, looks[edge.relation], highest)
    images = sum(node["type"] == "image" for node in nodes.values())
    thumbnails = Thumbnails(graph.graph.get("pair") or {}, images=images)
    labelled = {*labelled_types(graph)}
    for name, box in boxes.items():
        if nodes[name]["type"] in ("token", "entity"):
            _draw_words(ax, box, nodes[name], scale)
        elif nodes[name]["type"] in labelled:
            _draw_label(ax, box, scale)
        else:
            _draw_square(ax, box, nodes[name], thumbnails.crop(nodes[name]), scale)
    for x, y, text in layout.captions:
        ax.text(x, y, s=text, va="bottom", fontsize=7 * scale, weight="bold", zorder=4, **_font())
    tokens = [name for name in nodes if nodes[name]["type"] == "token"]
    _mark_entities(ax, [(nodes[name], boxes[name]) for name in tokens], scale)
    lines = [
        Line2D([], [], color=COLORS[look], linestyle=DASHES[look], label=relation) for relation, look in looks.items()
    ]
    if lines:
        ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
    return figure


def _font_scale(ax: Axes, figure: Figure, width: float, height: float) -> float:
    """The ratio of the axes' size to the size that the drawing was laid out for."""
    position = ax.get_position()
    inches = figure.get_size_inches()
    return min(1.0, max(0.4, min(position.width * inches[0] / width, position.height * inches[1] / height) * 1.12))


def _draw_arrow(ax: Axes, edge: DrawnEdge, boxes: Mapping[str, NodeBox], look: int, highest: float) -> None:
    (x1, y1), (x2, y2) = (_anchor(boxes[a], boxes[b]) for a, b in ((edge.src, edge.dst), (edge.dst, edge.src)))
    share = edge.weight / highest
    level = abs(y1 - y2) < 0.05
    # between nodes of one band the arc hangs below it
    bend = min(0.5, 1.0 / max(abs(x1 - x2), 0.1)) * (1 if x2 > x1 else -1) if level else 0.06
    ax.add_patch(
        FancyArrowPatch(
            (x1, y1),
            (x2, y2),
            connectionstyle=f"arc3,rad={bend}",
            arrowstyle="-|>",
            mutation_scale=7 + 3 * share,
            color=COLORS[look],
            linestyle=DASHES[look],
            linewidth=0.4 + 2.4 * share,
            alpha=0.35 + 0.6 * share,
            shrinkA=1,
            shrinkB=1,
            zorder=1,
        )
    )


def _anchor(box: NodeBox, other: NodeBox) -> tuple[float, float]:
    """The point where a line to another node starts: on the side of the other, or below the node's text."""
    x, y = box.center
    level = abs(box.center[1] - other.center[1]) < 0.05
    down = level or other.center[1] > y
    return x, box.y + (box.height + (box.foot if level else 0) if down else 0)


def _draw_words(ax: Axes, box: NodeBox, node: Mapping[str, Any], scale: float) -> None:
    """A token, or an entity node in bold in a frame."""
    if node["type"] == "entity":
        frame: dict[str, Any] | None = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "black"}
    elif "entity" in node:
        frame = None  # the entity's field stays visible
    else:  # a line that passes behind a word leaves it legible
        frame = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    weight, zorder = ("bold", 4) if node["type"] == "entity" else ("normal", 3)
    size = 9 * scale
    ax.text(
        *box.center,
        s=box.text,
        ha="center",
        va="center",
        fontsize=size,
        weight=weight,
        zorder=zorder,
        bbox=frame,
        **_font(),
    )


def _draw_label(ax: Axes, box: NodeBox, scale: float) -> None:
    """A node of a type of the user's own."""
    ax.add_patch(Rectangle((box.x, box.y), box.width, box.height, facecolor="white", edgecolor="black", zorder=3))
    ax.text(*box.center, s=box.text, ha="center", va="center", fontsize=7 * scale, zorder=4, **_font())


def _draw_square(ax: Axes, box: NodeBox, node: Mapping[str, Any], crop: Image.Image | None, scale: float) -> None:
    """An object, an image or a node of another type, with its crop if it has one."""
    x, y = box.center
    right, bottom = box.x + box.width, box.y + box.height
    if crop is not None:
        ax.imshow(crop, extent=(box.x, right, bottom, box.y), aspect="equal", zorder=2)
    dashed = crop is None and not node.get("box")
    frame = Rectangle((box.x, box.y), box.width, box.height, edgecolor="black", zorder=3)
    frame.set(facecolor="white" if crop is None else "none", linestyle="--" if dashed else "-")
    ax.add_patch(frame)
    if crop is not None:
        ax.text(x, bottom + 0.03, s=box.text, ha="center", va="top", fontsize=7 * scale, zorder=4, **_font())
    else:
        text = box.text.replace(" ", "\n")
        ax.text(x, y, s=text, ha="center", va="center", fontsize=7 * scale, zorder=4, **_font())


def _mark_entities(ax: Axes, tokens: Sequence[tuple[Mapping[str, Any], NodeBox]], scale: float) -> None:
    """A colored field behind the words of an entity, with its type and probability above."""
    looks = style_indices(node["entity"] for node, _ in tokens if "entity" in node)

    def entity_of(token: tuple[Mapping[str, Any], NodeBox]) -> tuple[Any, ...]:
        node, box = token
        return node.get("entity"), node.get("entity_score"), box.y

    for (type_, score, _), group in groupby(tokens, entity_of):
        if type_ is None:
            continue
        boxes = [box for _, box in group]
        left, right = min(box.x for box in boxes) - 0.05, max(box.x + box.width for box in boxes) + 0.05
        top, height, color = boxes[0].y, boxes[0].height, COLORS[looks[type_]]
        ax.add_patch(Rectangle((left, top), right - left, height, facecolor=color, alpha=0.25, zorder=0))
        ax.add_patch(Rectangle((left, top), right - left, height, fill=False, edgecolor=color, zorder=2))
        text = f"{type_} {score:.2f}"
        ax.text(left, top - 0.03, s=text, fontsize=7 * scale, va="bottom", weight="bold", **_font())


def _font() -> dict[str, Any]:
    return {name: value for name, value in text_arguments("").items() if name != "text"}
