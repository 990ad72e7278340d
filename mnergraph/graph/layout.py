"""Two readings of the same thing: nodes flat or padded, a relation as an index or as a mask.

Axis words: *sentences* in the batch, *slots* of the longest sentence, *nodes* of one type in the whole batch.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor


class Layout:
    """Where the nodes of one type lie: flat rows ``[nodes]`` or padded slots ``[sentences, slots]``.

    Args:
        ptr: ``[sentences + 1]``; sentence s owns the rows ``ptr[s]`` to ``ptr[s + 1]`` (not included).
    """

    def __init__(self, ptr: Tensor) -> None:
        self.ptr = ptr

    @property
    def num_graphs(self) -> int:
        return self.ptr.numel() - 1

    @cached_property
    def counts(self) -> Tensor:
        """Nodes of every sentence, ``[sentences]``."""
        return self.ptr[1:] - self.ptr[:-1]

    @cached_property
    def num_nodes(self) -> int:
        """Nodes in the whole batch."""
        return int(self.ptr[-1])

    @cached_property
    def max_nodes(self) -> int:
        """Nodes of the longest sentence."""
        return int(self.counts.max()) if self.num_graphs else 0

    @cached_property
    def graph_index(self) -> Tensor:
        """The sentence that every node belongs to, ``[nodes]``."""
        places = torch.arange(self.num_graphs, device=self.ptr.device)
        return places.repeat_interleave(self.counts, output_size=self.num_nodes)

    @cached_property
    def position(self) -> Tensor:
        """The place of every node within its sentence, from 0, ``[nodes]``."""
        return torch.arange(self.num_nodes, device=self.ptr.device) - self.ptr[self.graph_index]

    @cached_property
    def dense_index(self) -> Tensor:
        """The padded slot of every node, counted through all sentences, ``[nodes]``."""
        return self.graph_index * self.max_nodes + self.position

    @cached_property
    def mask(self) -> Tensor:
        """Which slots hold a node, ``[sentences, slots]``, bool."""
        return torch.arange(self.max_nodes, device=self.ptr.device) < self.counts[:, None]

    @cached_property
    def is_dense(self) -> bool:
        """Whether every slot of every sentence holds a node: then padding is a view."""
        return self.num_nodes == self.num_graphs * self.max_nodes

    def to_dense(self, x: Tensor, fill: float = 0.0) -> Tensor:
        """Flat to padded: ``[nodes, ...] -> [sentences, slots, ...]``, empty slots filled."""
        shape = (self.num_graphs, self.max_nodes, *x.shape[1:])
        if self.is_dense:
            return x.reshape(shape)
        return x.new_full((shape[0] * shape[1], *shape[2:]), fill).index_copy(0, self.dense_index, x).view(shape)

    def to_flat(self, x: Tensor) -> Tensor:
        """Padded to flat: ``[sentences, slots, ...] -> [nodes, ...]``."""
        rows = x.flatten(0, 1)
        return rows if self.is_dense else rows.index_select(0, self.dense_index)


class Edges:
    """One relation of one batch, read as a sparse index or as a dense mask, each made when asked for.

    Args:
        src: layout of the senders.
        dst: layout of the receivers.
        index: ``[2, edges]``, sender row above receiver row, no pair twice; None for a complete relation,
            where every sender reaches every receiver of its sentence.
        type: ``[edges]``, the kind of each edge, where the relation has kinds.
        attr: ``[edges, geometry]``, numbers on each edge, where the relation has any.
        layout: forces ``"dense"`` or ``"sparse"``; None lets the share of joined pairs decide.
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
        """The same edges with the reading forced: ``"dense"``, ``"sparse"``, or None to let them choose."""
        return Edges(self.src, self.dst, self._index, type=self.type, attr=self.attr, layout=layout)

    @property
    def complete(self) -> bool:
        """Whether every sender reaches every receiver of its sentence, so that no index is kept."""
        return self._index is None

    @cached_property
    def num_possible_edges(self) -> int:
        """Sender-receiver pairs that lie in one sentence, joined or not."""
        return int((self.src.counts * self.dst.counts).sum())

    @cached_property
    def density(self) -> float:
        """Share of the pairs that are joined, 0 to 1; 1 where there is no pair at all."""
        if self._index is None or self.num_possible_edges == 0:
            return 1.0
        return self._index.shape[1] / self.num_possible_edges

    def is_dense(self, above: float) -> bool:
        """Whether to read the mask: forced, or because at least this share of the pairs is joined."""
        return self._layout == "dense" if self._layout else self.density >= above

    @cached_property
    def index(self) -> Tensor:
        """``[2, edges]``: sender rows above receiver rows."""
        if self._index is not None:
            return self._index
        sentence, dst, src = self.mask.nonzero(as_tuple=True)
        return torch.stack([self.src.ptr[sentence] + src, self.dst.ptr[sentence] + dst])

    @cached_property
    def mask(self) -> Tensor:
        """``[sentences, dst slots, src slots]``, bool: which receiver hears which sender."""
        if self._index is None:
            return self.dst.mask[:, :, None] & self.src.mask[:, None, :]
        mask = self.dst.mask.new_zeros(self.dst.num_graphs, self.dst.max_nodes, self.src.max_nodes)
        mask[self.dense_index] = True
        return mask

    @cached_property
    def dense_index(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where each edge lies in the mask: sentence, dst slot, src slot, each ``[edges]``."""
        src, dst = self.index
        return self.dst.graph_index[dst], self.dst.position[dst], self.src.position[src]

    @cached_property
    def has_incoming(self) -> Tensor:
        """Which receivers hear anybody, ``[sentences, dst slots]``, bool."""
        if self._index is None:
            return self.dst.mask & (self.src.counts > 0)[:, None]
        return self.mask.any(-1)

    @cached_property
    def receivers(self) -> Tensor:
        """The receivers that hear anybody, in order, ``[hearers]``."""
        return self.dst.to_flat(self.has_incoming).nonzero()[:, 0]
