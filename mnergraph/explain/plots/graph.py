"""The edges of a graph that are worth drawing: the strongest of every relation."""

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

from mnergraph.explain.plots.graph_layout import Place, bands
from mnergraph.explain.plots.style import COLOURS, DASHES, axes, styles, write
from mnergraph.explain.plots.thumbnails import Thumbnails


class Edge(NamedTuple):
    """An edge to draw: nodes by name, relation with the types of its ends, and weight."""

    src: str
    dst: str
    kind: tuple[str, str, str]
    weight: float

    @property
    def relation(self) -> str:
        return self.kind[1]


def strongest_edges(
    graph: nx.MultiDiGraph, most: int, relations: Collection[str] | None, layer: str | None, head: int | None
) -> list[Edge]:
    """Of every relation its strongest edges, the weakest first, so that the strong lie on top.

    Relations of one name between other types, as there and back, are chosen apart.
    """
    found: dict[tuple[str, str, str], list[Edge]] = defaultdict(list)
    layers: set[str] = set()
    stands = {name: told["stands_for"] for name, told in graph.nodes(data=True) if "stands_for" in told}
    for src, dst, told in graph.edges(data=True):
        weighed = {
            **{at: [value] for at, value in told.get("mean_gate", {}).items()},
            **told.get("attention", {}),
        }
        layers |= set(weighed)
        heads = [
            w
            for at, some in weighed.items()
            if layer in (None, at)
            for w in (some if head is None else some[head : head + 1])
        ]
        ends = stands.get(src, src), stands.get(dst, dst)
        if heads and ends[0] != ends[1]:
            kind = graph.nodes[ends[0]]["type"], told["relation"], graph.nodes[ends[1]]["type"]
            found[kind].append(Edge(*ends, kind, fmean(heads)))
    if layer is not None and layer not in layers:
        raise ValueError(f"no layer {layer!r} weighed anything; there is {', '.join(sorted(layers)) or 'none'}")
    names = {name for _, name, _ in found}
    if strange := set(relations or ()) - names:
        there = ", ".join(sorted(names)) or "nothing"
        raise ValueError(f"no weights of {', '.join(sorted(strange))}; there are some of {there}")
    chosen = [edges for (_, name, _), edges in found.items() if relations is None or name in relations]
    best = [edge for edges in chosen for edge in sorted(edges, key=lambda edge: -edge.weight)[:most]]
    return sorted((edge for edge in best if edge.weight > 0), key=lambda edge: edge.weight)


def plot_graph(
    graph: nx.MultiDiGraph,
    *,
    ax: Axes | None = None,
    strongest: int = 12,
    relations: Collection[str] | None = None,
    layer: str | None = None,
    head: int | None = None,
) -> Figure:
    """The graph of a post: entities above their words, objects beneath, the strongest edges of each relation.

    Words are marked with the entities found. Every relation has its colour and its dashes; the strongest edge
    of each is the thickest, and an arrow leads to who hears; there and back are two relations. Loops are not
    drawn. A merged node is drawn as the node it stands for, and a node of another type where an edge that is
    drawn touches it.

    Args:
        graph: as `mnergraph.explain.attention_graph` or `to_networkx` makes it.
        ax: axes to draw into; a new figure without.
        strongest: how many edges of each relation; of relations that nobody weighed none are drawn.
        relations: names of those to draw; by default all.
        layer: the layer whose weights count; by default the mean over all.
        head: likewise the head; gates have head 0 alone.

    Raises:
        ValueError: for a relation or layer that the graph has no weights of.
    """
    edges = strongest_edges(graph, strongest, relations, layer, head)
    nodes = graph.nodes
    shown = {name for edge in edges for name in (edge.src, edge.dst)}
    others = [name for name in nodes if name in shown and nodes[name]["type"] not in ("token", "object", "entity")]
    places, (width, height) = bands(graph, others)
    figure, ax = axes(ax, (width + 0.4, height + 1.1))
    scale = _fit(ax, figure, width, height)
    ax.set(xlim=(-0.2, width + 0.2), ylim=(height + 0.4, -0.15), aspect="equal")
    ax.set_axis_off()
    looks = styles(edge.relation for edge in edges)
    for edge in edges:
        _arrow(
            ax,
            edge,
            places,
            looks[edge.relation],
            max(e.weight for e in edges if e.kind == edge.kind),
        )
    images = sum(told["type"] == "image" for told in nodes.values())
    crops = Thumbnails(graph.graph.get("pair") or {}, images=images)
    for name, place in places.items():
        _node(ax, place, nodes[name], crops, scale)
    tokens = [name for name in nodes if nodes[name]["type"] == "token"]
    _mark_entities(ax, [(nodes[name], places[name]) for name in tokens], scale)
    lines = [
        Line2D([], [], color=COLOURS[look], linestyle=DASHES[look], label=relation) for relation, look in looks.items()
    ]
    if lines:
        ax.legend(handles=lines, loc="upper center", bbox_to_anchor=(0.5, 0), ncols=4, frameon=False)
    return figure


def _fit(ax: Axes, figure: Figure, width: float, height: float) -> float:
    """How much smaller the axes are than the drawing was measured for: letters shrink with them."""
    box = ax.get_position()
    room = figure.get_size_inches()
    return min(1.0, max(0.4, min(box.width * room[0] / width, box.height * room[1] / height) * 1.12))


def _arrow(ax: Axes, edge: Edge, places: Mapping[str, Place], look: int, most: float) -> None:
    (x1, y1), (x2, y2) = (_edge_of(places[a], places[b]) for a, b in ((edge.src, edge.dst), (edge.dst, edge.src)))
    share = edge.weight / most
    level = abs(y1 - y2) < 0.05
    # between neighbours of a band a bow hangs below it
    bow = min(0.5, 1.0 / max(abs(x1 - x2), 0.1)) * (1 if x2 > x1 else -1) if level else 0.06
    ax.add_patch(
        FancyArrowPatch(
            (x1, y1),
            (x2, y2),
            connectionstyle=f"arc3,rad={bow}",
            arrowstyle="-|>",
            mutation_scale=7 + 3 * share,
            color=COLOURS[look],
            linestyle=DASHES[look],
            linewidth=0.4 + 2.4 * share,
            alpha=0.35 + 0.6 * share,
            shrinkA=1,
            shrinkB=1,
            zorder=1,
        )
    )


def _edge_of(place: Place, other: Place) -> tuple[float, float]:
    """Where a line to another node leaves this one: on the other's side, or below what is written there."""
    x, y = place.centre
    level = abs(place.centre[1] - other.centre[1]) < 0.05
    down = level or other.centre[1] > y
    return x, place.y + (place.height + (place.foot if level else 0) if down else 0)


def _node(ax: Axes, place: Place, told: Mapping[str, Any], crops: Thumbnails, scale: float) -> None:
    x, y = place.centre
    if told["type"] == "token":
        # a line that passes behind a word leaves it legible; an entity's field stays seen
        ground = None if "entity" in told else {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
        ax.text(
            x,
            y,
            s=place.text,
            ha="center",
            va="center",
            fontsize=9 * scale,
            zorder=3,
            bbox=ground,
            **_plain(),
        )
        return
    if told["type"] == "entity":
        ax.text(
            x,
            y,
            s=place.text,
            ha="center",
            va="center",
            fontsize=9 * scale,
            zorder=4,
            weight="bold",
            bbox={"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": "black"},
            **_plain(),
        )
        return
    picture = crops.of(told)
    right, bottom = place.x + place.width, place.y + place.height
    if picture is not None:
        ax.imshow(picture, extent=(place.x, right, bottom, place.y), aspect="equal", zorder=2)
    dashed = picture is None and not told.get("box")
    frame = Rectangle((place.x, place.y), place.width, place.height, edgecolor="black", zorder=3)
    frame.set(facecolor="white" if picture is None else "none", linestyle="--" if dashed else "-")
    ax.add_patch(frame)
    at = (x, bottom + 0.03, "top") if picture is not None else (x, y, "center")
    text = place.text if picture is not None else place.text.replace(" ", "\n")
    ax.text(at[0], at[1], s=text, ha="center", va=at[2], fontsize=7 * scale, zorder=4, **_plain())


def _mark_entities(ax: Axes, tokens: Sequence[tuple[Mapping[str, Any], Place]], scale: float) -> None:
    """A coloured field behind the words of an entity, its type and probability above."""
    looks = styles(told["entity"] for told, _ in tokens if "entity" in told)

    def same(one: tuple[Mapping[str, Any], Place]) -> tuple[Any, ...]:
        return one[0].get("entity"), one[0].get("entity_score"), one[1].y

    for (kind, score, _), found in groupby(tokens, same):
        if kind is None:
            continue
        of = [place for _, place in found]
        left, right = min(p.x for p in of) - 0.05, max(p.x + p.width for p in of) + 0.05
        colour = COLOURS[looks[kind]]
        ax.add_patch(Rectangle((left, of[0].y), right - left, of[0].height, facecolor=colour, alpha=0.25, zorder=0))
        ax.add_patch(Rectangle((left, of[0].y), right - left, of[0].height, fill=False, edgecolor=colour, zorder=2))
        ax.text(
            left,
            of[0].y - 0.03,
            s=f"{kind} {score:.2f}",
            fontsize=7 * scale,
            va="bottom",
            weight="bold",
            **_plain(),
        )


def _plain() -> dict[str, Any]:
    return {name: value for name, value in write("").items() if name != "text"}
