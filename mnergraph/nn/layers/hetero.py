"""Layers that take a Graph and return a Graph, and the residuals and feed-forwards they are made of."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.nn import HeteroConv, MessagePassing

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.state import GraphState


class Add(nn.Module):
    """x + message."""

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return x + message


class AddNorm(nn.Module):
    """LayerNorm(x + dropout(message)) (Vaswani et al., 2017, section 3.1).

    Args:
        width: of both.
        dropout: on the message.
        eps: what the norm adds to the variance; BERT's layers have 1e-12.
    """

    def __init__(self, width: int, dropout: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(width, eps=eps), nn.Dropout(dropout)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        return self.norm(x + self.dropout(message))


class FeedForward(nn.Module):
    """Position-wise: LayerNorm(x + dropout(W_2 f(W_1 x + b_1) + b_2)) (Vaswani et al., 2017, eq. 2).

    Args:
        width: of the nodes.
        hidden: inside.
        dropout: on the result, before the residual.
        activation: f, a ReLU as in Vaswani et al.; BERT's layers have a GELU.
        eps: of the norm, as in `AddNorm`.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.activation, self.residual = activation, AddNorm(width, dropout, eps)

    def forward(self, x: Tensor) -> Tensor:
        return self.residual(x, self.outer(self.activation(self.inner(x))))


class NodeTypeModule(nn.Module):
    """A layer that treats every node alone: one module for each node type, other types pass."""

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.types = nn.ModuleDict(modules)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(**{kind: module(graph.x[kind]) for kind, module in self.types.items()})


class FeatureModule(nn.Module):
    """A layer that hands features, by name, to a module of tensors, and keeps what it returns.

    Args:
        module: takes as many tensors as names are read.
        in_keys: names of features: node types, or what another layer wrote; the result is of the first's nodes.
        write: under which name the result is kept.
    """

    def __init__(self, module: nn.Module, *, in_keys: Sequence[str], out_key: str) -> None:
        super().__init__()
        self.module, self.in_keys, self.out_key = module, tuple(in_keys), out_key

    def forward(self, graph: GraphState) -> GraphState:
        found = self.module(*(graph.x[name] for name in self.in_keys))
        return graph.with_features(self.out_key, found, like=self.in_keys[0])


class HeteroLayer(nn.Module):
    """One operator along each relation, messages aggregated by receiver type, all read from the same state.

    Takes what PyG's HeteroConv takes, ``{edge type: operator}`` and ``aggr``, without its traps: node types
    that received no message stay, a relation that the graph lacks is refused, and an operator is passed only
    what it takes. An operator is one of ours, ``(dst, src, edges) -> dst``, or any convolution of PyG.

    Args:
        operators: by edge type (source, name, target).
        aggr: ``"sum"``, ``"mean"`` or ``"max"`` over the relations that reach one node type.
        combine: makes, for each receiving node type, the module that joins old features and message;
            by default the message replaces the features.
    """

    def __init__(
        self,
        operators: Mapping[EdgeType, nn.Module],
        aggr: str = "sum",
        combine: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if aggr not in _AGGREGATE:
            raise ValueError(f"aggr is one of {', '.join(_AGGREGATE)}, not {aggr!r}")
        self.relations = list(operators)
        self.operators = nn.ModuleList(operators.values())
        self.aggr = aggr
        receivers = dict.fromkeys(dst for _, _, dst in self.relations)
        self.combine = nn.ModuleDict({kind: combine() for kind in receivers} if combine else {})

    def forward(self, graph: GraphState) -> GraphState:
        messages: dict[str, list[Tensor]] = {}
        for key, operator in zip(self.relations, self.operators, strict=True):
            if key not in graph.edges:
                raise KeyError(f"{key} is not in the graph, which has {', '.join(map(str, graph.edges))}")
            src, dst = graph.x[key[0]], graph.x[key[2]]
            call = _call_pyg if isinstance(operator, MessagePassing) else _call
            messages.setdefault(key[2], []).append(call(operator, dst, src, graph.edges[key], key))
        new = {}
        for kind, found in messages.items():
            message = found[0] if len(found) == 1 else _AGGREGATE[self.aggr](torch.stack(found))
            new[kind] = self.combine[kind](graph.x[kind], message) if self.combine else message
        return graph.update(**new)


def _call(operator: nn.Module, dst: Tensor, src: Tensor, edges: Edges, key: EdgeType) -> Tensor:
    return operator(dst, src, edges)


def _call_pyg(operator: nn.Module, dst: Tensor, src: Tensor, edges: Edges, key: EdgeType) -> Tensor:
    """A convolution of PyG, handed the edges' kinds and geometry where it takes them."""
    takes = inspect.signature(operator.forward).parameters
    # a convolution made without edge_dim has no use for geometry; TransformerConv would add it to messages
    attr = edges.attr if getattr(operator, "edge_dim", 0) is not None else None
    offered = {"edge_type": edges.type, "edge_attr": attr}
    given = {name: value for name, value in offered.items() if name in takes and value is not None}
    return operator(dst if key[0] == key[2] else (src, dst), edges.index, **given)


_AGGREGATE: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stacked: stacked.sum(0),
    "mean": lambda stacked: stacked.mean(0),
    "max": lambda stacked: stacked.amax(0),
}


class HeteroConvLayer(nn.Module):
    """A module of PyG that maps ``(x_dict, edge_index_dict)`` to features, HeteroConv for one, in a stack.

    Node types that it forgets keep their features.
    """

    def __init__(self, module: HeteroConv) -> None:
        super().__init__()
        self.module = module

    def forward(self, graph: GraphState) -> GraphState:
        relations = list(self.module.convs.keys())
        absent = [key for key in relations if key not in graph.edges]
        if absent:
            raise KeyError(f"{absent} is not in the graph, which has {', '.join(map(str, graph.edges))}")
        index = {key: graph.edges[key].index for key in relations}
        return graph.update(**self.module(dict(graph.x), index))


class RelationModule(nn.Module):
    """One operator along one relation, between any features of its senders and receivers.

    Args:
        relation: whose senders and receivers these are; the graph's schema must hold it.
        operator: ``(dst, src, edges) -> dst``.
        dst_key: name of the receivers' features; by default their node type.
        src_key: name of the senders' features; by default their node type.
        out_key: under which name the result is kept; by default the receivers' own.
    """

    def __init__(
        self,
        relation: EdgeType,
        operator: nn.Module,
        *,
        dst_key: str | None = None,
        src_key: str | None = None,
        out_key: str | None = None,
    ) -> None:
        super().__init__()
        self.relation, self.operator = relation, operator
        self.src_key, self.dst_key = src_key or relation[0], dst_key or relation[2]
        self.out_key = out_key or self.dst_key

    def forward(self, graph: GraphState) -> GraphState:
        if self.relation not in graph.edges:
            raise KeyError(f"{self.relation} is not in the graph, which has {', '.join(map(str, graph.edges))}")
        heard = self.operator(graph.x[self.dst_key], graph.x[self.src_key], graph.edges[self.relation])
        return graph.with_features(self.out_key, heard, like=self.relation[2])


class PositionalEncoding(nn.Module):
    """Adds the sinusoidal position encoding to nodes of one type (Vaswani et al., 2017, section 3.5).

    PE(p, 2i) = sin(p / 10000^(2i / width)),  PE(p, 2i + 1) = cos of the same.
    """

    def __init__(self, kind: str = "token") -> None:
        super().__init__()
        self.kind = kind

    def forward(self, graph: GraphState) -> GraphState:
        x = graph.x[self.kind]
        even = torch.arange(0, x.shape[-1], 2, device=x.device)
        rate = torch.exp(even * (-math.log(10000.0) / x.shape[-1]))
        # [nodes, width / 2]
        angle = graph.layouts[self.kind].position[:, None] * rate
        both = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, : x.shape[-1]]
        return graph.update(**{self.kind: x + both.to(x.dtype)})


class CopyFeatures(nn.Module):
    """Keeps the features of a node type under another name, for a later layer."""

    def __init__(self, in_key: str, out_key: str) -> None:
        super().__init__()
        self.in_key, self.out_key = in_key, out_key

    def forward(self, graph: GraphState) -> GraphState:
        return graph.with_features(self.out_key, graph.x[self.in_key], like=self.in_key)
