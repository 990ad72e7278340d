"""Positions of the nodes of a post's graph in a drawing: words in reading order, other nodes below those they touch."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from statistics import fmean
from typing import Any

import networkx as nx

from mnergraph.explain.plots.style import ellipsize, fit_text, right_to_left, text_inches

#: In inches: widest row of words, side of an object's crop, and distance between nodes.
ROW, CROP, GAP = 11.0, 0.85, 0.18

#: Font sizes in points, of words, and of types, labels and numbers.
WORD, SMALL = 9.0, 7.0

#: In inches: height of a word, of an entity's type below it, and of the space in which arrows turn.
LINE, TYPE, CHANNEL = 0.24, 0.15, 0.4
#: Between the words and the nodes below them, which most arrows join.
_BETWEEN = 1.0
#: Height of the highest arc.
_ARC = 0.8


@dataclass(frozen=True)
class NodeBox:
    """The rectangle of a node in inches from the left and from the top.

    Attributes:
        x: left side.
        y: upper side.
        width: width.
        height: height.
        text: text of the node.
        strip: index of the strip in which it lies.
        foot: height of what belongs to the node below the rectangle: a caption, or an entity's type.
        reach: what belongs to the node reaches so far beyond its left and right side.
    """

    x: float
    y: float
    width: float
    height: float
    text: str
    strip: int = 0
    foot: float = 0.0
    reach: float = 0.0

    @property
    def center(self) -> tuple[float, float]:
        """The center of the rectangle."""
        return self.x + self.width / 2, self.y + self.height / 2

    @property
    def bottom(self) -> float:
        """The lower end of the rectangle with its foot."""
        return self.y + self.height + self.foot


@dataclass
class Strip:
    """A horizontal row of nodes, between which arrows pass.

    Attributes:
        top: upper end.
        bottom: lower end.
        taken: left and right ends of what no arrow may cross.
        arcs_above: whether arcs among its nodes are above them, as among words, or below.
    """

    top: float
    bottom: float
    taken: list[tuple[float, float]] = field(default_factory=list)
    arcs_above: bool = False


@dataclass(frozen=True)
class EntityMark:
    """The field of an entity's words in one row: left, top, width, height in inches, its type and its probability."""

    x: float
    y: float
    width: float
    height: float
    type: str
    text: str


@dataclass
class GraphLayout:
    """The boxes of all drawn nodes and the size of the drawing, in inches.

    Attributes:
        boxes: the box of every node, by the node's name.
        strips: the rows in which they lie, from above.
        marks: fields of predicted entities.
        captions: names of node types with the left end of their middle line, (x, y, text).
        width: width of the drawing.
        height: height of the drawing.
    """

    boxes: dict[str, NodeBox] = field(default_factory=dict)
    strips: list[Strip] = field(default_factory=list)
    marks: list[EntityMark] = field(default_factory=list)
    captions: list[tuple[float, float, str]] = field(default_factory=list)
    width: float = 4.0
    height: float = 0.1

    def add_strip(self, boxes: Mapping[str, NodeBox], *, arcs_above: bool = False) -> None:
        """Add a row of nodes."""
        ends = [(box.x - box.reach, box.x + box.width + box.reach) for box in boxes.values()]
        top, bottom = min(box.y for box in boxes.values()), max(box.bottom for box in boxes.values())
        strip = Strip(top, bottom, ends, arcs_above)
        self.strips.append(strip)
        self.boxes.update(boxes)
        self.height = strip.bottom


def labelled_types(graph: nx.MultiDiGraph) -> list[str]:
    """Return the node types, besides objects, whose nodes have labels: those of your own that describe them."""
    types = (node["type"] for _, node in graph.nodes(data=True) if node.get("label") and node["type"] != "object")
    return list(dict.fromkeys(types))


def layout_nodes(
    graph: nx.MultiDiGraph,
    others: Iterable[str],
    edges: Sequence[tuple[str, str]] = (),
    *,
    objects: Sequence[str] | None = None,
) -> GraphLayout:
    """Return the layout of a graph in horizontal rows.

    Words are in reading order, from the right for a script that is read so, in further rows where one is full; an
    entity node is below its first word. Objects are below the words, and node types with labels below these; of each
    type the nodes are in the order in which their edges are shortest, each as near as possible to the nodes that
    its edges join.

    Args:
        graph: as `mnergraph.explain.to_networkx` makes it.
        others: nodes of further types that are to be drawn; each type gets a row at the bottom.
        edges: source and target of the edges that are to be drawn, which have an influence on the order.
        objects: the objects that are to be drawn, those first that belong next to the words; by default all.
    """
    nodes = dict(graph.nodes(data=True))
    layout, ends = GraphLayout(), _Ends(edges)
    _place_words(layout, nodes, ends)
    if objects is None:
        objects = [name for name, node in nodes.items() if node["type"] == "object"]
    space = _BETWEEN
    if objects:
        layout.height += space
        _place_squares(layout, objects, nodes, ends, CROP)
        space = CHANNEL
    labelled = labelled_types(graph)
    for node_type in labelled:
        layout.height += space
        _place_labels(layout, [name for name, node in nodes.items() if node["type"] == node_type], nodes, ends)
        space = CHANNEL
    rest = [name for name in others if nodes[name]["type"] not in labelled]
    for node_type in dict.fromkeys(nodes[name]["type"] for name in rest):
        of_type = [name for name in rest if nodes[name]["type"] == node_type]
        layout.height += space
        _place_squares(layout, of_type, nodes, ends, CROP if node_type == "image" and len(of_type) < 4 else CROP / 2)
        space = CHANNEL
    layout.width = max([layout.width, *(box.x + box.width + box.reach for box in layout.boxes.values())])
    return layout


class _Ends:
    """The nodes that the drawn edges join to each node."""

    def __init__(self, edges: Sequence[tuple[str, str]]) -> None:
        self.edges = list(edges)
        self.of: dict[str, list[str]] = defaultdict(list)
        for src, dst in edges:
            self.of[src].append(dst)
            self.of[dst].append(src)

    def desired(self, layout: GraphLayout, name: str) -> float | None:
        """The mean position of the nodes that have one already; None if there is none."""
        known = [layout.boxes[other].center[0] for other in self.of[name] if other in layout.boxes]
        return fmean(known) if known else None

    def arc(self, layout: GraphLayout, placed: Mapping[str, tuple[float, float]]) -> float:
        """Height of the highest arc among nodes of one row, given their left ends and widths."""
        spans = [abs(placed[src][0] - placed[dst][0]) for src, dst in self.edges if src in placed and dst in placed]
        return max(map(arc_height, spans), default=0.0)


def arc_height(span: float) -> float:
    """Return the height of an arc between two nodes of a row, in inches."""
    return min(_ARC, 0.16 + 0.1 * span)


def _place_words(layout: GraphLayout, nodes: Mapping[str, Mapping[str, Any]], ends: _Ends) -> None:
    """Add tokens, the fields of predicted entities with their types, and below them entity nodes."""
    words = [name for name, node in nodes.items() if node["type"] == "token"]
    if not words:
        return
    texts = {name: ellipsize(nodes[name].get("word", nodes[name]["type"])) for name in words}
    groups = entity_groups(nodes, words)
    least: dict[str, float] = {}
    for group in groups:
        # an entity's words are together at least as wide as its type below them
        width = text_inches(entity_text(nodes[group[0]]), SMALL, "bold") + 0.1
        least |= {name: (width - GAP * (len(group) - 1)) / len(group) for name in group}
    widths = [max(text_inches(texts[name], WORD) + 0.02, least.get(name, 0.1)) + GAP for name in words]
    rows = _fold(words, widths)
    layout.width = max([layout.width, *(sum(w for _, w in row) for row in rows)])
    backwards = right_to_left(texts.values())
    first = _first_words(nodes, words)
    for row in rows:
        x, placed = 0.0, {}
        for name, width in row:
            placed[name] = ((layout.width - x - width if backwards else x) + GAP / 2, width - GAP)
            x += width
        layout.height += CHANNEL * (0.6 if not layout.strips else 1) + ends.arc(layout, placed)
        marked = {name for group in groups for name in group}
        foot = TYPE if marked & placed.keys() else 0.0
        strip = len(layout.strips)
        layout.add_strip(
            {
                name: NodeBox(left, layout.height, width, LINE, texts[name], strip, foot if name in marked else 0.0)
                for name, (left, width) in placed.items()
            },
            arcs_above=True,
        )
        for group in groups:
            _mark(layout, nodes, [name for name in group if name in placed])
        below = {name: layout.boxes[word] for name, word in first.items() if word in placed}
        if below:
            layout.height += 0.7 * CHANNEL
            _place_entities(layout, below, nodes)


def entity_groups(nodes: Mapping[str, Mapping[str, Any]], words: Sequence[str]) -> list[list[str]]:
    """Return the tokens of every predicted entity."""

    def entity_of(name: str) -> tuple[Any, ...]:
        return nodes[name].get("entity"), nodes[name].get("entity_score")

    return [list(group) for (type_, _), group in groupby(words, entity_of) if type_ is not None]


def entity_text(node: Mapping[str, Any]) -> str:
    """Return the type and probability of the entity that a token belongs to."""
    return f"{ellipsize(str(node['entity']), 16)} {node['entity_score']:.2f}"


def _mark(layout: GraphLayout, nodes: Mapping[str, Mapping[str, Any]], group: Sequence[str]) -> None:
    """Add the field of an entity's words in one row."""
    if not group:
        return
    boxes = [layout.boxes[name] for name in group]
    left, right = min(box.x for box in boxes) - 0.05, max(box.x + box.width for box in boxes) + 0.05
    mark = EntityMark(
        left, boxes[0].y, right - left, LINE + TYPE, str(nodes[group[0]]["entity"]), entity_text(nodes[group[0]])
    )
    layout.marks.append(mark)
    layout.strips[-1].taken.append((left, right))


def _place_entities(layout: GraphLayout, below: Mapping[str, NodeBox], nodes: Mapping[str, Mapping[str, Any]]) -> None:
    """Add entity nodes in a row below their first words."""
    texts = {name: ellipsize(nodes[name]["word"], max_length=16) for name in below}
    names = sorted(below, key=lambda name: below[name].center[0])
    widths = [text_inches(texts[name], WORD, "bold") + 0.16 for name in names]
    wanted = [below[name].center[0] for name in names]
    strip = len(layout.strips)
    lefts = spread(wanted, widths, layout.width)
    placed = zip(names, lefts, widths, strict=True)
    layout.add_strip({name: NodeBox(x, layout.height, width, LINE, texts[name], strip) for name, x, width in placed})


def spread(centers: Sequence[float], widths: Sequence[float], width: float, gap: float = GAP) -> list[float]:
    """Return the left ends of boxes in this order whose centers are as near to the wanted ones as can be.

    The sum of squared distances is minimal (pool adjacent violators); no box leaves the row if all fit into it.

    Args:
        centers: the wanted centers.
        widths: widths of the boxes.
        width: width of the row.
        gap: distance between boxes.
    """
    before = [sum(widths[:index]) + gap * index for index in range(len(widths))]
    # without widths the left ends need only not decrease
    blocks: list[list[float]] = []
    for center, own, offset in zip(centers, widths, before, strict=True):
        blocks.append([center - own / 2 - offset])
        while len(blocks) > 1 and fmean(blocks[-2]) > fmean(blocks[-1]):
            last = blocks.pop()
            blocks[-1] += last
    free = max(0.0, width - sum(widths) - gap * (len(widths) - 1))
    values = [min(max(fmean(block), 0.0), free) for block in blocks for _ in block]
    return [value + offset for value, offset in zip(values, before, strict=True)]


def _fold(names: Sequence[str], widths: Sequence[float], limit: float = ROW) -> list[list[tuple[str, float]]]:
    """Names with their widths in rows, none wider than the limit in inches."""
    rows: list[list[tuple[str, float]]] = [[]]
    for name, width in zip(names, widths, strict=True):
        if rows[-1] and sum(w for _, w in rows[-1]) + width > limit:
            rows.append([])
        rows[-1].append((name, width))
    return rows


def word_tokens(nodes: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the tokens that stand for words, in the order of the words."""
    return [name for name, node in nodes.items() if node["type"] == "token" and "word" in node]


def _first_words(nodes: Mapping[str, Mapping[str, Any]], words: Sequence[str]) -> dict[str, str]:
    """For every entity node the token of its first word."""
    spans = {name: node["span"] for name, node in nodes.items() if node["type"] == "entity"}
    with_word = [name for name in words if "word" in nodes[name]]
    return {name: with_word[min(span[0], len(with_word) - 1)] for name, span in spans.items() if with_word}


def _ordered(layout: GraphLayout, names: Sequence[str], ends: _Ends, step: float) -> tuple[list[str], list[float]]:
    """The nodes in the order of their wanted positions, and these; those that have none come after the others."""
    known = {name: x for name in names if (x := ends.desired(layout, name)) is not None}
    ordered = sorted(known, key=lambda name: known[name])
    wanted = [known[name] for name in ordered]
    idle = [name for name in names if name not in known]
    after = wanted[-1] if wanted else layout.width / 2 - step * (len(idle) + 1) / 2
    return [*ordered, *idle], [*wanted, *(after + step * (index + 1) for index in range(len(idle)))]


def _place_squares(
    layout: GraphLayout,
    names: Sequence[str],
    nodes: Mapping[str, Mapping[str, Any]],
    ends: _Ends,
    side: float,
) -> None:
    """Add nodes as squares with captions below them, in rows."""
    texts = {name: fit_text(_label(nodes[name]), max(side, 0.7), SMALL, max_length=24) for name in names}
    own = max([side, *(text_inches(text, SMALL) for text in texts.values())])
    reach = (own - side) / 2 + 0.02
    per_row = max(1, int((layout.width + GAP) / (own + GAP)))
    for begin in range(0, len(names), per_row):
        if begin:
            layout.height += 0.7 * CHANNEL
        row, wanted = _ordered(layout, names[begin : begin + per_row], ends, own + GAP)
        lefts = [left + (own - side) / 2 for left in spread(wanted, [own] * len(row), layout.width)]
        placed = {name: (left, side) for name, left in zip(row, lefts, strict=True)}
        strip, y = len(layout.strips), layout.height
        layout.add_strip(
            {name: NodeBox(x, y, side, side, texts[name], strip, 0.16, reach) for name, (x, _) in placed.items()}
        )
        layout.height += ends.arc(layout, placed)


def _place_labels(
    layout: GraphLayout, names: Sequence[str], nodes: Mapping[str, Mapping[str, Any]], ends: _Ends
) -> None:
    """Add nodes of one type as boxes as wide as their labels, in rows after the type's name."""
    title = ellipsize(nodes[names[0]]["type"])
    margin = text_inches(title, SMALL, "bold") + GAP
    texts = {name: ellipsize(_label(nodes[name])) for name in names}
    ordered, _ = _ordered(layout, names, ends, 0.0)
    widths = {name: text_inches(texts[name], SMALL) + 0.16 for name in names}
    rows = _fold(ordered, [widths[name] + GAP for name in ordered], max(layout.width - margin, max(widths.values())))
    for number, row in enumerate(rows):
        if number:
            layout.height += 0.7 * CHANNEL
        of_row = [name for name, _ in row]
        wanted = [layout.width / 2 if (x := ends.desired(layout, name)) is None else x for name in of_row]
        width = max(layout.width - margin, sum(width for _, width in row) - GAP)
        lefts = spread([x - margin for x in wanted], [widths[name] for name in of_row], width)
        strip = len(layout.strips)
        placed = {
            name: NodeBox(margin + left, layout.height, widths[name], LINE, texts[name], strip)
            for name, left in zip(of_row, lefts, strict=True)
        }
        if number == 0:
            layout.captions.append((0.0, layout.height + LINE / 2, title))
        layout.add_strip(placed)
        if number == 0:
            layout.strips[-1].taken.append((0.0, margin - GAP))
        layout.height += ends.arc(layout, {name: (box.x, box.width) for name, box in placed.items()})


def _label(node: Mapping[str, Any]) -> str:
    return str(node.get("label") or f"{node['type']} {node['index']}")
