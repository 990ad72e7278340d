"""Routes of arrows between the nodes of a drawing that cross no node and no text."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from matplotlib.path import Path

from mnergraph.explain.plots.graph_layout import GraphLayout, NodeBox, Strip, arc_height, spread

#: Distance between two arrows in one gap, and least width of a gap that an arrow may pass, in inches.
_APART, _PASS = 0.035, 0.06
#: Width of the margin left and right of the drawing, through which arrows may pass.
MARGIN = 0.3


class _Passage(NamedTuple):
    """A place where an arrow crosses a row: index of the row, ends of the free space, wanted position."""

    strip: int
    low: float
    high: float
    x: float


@dataclass
class _Route:
    """An arrow's way from its upper to its lower end."""

    upper: str
    lower: str
    is_arc: bool
    passages: list[_Passage] = field(default_factory=list)
    xs: list[float] = field(default_factory=list)
    ends: dict[str, float] = field(default_factory=dict)


def route_edges(layout: GraphLayout, edges: Sequence[tuple[str, str]]) -> list[Path]:
    """Return for every edge the path of its arrow, in inches.

    Arrows leave and reach nodes from above or from below. Between two rows they curve; a row they cross straight, in a
    gap between its nodes. Between nodes of one row they are arcs: above words, below other nodes. Arrows that meet
    at a node or share a gap are side by side.

    Args:
        layout: where the nodes are.
        edges: source and target of every edge.
    """
    routes = [_passed(layout, *edge) for edge in edges]
    _share_gaps(routes)
    _share_sides(layout, routes)
    return [_path(layout, route, src == route.upper) for route, (src, _) in zip(routes, edges, strict=True)]


def _passed(layout: GraphLayout, src: str, dst: str) -> _Route:
    """The route with the gaps that it passes, each as near as possible to the straight line."""
    boxes = layout.boxes
    upper, lower = sorted((src, dst), key=lambda name: (boxes[name].strip, boxes[name].x))
    first, last = boxes[upper], boxes[lower]
    route = _Route(upper, lower, first.strip == last.strip)
    for index in range(first.strip + 1, last.strip):
        strip = layout.strips[index]
        share = (strip.top - first.bottom) / max(last.y - first.bottom, 1e-6)
        wanted = first.center[0] + share * (last.center[0] - first.center[0])
        low, high = min(_gaps(strip, layout.width), key=lambda gap: abs(min(max(wanted, gap[0]), gap[1]) - wanted))
        route.passages.append(_Passage(index, low, high, min(max(wanted, low), high)))
    return route


def _gaps(strip: Strip, width: float) -> list[tuple[float, float]]:
    """The free spaces of a row, from the left, less the room that a line itself needs."""
    at, gaps = -MARGIN, []
    for left, right in sorted(strip.taken):
        if left - at >= _PASS:
            gaps.append((at + _PASS / 2, left - _PASS / 2))
        at = max(at, right)
    return [*gaps, (at + _PASS / 2, max(at, width) + MARGIN)]


def _share_gaps(routes: Sequence[_Route]) -> None:
    """Set where each route crosses rows, so that routes in one gap are side by side."""
    by_gap: dict[tuple[int, float], list[tuple[_Route, int]]] = defaultdict(list)
    for route in routes:
        route.xs = [passage.x for passage in route.passages]
        for number, passage in enumerate(route.passages):
            by_gap[passage.strip, passage.low].append((route, number))
    for users in by_gap.values():
        users.sort(key=lambda user: user[0].xs[user[1]])
        low, high = users[0][0].passages[users[0][1]][1:3]
        apart = min(_APART, (high - low) / max(1, len(users) - 1))
        wanted = [route.xs[number] - low for route, number in users]
        for (route, number), x in zip(users, spread(wanted, [0.0] * len(users), high - low, apart), strict=True):
            route.xs[number] = low + x


def _share_sides(layout: GraphLayout, routes: Sequence[_Route]) -> None:
    """Set where each route leaves and reaches its nodes, side by side along the side of a node."""
    by_side: dict[tuple[str, bool], list[tuple[tuple[float, ...], int, _Route]]] = defaultdict(list)
    for number, route in enumerate(routes):
        for name, other in ((route.upper, route.lower), (route.lower, route.upper)):
            x, there = layout.boxes[name].center[0], layout.boxes[other].center[0]
            if route.is_arc:
                below = not layout.strips[layout.boxes[name].strip].arcs_above
                # the wider of two arcs encloses the other
                key: tuple[float, ...] = (0, abs(there - x)) if there < x else (1, -abs(there - x))
            else:
                below = name == route.upper
                towards = route.xs[0 if below else -1] if route.xs else there
                key = (0.5, towards)
            by_side[name, below].append((key, number, route))
    for (name, _), users in by_side.items():
        box = layout.boxes[name]
        step = min(0.1, 0.8 * box.width / len(users))
        for place, (_, _, route) in enumerate(sorted(users, key=lambda user: user[:2])):
            route.ends[name] = box.center[0] + (place - (len(users) - 1) / 2) * step


def _path(layout: GraphLayout, route: _Route, downwards: bool) -> Path:
    first, last = layout.boxes[route.upper], layout.boxes[route.lower]
    x1, x2 = route.ends[route.upper], route.ends[route.lower]
    if route.is_arc:
        y, high = _arc(layout.strips[first.strip], first, last)
        vertices = [(x1, y), (x1, y + high), (x2, y + high), (x2, y)]
        codes = [Path.MOVETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    else:
        vertices, codes = [(x1, first.bottom)], [Path.MOVETO]
        at, y = x1, layout.strips[first.strip].bottom
        _line(vertices, codes, (at, y))
        for passage, x in zip(route.passages, route.xs, strict=True):
            strip = layout.strips[passage.strip]
            _curve(vertices, codes, at, y, x, strip.top)
            _line(vertices, codes, (x, strip.bottom))
            at, y = x, strip.bottom
        _curve(vertices, codes, at, y, x2, layout.strips[last.strip].top)
        _line(vertices, codes, (x2, last.y))
    path = Path(np.array(vertices), codes)
    return path if downwards else Path(np.array(vertices[::-1]), codes_backwards(codes))


def _arc(strip: Strip, first: NodeBox, last: NodeBox) -> tuple[float, float]:
    """Where an arc begins and how far its control points are from there; negative upwards."""
    high = 4 / 3 * arc_height(abs(first.x - last.x))
    return (strip.top, -high) if strip.arcs_above else (strip.bottom, high)


def _curve(
    vertices: list[tuple[float, float]], codes: list[np.uint8], x1: float, y1: float, x2: float, y2: float
) -> None:
    """A curve between two rows, vertical at both ends."""
    middle = (y1 + y2) / 2
    vertices += [(x1, middle), (x2, middle), (x2, y2)]
    codes += [Path.CURVE4] * 3


def _line(vertices: list[tuple[float, float]], codes: list[np.uint8], to: tuple[float, float]) -> None:
    if abs(vertices[-1][1] - to[1]) > 1e-9:
        vertices.append(to)
        codes.append(Path.LINETO)


def codes_backwards(codes: Sequence[np.uint8]) -> list[np.uint8]:
    """Return the codes of a path whose vertices are reversed."""
    return [Path.MOVETO, *reversed(list(codes)[1:])]


def points_along(path: Path, shares: Sequence[float]) -> list[tuple[float, float]]:
    """Return the points at these shares of a path's length, 0 to 1."""
    # flattened at a scale at which the steps are small
    flat = np.asarray(Path(np.asarray(path.vertices) * 200, path.codes).to_polygons(closed_only=False)[0]) / 200
    lengths = np.concatenate([[0.0], np.hypot(*np.diff(flat, axis=0).T).cumsum()])
    at = np.asarray(shares) * lengths[-1]
    return [(float(x), float(y)) for x, y in zip(*(np.interp(at, lengths, axis) for axis in flat.T), strict=True)]
