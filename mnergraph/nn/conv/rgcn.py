"""Relational graph convolution over typed edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import glorot

from mnergraph.graph.layout import Edges


class RelationalConvolution(nn.Module):
    """Sum of the source nodes' features, each multiplied by the matrix of its edge's type (HamLearning, eq. 5).

    out_i = b + sum over edges j -> i with type r of W_r x_j

    W, "with regard to the edge direction and label", is one matrix for each type of the edge j -> i. Every edge has a
    reverse edge whose type follows from its own (inside and cover, opposite angles), so that further matrices for
    outgoing edges would add nothing.

    This is the R-GCN of Schlichtkrull et al. (2018, eq. 2) without self-loop and normalization, the same function of
    the same parameters as PyG's ``RGCNConv(hidden_size, hidden_size, num_edge_types, aggr="add", root_weight=False)``.
    Source nodes are first summed by target node and type, and each type's sums are multiplied by its matrix; one
    matrix product over all types and target nodes took up to twice as long. A target node without incoming edges
    gets b.

    Args:
        hidden_size: features of source and target nodes and of the result.
        num_edge_types: number of edge types; ``edges.type`` is 0 to ``num_edge_types - 1``.
    """

    def __init__(self, hidden_size: int, num_edge_types: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_edge_types, hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        glorot(self.weight)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden_size]``, ``[dst nodes, any]`` -> ``[dst nodes, hidden_size]``.

        Raises:
            ValueError: when the edges have no types.
        """
        if edges.type is None:
            raise ValueError(
                "RelationalConvolution needs edge types, and this relation's edges have none; Spatial gives them"
            )
        src, dst = edges.index
        num_edge_types, num_dst = len(self.weight), edges.dst.num_nodes
        # one segment for every (edge type, target node), by type; rows are the segments that have edges
        segment = edges.type * num_dst + dst
        has_edges = segment.new_zeros(num_edge_types * num_dst, dtype=torch.bool).index_fill(0, segment, True)
        row = has_edges.cumsum(0) - 1
        counts = has_edges.view(num_edge_types, num_dst).sum(1).tolist()
        # [rows, hidden_size]
        sums = x_src.new_zeros(sum(counts), x_src.shape[-1]).index_add(0, row[segment], x_src[src])
        by_type = zip(sums.split(counts), self.weight, strict=True)
        messages = torch.cat([summed @ weight for summed, weight in by_type])
        out = self.bias.to(messages.dtype).repeat(num_dst, 1)
        return out.index_add(0, has_edges.nonzero()[:, 0] % num_dst, messages)
