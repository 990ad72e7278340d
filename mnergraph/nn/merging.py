"""Nodes of several types as nodes of one."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from mnergraph.graph import Edges, EdgeType, Layout
from mnergraph.nn.state import Graph


class MergeNodes(nn.Module):
    """The nodes of several types, post by post, become the nodes of one more type (GEI, eq. 5: [I; O]).

    Relations of the new type reach them all alike, so that one softmax runs over them.

    Args:
        of: the types, in the order in which their nodes lie within a post.
        out: the new type; the schema's relations name it. Its complete relations follow by themselves.
        later: its other relations, which get no edges until a later layer draws them.
    """

    def __init__(self, of: Sequence[str], out: str, *, later: Sequence[EdgeType] = ()) -> None:
        super().__init__()
        self.of, self.out, self.later = tuple(of), out, tuple(later)

    def forward(self, graph: Graph) -> Graph:
        parts = [graph.layouts[kind] for kind in self.of]
        merged = Layout(torch.stack([part.ptr for part in parts]).sum(0))
        # a stable sort by post keeps the order of the types and that of their nodes
        order = torch.cat([part.sentence for part in parts]).argsort(stable=True)
        x = torch.cat([graph.x[kind] for kind in self.of]).index_select(0, order)
        layouts = {**graph.layouts, self.out: merged}
        nothing = order.new_zeros(2, 0)
        edges = {key: Edges(layouts[key[0]], layouts[key[2]], nothing) for key in self.later}
        return graph.grow(self.out, x, merged, edges)
