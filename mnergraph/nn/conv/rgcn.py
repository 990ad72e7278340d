"""Relational graph convolution over labelled edges."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch_geometric.nn.inits import glorot

from mnergraph.graph.layout import Edges


class RelationalConvolution(nn.Module):
    """Every receiver sums its senders, each through the matrix of its edge's label (HamLearning, eq. 5).

    out_i = b + sum over edges j -> i with label r of W_r x_j

    W, "with regard to the edge direction and label", is one matrix for each label of the edge j -> i. What is
    joined is joined both ways, and the label of i -> j follows from that of j -> i (inside and cover,
    opposite angles), so matrices for outgoing edges would add nothing.

    The R-GCN of Schlichtkrull et al. (2018, eq. 2) without its self-loop and its normalisation: what PyG's
    ``RGCNConv(width, width, labels, aggr="add", root_weight=False)`` computes, and its parameters fit.
    Senders are summed by receiver and label first, and each label's sums pass its matrix; one product of all
    labels, receivers that hear nobody under a label among them, took up to twice as long. A receiver without
    edges gets b.

    Args:
        hidden_size: features of senders, receivers and messages.
        num_edge_types: how many labels ``edges.type`` counts.
    """

    def __init__(self, hidden_size: int, num_edge_types: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_edge_types, hidden_size, hidden_size))
        self.bias = nn.Parameter(torch.zeros(hidden_size))
        glorot(self.weight)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, width]`` -> ``[dst nodes, width]``.

        Raises:
            ValueError: when the edges have no labels.
        """
        if edges.type is None:
            raise ValueError("RelationalConvolution needs labelled edges; this relation's have no type")
        senders, receivers = edges.index
        num_edge_types, nodes = len(self.weight), edges.dst.num_nodes
        # every (label, receiver) is a place, in the order of the labels; those that hear somebody get a row
        place = edges.type * nodes + receivers
        heard = place.new_zeros(num_edge_types * nodes, dtype=torch.bool).index_fill(0, place, True)
        row = heard.cumsum(0) - 1
        counts = heard.view(num_edge_types, nodes).sum(1).tolist()
        # [rows, width]
        sums = x_src.new_zeros(sum(counts), x_src.shape[-1]).index_add(0, row[place], x_src[senders])
        by_label = zip(sums.split(counts), self.weight, strict=True)
        messages = torch.cat([summed @ weight for summed, weight in by_label])
        out = self.bias.to(messages.dtype).repeat(nodes, 1)
        return out.index_add(0, heard.nonzero()[:, 0] % nodes, messages)
