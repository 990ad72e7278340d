"""Plot of a post's graph with the edges of the highest weights of every relation."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import networkx as nx
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, Rectangle
from PIL import Image

from mnergraph.explain.plots.graph_layout import (
    SMALL,
    WORD,
    EntityMark,
    GraphLayout,
    NodeBox,
    labelled_types,
    layout_nodes,
    word_tokens,
)
from mnergraph.explain.plots.graph_routes import MARGIN, points_along, route_edges
from mnergraph.explain.plots.style import (
    COLORS,
    DASHES,
    NotebookFigure,
    axes,
    ellipsize,
    families,
    stable_index,
    text_inches,
    type_color,
    weight_text,
)
from mnergraph.explain.plots.thumbnails import Thumbnails

EdgeKey = tuple[str, str, str]


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
    key: EdgeKey
    weight: float


class StrongestEdges(NamedTuple):
    """The edges of the highest weights, and of how many edges with weights they are, by edge type.

    Attributes:
        edges: the edges, the lowest weight first, so that the highest are on top.
        counts: the number of edges with a positive weight, of each edge type that is drawn.
    """

    edges: list[DrawnEdge]
    counts: dict[EdgeKey, int]


def strongest_edges(
    graph: nx.MultiDiGraph,
    top_k: int,
    relations: Collection[str] | None,
    layer: str | None,
    head: int | None,
    focus: Collection[str] | None = None,
) -> StrongestEdges:
    """Return the edges of the highest weights of every relation.

    Relations of the same name between other node types are separate; merged nodes count as what they stand for in
    the drawing, and as their own type in the relation.

    Args:
        graph: as `mnergraph.explain.to_networkx` makes it.
        top_k: edges per relation.
        relations: names of the relations; None for all.
        layer: the layer whose weights are read; None for the mean over all.
        head: the head whose weights are read; None for the mean over all.
        focus: only edges from or to these nodes; None for all.

    Raises:
        ValueError: for a relation or layer without weights in the graph.
    """
    by_key: dict[EdgeKey, list[DrawnEdge]] = defaultdict(list)
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
            key = graph.nodes[src]["type"], edge["relation"], graph.nodes[dst]["type"]
            by_key[key].append(DrawnEdge(*ends, key, fmean(weights)))
    if layer is not None and layer not in layers:
        raise ValueError(f"no weights of layer {layer!r}; the graph has {', '.join(sorted(layers)) or 'none'}")
    names = {name for _, name, _ in by_key}
    if unknown := set(relations or ()) - names:
        present = ", ".join(sorted(names)) or "no relation"
        raise ValueError(f"no weights of {', '.join(sorted(unknown))}; the graph has weights of {present}")
    edges, counts = [], {}
    for key, found in by_key.items():
        if relations is not None and key[1] not in relations:
            continue
        positive = [edge for edge in found if edge.weight > 0 and (focus is None or {edge.src, edge.dst} & {*focus})]
        edges += sorted(positive, key=lambda edge: -edge.weight)[:top_k]
        counts[key] = len(positive)
    drawn = {edge.key for edge in edges}
    return StrongestEdges(
        sorted(edges, key=lambda edge: edge.weight), {key: count for key, count in counts.items() if key in drawn}
    )


#: Colors of relations by what they join, so that a relation has the same color in every plot. Further relations get
#: theirs by the names of their node types.
RELATION_COLORS = {
    ("words", "words"): 0,
    ("visual", "words"): 1,
    ("visual", "visual"): 2,
    ("words", "visual"): 3,
    ("visual", "entity"): 1,
    ("entity", "visual"): 3,
    ("entity", "words"): 4,
    ("words", "entity"): 7,
}

_ROLES = {"token": "words", "text": "words", "object": "visual", "image": "visual", "visual": "visual"}


def relation_looks(graph: nx.MultiDiGraph) -> dict[EdgeKey, tuple[int, int]]:
    """Return an index of a color and one of dashes for every edge type of a graph, whether it is drawn or not.

    The color depends on the two node types, the dashes on the color and on the further relations that join the same
    two types in the model.
    """
    keys: dict[EdgeKey, None] = {}
    for key, _ in graph.graph.get("edge_stores", ()):
        keys[tuple(key)] = None
    for key in graph.graph.get("complete", ()):
        keys[tuple(key)] = None
    types = graph.nodes(data="type")
    for src, dst, edge in graph.edges(data=True):
        keys[types[src], edge["relation"], types[dst]] = None
    looks, taken = {}, Counter[int]()
    for src, name, dst in sorted(keys):
        roles = _ROLES.get(src, src), _ROLES.get(dst, dst)
        # yellow is too light for lines
        color = RELATION_COLORS.get(roles, (4, 5, 7)[stable_index(f"{src} {dst}", 3)])
        looks[src, name, dst] = color, (color + taken[color]) % len(DASHES)
        taken[color] += 1
    return looks


def focused_nodes(graph: nx.MultiDiGraph, focus: str | int | tuple[int, int]) -> list[str]:
    """Return the names of the nodes that a focus means: words with their entity nodes, or one node by its name.

    Raises:
        ValueError: for a word or node that the graph does not have.
    """
    nodes = dict(graph.nodes(data=True))
    if isinstance(focus, str):
        if focus not in nodes:
            raise ValueError(f"no node {focus!r} in the graph; give a name such as {next(iter(nodes), 'token 0')!r}")
        return [focus]
    words = word_tokens(nodes)
    start, end = (focus, focus + 1) if isinstance(focus, int) else focus
    if not 0 <= start < end <= len(words):
        raise ValueError(f"focus is on words {start} to {end - 1} of a post of {len(words)}, which count from 0")
    overlapping = [
        name
        for name, node in nodes.items()
        if node["type"] == "entity" and node["span"][0] < end and node["span"][1] > start
    ]
    return [*words[start:end], *overlapping]


def plot_graph(
    graph: nx.MultiDiGraph,
    *,
    ax: Axes | None = None,
    top_k: int = 5,
    relations: Collection[str] | None = None,
    layer: str | None = None,
    head: int | None = None,
    focus: str | int | tuple[int, int] | None = None,
    max_objects: int = 16,
) -> Figure:
    """Plot the graph of a post: words in reading order, objects and other nodes below, and the strongest edges.

    Predicted entities are marked in the sentence. Arrows point to the target node; they pass between words and
    thumbnails, never across them. Width and opacity of an arrow grow with its weight from zero; below the drawing,
    every relation has a key with weights of three widths, and how many of its edges are drawn. A relation's color and
    dashes depend on its node types and its name alone. The weight is printed at every arrow when there are few, else
    at the strongest of each relation.

    Objects are in the order in which their arrows are shortest, each below the words it is joined to. Loops are not
    drawn. A merged node is drawn as the node it stands for. Nodes of your own types are drawn as boxes with their
    labels (`NodeType.describe`), and nodes of other types where a drawn edge touches them.

    Args:
        graph: as `mnergraph.explain.attention_graph` or `to_networkx` makes it.
        ax: axes to draw into; by default those of a new figure.
        top_k: edges per relation; relations without weights have none.
        relations: names of the relations to draw; by default all.
        layer: the layer whose weights are drawn; by default the mean over all.
        head: the head whose weights are drawn; by default the mean over all. Gates have head 0 alone.
        focus: a word by its index, words by the first and the last + 1, or a node by its name, such as
            ``"object 2"``: only its strongest edges are drawn, and what they do not touch is pale. By default all
            nodes.
        max_objects: of more objects, those without a drawn edge are left out; the figure says how many.

    Returns:
        the figure.

    Raises:
        ValueError: for a relation or layer without weights in the graph, or a focus that is not in it.
    """
    nodes = graph.nodes
    centre = None if focus is None else focused_nodes(graph, focus)
    edges, counts = strongest_edges(graph, top_k, relations, layer, head, centre)
    touched = {name for edge in edges for name in (edge.src, edge.dst)} | {*(centre or ())}
    others = [name for name in nodes if name in touched and nodes[name]["type"] not in ("token", "object", "entity")]
    objects = _shown_objects(graph, edges, touched, max_objects)
    layout = layout_nodes(graph, others, [(edge.src, edge.dst) for edge in edges], objects=objects)
    rows = _key_rows(graph, edges, counts, layer, head)
    notes = _notes(graph, objects, edges, layer, head)
    columns = 2 if layout.width > 9 and len(rows) > 2 else 1
    depth = layout.height + 0.3 + _KEY * (-(-len(rows) // columns) + len(notes))
    width = max(layout.width, columns * max([_KEY_WIDTH, *(row.width for row in rows)]))
    size = width + 2 * MARGIN + 0.1, depth + 0.2
    figure: Figure
    if ax is None:
        figure = NotebookFigure(figsize=size)
        ax = figure.add_axes((0, 0, 1, 1))
    else:
        figure, ax = axes(ax, size)
    ax.set(xlim=(-MARGIN - 0.05, width + MARGIN + 0.05), ylim=(depth + 0.1, -0.1), aspect="equal")
    ax.set_axis_off()
    canvas = _Canvas(ax, _font_scale(ax, figure, size))
    quiet = {*layout.boxes} - touched if centre is not None else set()
    for mark in layout.marks:
        canvas.mark(mark, quiet=_is_quiet(layout, mark, quiet))
    images = sum(node["type"] == "image" for node in nodes.values())
    thumbnails = Thumbnails(graph.graph.get("pair") or {}, images=images)
    labelled = {*labelled_types(graph)}
    for name, box in layout.boxes.items():
        if nodes[name]["type"] in ("token", "entity"):
            bold = nodes[name]["type"] == "entity" or name in (centre or ())
            canvas.words(box, bold=bold, framed=nodes[name]["type"] == "entity", quiet=name in quiet)
        elif nodes[name]["type"] in labelled:
            canvas.label(box, quiet=name in quiet)
        else:
            canvas.square(box, nodes[name], thumbnails.crop(nodes[name]), quiet=name in quiet)
    for x, y, text in layout.captions:
        canvas.text(x, y, text, SMALL, weight="bold", ha="left")
    looks = relation_looks(graph)
    _draw_edges(canvas, layout, edges, looks)
    _draw_key(canvas, layout, rows, notes, looks, columns, width)
    return figure


def _shown_objects(
    graph: nx.MultiDiGraph, edges: Sequence[DrawnEdge], touched: Collection[str], max_objects: int
) -> list[str]:
    """The objects to draw, those of the strongest edges first; of many, only those that an edge touches."""
    names = [name for name, node in graph.nodes(data=True) if node["type"] == "object"]
    if len(names) > max_objects:
        spare = max(0, max_objects - sum(name in touched for name in names))
        idle = [name for name in names if name not in touched][:spare]
        names = [name for name in names if name in touched or name in idle]
    strength = {end: edge.weight for edge in edges for end in (edge.src, edge.dst)}
    return sorted(names, key=lambda name: -strength.get(name, 0.0))


class _KeyRow(NamedTuple):
    """A relation's row of the key: its highest weight and its text."""

    key: EdgeKey
    highest: float
    text: str
    width: float


#: Height of a row of the key, width of its samples, and least width of a column, in inches.
_KEY, _SAMPLES, _KEY_WIDTH = 0.21, 1.95, 3.8


def _key_rows(
    graph: nx.MultiDiGraph,
    edges: Sequence[DrawnEdge],
    counts: Mapping[EdgeKey, int],
    layer: str | None,
    head: int | None,
) -> list[_KeyRow]:
    rows = []
    for key in sorted(counts, key=lambda key: (key[0], key[2], key[1])):
        weights = [edge.weight for edge in edges if edge.key == key]
        src, name, dst = (ellipsize(part, 20) for part in key)
        of = f"{len(weights)} strongest of {counts[key]}" if len(weights) < counts[key] else f"all {counts[key]}"
        text = f"{src} → {dst} ({name}): {of} edge{'s' if counts[key] != 1 else ''}"
        rows.append(_KeyRow(key, max(weights), text, _SAMPLES + text_inches(text, 8.0) + 0.2))
    return rows


def _notes(
    graph: nx.MultiDiGraph, objects: Sequence[str], edges: Sequence[DrawnEdge], layer: str | None, head: int | None
) -> list[str]:
    """What the numbers are, and what is not drawn."""
    notes = []
    if edges:
        where = "all layers" if layer is None else f"layer {layer}"
        which = f"head {head}" if head is not None else "all heads"
        mean = "mean over " if layer is None or head is None else ""
        notes.append(f"Weights: {mean}{where}, {which}. Width and opacity grow from 0 to a relation's highest weight.")
    else:
        notes.append("No weights along an edge of this post are recorded.")
    total = sum(node["type"] == "object" for _, node in graph.nodes(data=True))
    if left_out := total - len(objects):
        notes.append(f"{left_out} of {total} objects, which no drawn edge touches, are left out.")
    return notes


def _font_scale(ax: Axes, figure: Figure, size: tuple[float, float]) -> float:
    """The ratio of the axes' size to the size that the drawing was laid out for."""
    engine = figure.get_layout_engine()
    if engine is not None:
        engine.execute(figure)
    position = ax.get_position()
    inches = figure.get_size_inches()
    return float(min(1.0, max(0.3, min(position.width * inches[0] / size[0], position.height * inches[1] / size[1]))))


def _is_quiet(layout: GraphLayout, mark: EntityMark, quiet: Collection[str]) -> bool:
    inside = [
        name
        for name, box in layout.boxes.items()
        if mark.x <= box.center[0] <= mark.x + mark.width and mark.y <= box.center[1] <= mark.y + mark.height
    ]
    return all(name in quiet for name in inside)


#: Opacity of what is not in focus.
_QUIET = 0.25


class _Canvas:
    """Draws nodes; fonts are scaled with the drawing."""

    def __init__(self, ax: Axes, scale: float) -> None:
        self.ax, self.scale = ax, scale

    def text(self, x: float, y: float, text: str, points: float, **values: Any) -> None:
        centered: dict[str, Any] = {"ha": "center", "va": "center", "zorder": 4}
        font: dict[str, Any] = {"parse_math": False, "fontfamily": families(), "fontsize": points * self.scale}
        self.ax.text(x, y, text, **{**centered, **font, **values})

    def mark(self, mark: EntityMark, *, quiet: bool) -> None:
        """The field of an entity's words with its type below them."""
        color, alpha = type_color(mark.type), _QUIET if quiet else 1.0
        corner, size = (mark.x, mark.y), (mark.width, mark.height)
        self.ax.add_patch(Rectangle(corner, *size, facecolor=_pale(color), edgecolor=color, alpha=alpha, zorder=1))
        x, y = mark.x + mark.width / 2, mark.y + mark.height - 0.075
        self.text(x, y, mark.text, SMALL, weight="bold", alpha=alpha)

    def words(self, box: NodeBox, *, bold: bool, framed: bool, quiet: bool) -> None:
        """A token, or an entity node in a frame."""
        alpha = _QUIET if quiet else 1.0
        if framed:
            self._frame(box, "-", alpha)
        weight = "bold" if bold else "normal"
        self.text(*box.center, box.text, WORD, weight=weight, alpha=alpha)

    def label(self, box: NodeBox, *, quiet: bool) -> None:
        """A node of a type of the user's own."""
        alpha = _QUIET if quiet else 1.0
        self._frame(box, "-", alpha)
        self.text(*box.center, box.text, SMALL, alpha=alpha)

    def square(self, box: NodeBox, node: Mapping[str, Any], crop: Image.Image | None, *, quiet: bool) -> None:
        """An object, an image or a node of another type, with its crop if it has one, and its caption below it."""
        alpha = _QUIET if quiet else 1.0
        if crop is not None:
            extent = (box.x, box.x + box.width, box.y + box.height, box.y)
            self.ax.imshow(crop, extent=extent, aspect="equal", alpha=alpha, zorder=2)
        dashed = crop is None and not node.get("box")
        self._frame(box, "--" if dashed else "-", alpha, fill=crop is None)
        if crop is None:
            note = "no crop" if node.get("box") else "no box" if node["type"] == "object" else ""
            self.text(*box.center, note, 6, alpha=alpha, color="#555555")
        self.text(box.center[0], box.y + box.height + 0.09, box.text, SMALL, alpha=alpha)

    def _frame(self, box: NodeBox, dashes: str, alpha: float, *, fill: bool = True) -> None:
        frame = Rectangle((box.x, box.y), box.width, box.height, edgecolor="black", linewidth=0.8, zorder=3)
        frame.set(facecolor="white" if fill else "none", linestyle=dashes, alpha=alpha)
        self.ax.add_patch(frame)


def _pale(color: str) -> tuple[float, ...]:
    return tuple(0.25 * part + 0.75 for part in to_rgb(color))


def _line_width(share: float) -> float:
    return 0.5 + 2.6 * share


def _opacity(share: float) -> float:
    return 0.3 + 0.65 * share


#: Up to so many arrows have their weights printed each; of more, the strongest of each relation.
_FEW = 12


def _draw_edges(
    canvas: _Canvas, layout: GraphLayout, edges: Sequence[DrawnEdge], looks: Mapping[EdgeKey, tuple[int, int]]
) -> None:
    """Arrows, and weights beside them where there is space."""
    highest: dict[EdgeKey, float] = {edge.key: edge.weight for edge in edges}  # the last is the highest
    paths = route_edges(layout, [(edge.src, edge.dst) for edge in edges])
    for edge, path in zip(edges, paths, strict=True):
        color, dash = looks[edge.key]
        share = edge.weight / highest[edge.key]
        canvas.ax.add_patch(
            FancyArrowPatch(
                path=path,
                arrowstyle="-|>",
                mutation_scale=(5 + 4 * share) * canvas.scale,
                facecolor=COLORS[color],
                edgecolor=COLORS[color],
                linestyle=DASHES[dash],
                linewidth=_line_width(share) * canvas.scale,
                alpha=_opacity(share),
                joinstyle="miter",
                zorder=2,
            )
        )
    taken = [(box.x - box.reach, box.y, box.x + box.width + box.reach, box.bottom) for box in layout.boxes.values()]
    taken += [(mark.x, mark.y, mark.x + mark.width, mark.y + mark.height) for mark in layout.marks]
    for edge, path in reversed(list(zip(edges, paths, strict=True))):
        if len(edges) > _FEW and edge.weight < highest[edge.key]:
            continue
        text = weight_text(edge.weight)
        half = text_inches(text, 6.5) / 2 + 0.02, 0.055
        for x, y in points_along(path, (0.5, 0.42, 0.58, 0.34, 0.66, 0.26, 0.74, 0.18, 0.82)):
            field = (x - half[0], y - half[1], x + half[0], y + half[1])
            if not any(_overlap(field, other) for other in taken):
                taken.append(field)
                background: dict[str, Any] = {"facecolor": "white", "edgecolor": "none", "pad": 0.6, "alpha": 0.85}
                canvas.text(x, y, text, 6.5, color=_dark(COLORS[looks[edge.key][0]]), bbox=background)
                break


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _dark(color: str) -> tuple[float, ...]:
    return tuple(0.65 * part for part in to_rgb(color))


def _draw_key(
    canvas: _Canvas,
    layout: GraphLayout,
    rows: Sequence[_KeyRow],
    notes: Sequence[str],
    looks: Mapping[EdgeKey, tuple[int, int]],
    columns: int,
    width: float,
) -> None:
    """For every relation lines of three widths with their weights, its name, and the numbers of edges."""
    top = layout.height + 0.3
    per_column = -(-len(rows) // columns)
    for index, row in enumerate(rows):
        column, line = divmod(index, per_column)
        x, y = column * width / columns, top + (line + 0.5) * _KEY
        color, dash = looks[row.key]
        for place, share in enumerate((1 / 3, 2 / 3, 1.0)):
            left = x + place * _SAMPLES / 3
            sample = Line2D([left, left + 0.28], [y, y], color=COLORS[color], linestyle=DASHES[dash])
            sample.set(linewidth=_line_width(share) * canvas.scale, alpha=_opacity(share), solid_capstyle="butt")
            canvas.ax.add_line(sample)
            canvas.text(left + 0.31, y, weight_text(row.highest * share), 6.5, ha="left")
        canvas.text(x + _SAMPLES, y, row.text, 8, ha="left")
    for index, note in enumerate(notes):
        canvas.text(0, top + (per_column + index + 0.5) * _KEY, note, SMALL, ha="left", color="#555555")
