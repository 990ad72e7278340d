"""Where the nodes of a post's graph are drawn: entities above their words, objects beneath."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import networkx as nx

from mnergraph.explain.plots.style import ellipsize, right_to_left, text_width

#: In inches: size of the letters, widest row of words, side of an object's crop, and distances.
LETTER, ROW, CROP, GAP = 0.125, 11.0, 0.85, 0.16


_LINE, _LIFT, _BETWEEN = 0.26, 0.34, 1.1


@dataclass(frozen=True)
class Place:
    """A node's rectangle in inches from the left and from the top, what is written there, and room below."""

    x: float
    y: float
    width: float
    height: float
    text: str
    foot: float = 0.0

    @property
    def centre(self) -> tuple[float, float]:
        return self.x + self.width / 2, self.y + self.height / 2


def bands(graph: nx.MultiDiGraph, others: Iterable[str]) -> tuple[dict[str, Place], tuple[float, float]]:
    """The place of every node, and width and height of them all.

    Words stand in reading order, from the right where the script is read so, and go on in a further row where
    one is full. An entity that is a node stands above the first row of its words.

    Args:
        graph: as `mnergraph.explain.to_networkx` makes it.
        others: nodes of further types that are to be drawn; they get bands of their own, at the bottom.
    """
    nodes = dict(graph.nodes(data=True))
    words = [name for name, told in nodes.items() if told["type"] == "token"]
    texts = {name: ellipsize(nodes[name].get("word", nodes[name]["type"])) for name in words}
    spans = {name: told["span"] for name, told in nodes.items() if told["type"] == "entity"}
    # a word in an entity has room for the entity's type above it
    least = {name: 0.62 if "entity" in nodes[name] else 0.0 for name in words}
    rows = _folded(words, [max(text_width(texts[name]) * LETTER, least[name]) + GAP for name in words])
    width = max([4.0, *(sum(w for _, w in row) for row in rows)])
    backwards = right_to_left(texts.values())
    places, y = {}, 0.1
    first = _first_words(nodes, words, spans)
    for row in rows:
        lift = any(first.get(span) in dict(row) for span in spans)
        y += _LIFT * (1.6 if lift else 1.0)  # room for entities
        x = 0.0
        for name, wide in row:
            left = width - x - wide if backwards else x
            places[name] = Place(left + GAP / 2, y, wide - GAP, _LINE, texts[name])
            x += wide
        y += _LINE + GAP
    for name, word in first.items():
        at, text = places[word], ellipsize(nodes[name]["word"], most=16)
        wide = text_width(text) * LETTER
        while any(p.y == at.y - 2.1 * _LINE and abs(p.x - at.x) < 0.2 for p in places.values()):
            at = Place(at.x + 0.3, at.y, at.width, at.height, "")
        places[name] = Place(at.x, at.y - 2.1 * _LINE, wide, _LINE, text)
    y += _BETWEEN
    objects = [name for name, told in nodes.items() if told["type"] == "object"]
    wanted = list(others)
    y = _grid(places, objects, nodes, y, width, CROP)
    for kind in dict.fromkeys(nodes[name]["type"] for name in wanted):
        some = [name for name in wanted if nodes[name]["type"] == kind]
        y = _grid(places, some, nodes, y + GAP, width, CROP if kind == "image" and len(some) < 4 else CROP / 2)
    right = max((place.x + place.width for place in places.values()), default=width)
    return places, (max(width, right), y)


def _folded(names: Sequence[str], widths: Sequence[float]) -> list[list[tuple[str, float]]]:
    """Names with their widths in rows, none of them wider than `ROW`."""
    rows: list[list[tuple[str, float]]] = [[]]
    for name, wide in zip(names, widths, strict=True):
        if rows[-1] and sum(w for _, w in rows[-1]) + wide > ROW:
            rows.append([])
        rows[-1].append((name, wide))
    return rows


def _first_words(
    nodes: Mapping[str, Mapping[str, Any]], words: Sequence[str], spans: Mapping[str, Sequence[int]]
) -> dict[str, str]:
    """For every entity node the token of its first word."""
    written = [name for name in words if "word" in nodes[name]]
    return {name: written[min(span[0], len(written) - 1)] for name, span in spans.items() if written}


def _grid(
    places: dict[str, Place],
    names: Sequence[str],
    nodes: Mapping[str, Mapping[str, Any]],
    y: float,
    width: float,
    side: float,
) -> float:
    """Puts nodes in rows as long as the picture is wide; where they end."""
    if not names:
        return y
    step = side + GAP
    room = max(1, int((width + GAP) / step))
    rows = -(-len(names) // room)
    each = -(-len(names) // rows)
    for number, name in enumerate(names):
        row, column = divmod(number, each)
        in_row = min(each, len(names) - row * each)
        left = (width - in_row * step + GAP) / 2 + column * step
        told = nodes[name]
        text = ellipsize(told.get("label") or f"{told['type']} {told['index']}", most=max(8, int(12 * side / CROP)))
        places[name] = Place(left, y + row * (side + 2 * GAP), side, side, text, foot=GAP)
    return y + rows * (side + 2 * GAP)
