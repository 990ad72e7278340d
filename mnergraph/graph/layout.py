"""Batched nodes, flat or padded, and batched edges, as an index or as a mask.

Axes: *graphs* of the batch, one per post; *max nodes*, nodes of one type in the largest graph; *nodes*, those of one
type in the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from mnergraph.graph.cached import cached_property


class Layout:
    """How the nodes of one type are distributed over the graphs of a batch.

    Converts node features between flat ``[nodes, ...]`` and padded ``[graphs, max nodes, ...]``.

    Args:
        ptr: ``[graphs + 1]``, int64; the rows of graph g are ``ptr[g]`` to ``ptr[g + 1]`` (exclusive), as in PyG.
    """

    def __init__(self, ptr: Tensor) -> None:
        self.ptr = ptr

    @property
    def num_graphs(self) -> int:
        """Number of graphs in the batch."""
        return self.ptr.numel() - 1

    @cached_property
    def counts(self) -> Tensor:
        """Number of nodes of every graph, ``[graphs]``."""
        return self.ptr[1:] - self.ptr[:-1]

    @cached_property
    def num_nodes(self) -> int:
        """Number of nodes in the batch."""
        return int(self.ptr[-1])

    @cached_property
    def max_nodes(self) -> int:
        """Number of nodes of the largest graph."""
        return int(self.counts.max()) if self.num_graphs else 0

    @cached_property
    def min_nodes(self) -> int:
        """Number of nodes of the smallest graph."""
        return int(self.counts.min()) if self.num_graphs else 0

    @cached_property
    def graph_index(self) -> Tensor:
        """Index of the graph that every node belongs to, ``[nodes]``."""
        graphs = torch.arange(self.num_graphs, device=self.ptr.device)
        return graphs.repeat_interleave(self.counts, output_size=self.num_nodes)

    @cached_property
    def position(self) -> Tensor:
        """Index of every node within its graph, from 0, ``[nodes]``."""
        return torch.arange(self.num_nodes, device=self.ptr.device) - self.ptr[self.graph_index]

    @cached_property
    def dense_index(self) -> Tensor:
        """Index of every node in the flattened padded tensor ``[graphs * max nodes]``, ``[nodes]``."""
        return self.graph_index * self.max_nodes + self.position

    @cached_property
    def mask(self) -> Tensor:
        """Which entries of a padded tensor are nodes, ``[graphs, max nodes]``, bool."""
        return torch.arange(self.max_nodes, device=self.ptr.device) < self.counts[:, None]

    @cached_property
    def is_dense(self) -> bool:
        """Whether all graphs have the same number of nodes, so that `to_dense` is a view."""
        return self.num_nodes == self.num_graphs * self.max_nodes

    def to_dense(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Return ``[nodes, ...]`` padded with ``fill``, ``[graphs, max nodes, ...]``."""
        shape = (self.num_graphs, self.max_nodes, *x.shape[1:])
        if self.is_dense:
            return x.reshape(shape)
        return x.new_full((shape[0] * shape[1], *shape[2:]), fill).index_copy(0, self.dense_index, x).view(shape)

    def to_flat(self, x: Tensor) -> Tensor:
        """Return padded ``[graphs, max nodes, ...]`` without its padding, ``[nodes, ...]``."""
        rows = x.flatten(0, 1)
        return rows if self.is_dense else rows.index_select(0, self.dense_index)


class Edges:
    """The edges of one relation in a batch, as a sparse index or as a dense mask; each is computed on first use.

    Args:
        src: layout of the source nodes.
        dst: layout of the target nodes.
        index: ``[2, edges]``, int64, source row above target row, no edge twice; None for a fully connected relation,
            where every source node reaches every target node of its graph.
        type: ``[edges]``, int64, edge types; None for a relation without.
        attr: ``[edges, features]``, edge features; None for a relation without.
        layout: ``"dense"`` or ``"sparse"`` for what operators use; None lets the share of edges decide.
    """

    def __init__(
        self,
        src: Layout,
        dst: Layout,
        index: Tensor | None = None,
        *,
        type: Tensor | None = None,
        attr: Tensor | None = None,
        layout: str | None = None,
    ) -> None:
        self.src, self.dst, self.type, self.attr = src, dst, type, attr
        self._index, self._layout = index, layout

    def with_layout(self, layout: str | None) -> Edges:
        """Return the same edges for operators to use ``"dense"`` or ``"sparse"``, or as the share of edges decides."""
        return Edges(self.src, self.dst, self._index, type=self.type, attr=self.attr, layout=layout)

    @property
    def complete(self) -> bool:
        """Whether the relation is fully connected within each graph; then no index is stored."""
        return self._index is None

    @cached_property
    def num_possible_edges(self) -> int:
        """Number of pairs of a source and a target node of the same graph."""
        return int((self.src.counts * self.dst.counts).sum())

    @cached_property
    def density(self) -> float:
        """Edges as a share of the possible edges, 0 to 1; 1 if no edge is possible."""
        if self._index is None or self.num_possible_edges == 0:
            return 1.0
        return self._index.shape[1] / self.num_possible_edges

    def is_dense(self, above: float) -> bool:
        """Return whether an operator is to use the mask: by ``layout``, else for a density of at least ``above``."""
        return self._layout == "dense" if self._layout else self.density >= above

    @cached_property
    def index(self) -> Tensor:
        """Edge index ``[2, edges]``, source row above target row."""
        if self._index is not None:
            return self._index
        graph, dst, src = self.mask.nonzero(as_tuple=True)
        return torch.stack([self.src.ptr[graph] + src, self.dst.ptr[graph] + dst])

    @cached_property
    def mask(self) -> Tensor:
        """Which target node has an edge from which source node, ``[graphs, max dst nodes, max src nodes]``, bool."""
        if self._index is None:
            return self.dst.mask[:, :, None] & self.src.mask[:, None, :]
        mask = self.dst.mask.new_zeros(self.dst.num_graphs, self.dst.max_nodes, self.src.max_nodes)
        mask[self.dense_index] = True
        return mask

    @cached_property
    def dense_index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Index of each edge in `mask`: graph, target position, source position, ``[edges]`` each."""
        src, dst = self.index
        return self.dst.graph_index[dst], self.dst.position[dst], self.src.position[src]

    @cached_property
    def has_incoming(self) -> Tensor:
        """Which target nodes have incoming edges, ``[graphs, max dst nodes]``, bool."""
        if self._index is None:
            return self.dst.mask & (self.src.counts > 0)[:, None]
        return self.mask.any(-1)

    @property
    def reaches_all(self) -> bool:
        """Whether it is known without a look at the edges that all target nodes have incoming ones."""
        return self._index is None and self.src.min_nodes > 0

    @cached_property
    def receivers(self) -> Tensor:
        """Rows of the target nodes that have incoming edges, in order, ``[receivers]``."""
        return self.dst.to_flat(self.has_incoming).nonzero()[:, 0]
