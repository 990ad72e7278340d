"""The edges of a graph that are worth drawing: the strongest of every relation."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from statistics import fmean
from typing import NamedTuple

import networkx as nx


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
        raise ValueError(
            f"no layer {layer!r} weighed anything; there is {', '.join(sorted(layers)) or 'none'}"
        )
    names = {name for _, name, _ in found}
    if strange := set(relations or ()) - names:
        there = ", ".join(sorted(names)) or "nothing"
        raise ValueError(f"no weights of {', '.join(sorted(strange))}; there are some of {there}")
    chosen = [edges for (_, name, _), edges in found.items() if relations is None or name in relations]
    best = [edge for edges in chosen for edge in sorted(edges, key=lambda edge: -edge.weight)[:most]]
    return sorted((edge for edge in best if edge.weight > 0), key=lambda edge: edge.weight)
