"""Positions of the nodes of a post's graph in a drawing: entities above their words, other nodes below."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx

from mnergraph.explain.plots.style import ellipsize, right_to_left, text_width

#: In inches: font size, widest row of words, side of an object's crop, and distance between nodes.
LETTER, ROW, CROP, GAP = 0.125, 11.0, 0.85, 0.16


_LINE, _LIFT, _BETWEEN = 0.26, 0.34, 1.1
_SMALL = 0.1  # font size of labels in boxes


@dataclass(frozen=True)
class NodeBox:
    """The rectangle of a node in inches from the left and from the top.

    Attributes:
        x: left side.
        y: upper side.
        width: width.
        height: height.
        text: text of the node.
        foot: height of the text below the rectangle.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    foot: float = 0.0

    @property
    def center(self) -> tuple[float, float]:
        """The center of the rectangle."""
        return self.x + self.width / 2, self.y + self.height / 2


@dataclass
class GraphLayout:
    """The boxes of all drawn nodes, captions of bands, and the size of the drawing, in inches.

    Attributes:
        boxes: the box of every node, by the node's name.
        captions: names of node types with the left end of their baseline, (x, y, text).
        width: width of the drawing.
        height: height of the drawing.
    """

    boxes: dict[str, NodeBox] = field(default_factory=dict)
    captions: list[tuple[float, float, str]] = field(default_factory=list)
    width: float = 4.0
    height: float = 0.1


def labelled_types(graph: nx.MultiDiGraph) -> list[str]:
    """Return the node types, besides objects, whose nodes have labels: those of your own that describe them."""
    types = (node["type"] for _, node in graph.nodes(data=True) if node.get("label") and node["type"] != "object")
    return list(dict.fromkeys(types))


def layout_nodes(graph: nx.MultiDiGraph, others: Iterable[str]) -> GraphLayout:
    """Return the layout of a graph in horizontal bands.

    Words are in reading order, from the right for a script that is read so, in further rows where one is full. An
    entity node is above its first word. Objects are below the words, and node types with labels below these.

    Args:
        graph: as `mnergraph.explain.to_networkx` makes it.
        others: nodes of further types that are to be drawn; each type gets a band at the bottom.
    """
    nodes = dict(graph.nodes(data=True))
    layout = GraphLayout()
    _place_words(layout, nodes)
    layout.height += _BETWEEN
    _place_grid(layout, [name for name, node in nodes.items() if node["type"] == "object"], nodes, CROP)
    labelled = labelled_types(graph)
    for node_type in labelled:
        _place_labels(layout, [name for name, node in nodes.items() if node["type"] == node_type], nodes)
    rest = [name for name in others if nodes[name]["type"] not in labelled]
    for node_type in dict.fromkeys(nodes[name]["type"] for name in rest):
        of_type = [name for name in rest if nodes[name]["type"] == node_type]
        layout.height += GAP
        _place_grid(layout, of_type, nodes, CROP if node_type == "image" and len(of_type) < 4 else CROP / 2)
    layout.width = max([layout.width, *(box.x + box.width for box in layout.boxes.values())])
    return layout


def _place_words(layout: GraphLayout, nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Add tokens and, above them, entities."""
    words = [name for name, node in nodes.items() if node["type"] == "token"]
    texts = {name: ellipsize(nodes[name].get("word", nodes[name]["type"])) for name in words}
    # a word in an entity is at least as wide as the entity's type, which is above it
    least = {name: 0.62 if "entity" in nodes[name] else 0.0 for name in words}
    rows = _fold(words, [max(text_width(texts[name]) * LETTER, least[name]) + GAP for name in words])
    layout.width = max([layout.width, *(sum(w for _, w in row) for row in rows)])
    backwards = right_to_left(texts.values())
    first = _first_words(nodes, words)
    for row in rows:
        has_entity = bool({name for name, _ in row} & {*first.values()})
        layout.height += _LIFT * (1.6 if has_entity else 1.0)
        x = 0.0
        for name, width in row:
            left = layout.width - x - width if backwards else x
            layout.boxes[name] = NodeBox(left + GAP / 2, layout.height, width - GAP, _LINE, texts[name])
            x += width
        layout.height += _LINE + GAP
    for name, word in first.items():
        below, text = layout.boxes[word], ellipsize(nodes[name]["word"], max_length=16)
        x, y = below.x, below.y - 2.1 * _LINE
        while any(box.y == y and abs(box.x - x) < 0.2 for box in layout.boxes.values()):
            x += 0.3
        layout.boxes[name] = NodeBox(x, y, text_width(text) * LETTER, _LINE, text)


def _fold(names: Sequence[str], widths: Sequence[float], limit: float = ROW) -> list[list[tuple[str, float]]]:
    """Names with their widths in rows, none wider than the limit in inches."""
    rows: list[list[tuple[str, float]]] = [[]]
    for name, width in zip(names, widths, strict=True):
        if rows[-1] and sum(w for _, w in rows[-1]) + width > limit:
            rows.append([])
        rows[-1].append((name, width))
    return rows


def _first_words(nodes: Mapping[str, Mapping[str, Any]], words: Sequence[str]) -> dict[str, str]:
    """For every entity node the token of its first word."""
    spans = {name: node["span"] for name, node in nodes.items() if node["type"] == "entity"}
    with_word = [name for name in words if "word" in nodes[name]]
    return {name: with_word[min(span[0], len(with_word) - 1)] for name, span in spans.items() if with_word}


def _place_grid(layout: GraphLayout, names: Sequence[str], nodes: Mapping[str, Mapping[str, Any]], side: float) -> None:
    """Add nodes as squares in centered rows."""
    if not names:
        return
    step = side + GAP
    per_row = max(1, int((layout.width + GAP) / step))
    rows = -(-len(names) // per_row)
    columns = -(-len(names) // rows)
    for number, name in enumerate(names):
        row, column = divmod(number, columns)
        in_row = min(columns, len(names) - row * columns)
        left = (layout.width - in_row * step + GAP) / 2 + column * step
        text = ellipsize(_label(nodes[name]), max_length=max(8, int(12 * side / CROP)))
        layout.boxes[name] = NodeBox(left, layout.height + row * (side + 2 * GAP), side, side, text, foot=GAP)
    layout.height += rows * (side + 2 * GAP)


def _place_labels(layout: GraphLayout, names: Sequence[str], nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Add nodes of one type as boxes as wide as their labels in centered rows, below the type's name."""
    layout.height += GAP
    texts = {name: ellipsize(_label(nodes[name])) for name in names}
    widths = [text_width(texts[name]) * _SMALL + 2 * GAP for name in names]
    rows = _fold(names, widths, layout.width)
    starts = [(layout.width - sum(width for _, width in row) + GAP) / 2 for row in rows]
    layout.captions.append((min(starts), layout.height - GAP / 4, ellipsize(nodes[names[0]]["type"])))
    for row, x in zip(rows, starts, strict=True):
        for name, width in row:
            layout.boxes[name] = NodeBox(x, layout.height, width - GAP, _LINE, texts[name])
            x += width
        layout.height += _LINE + GAP
    layout.height += GAP


def _label(node: Mapping[str, Any]) -> str:
    return str(node.get("label") or f"{node['type']} {node['index']}")
