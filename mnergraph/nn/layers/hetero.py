"""Layers from `GraphState` to `GraphState` along relations or by node type, and residual and feed-forward modules."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch_geometric.nn import HANConv, HeteroConv, HGTConv, MessagePassing

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.state import GraphState


class Add(nn.Module):
    """Residual connection: x + message."""

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> ``[nodes, hidden_size]``."""
        return x + message


class AddNorm(nn.Module):
    """LayerNorm(x + dropout(message)) (Vaswani et al., 2017, section 3.1).

    Args:
        hidden_size: features of x and the message.
        dropout: dropout rate of the message.
        eps: added to the variance by the layer norm; 1e-12 in BERT.
    """

    def __init__(self, hidden_size: int, dropout: float = 0.0, eps: float = 1e-5) -> None:
        super().__init__()
        self.norm, self.dropout = nn.LayerNorm(hidden_size, eps=eps), nn.Dropout(dropout)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` twice -> ``[nodes, hidden_size]``."""
        return self.norm(x + self.dropout(message))


class FeedForward(nn.Module):
    """Position-wise feed-forward: LayerNorm(x + dropout(W_2 f(W_1 x + b_1) + b_2)) (Vaswani et al., 2017, eq. 2).

    Args:
        hidden_size: features of the nodes.
        intermediate_size: features of the hidden layer.
        dropout: dropout rate of the result, before the residual.
        activation: f, a ReLU in Vaswani et al., a GELU in BERT.
        eps: added to the variance by the layer norm, as in `AddNorm`.
    """

    def __init__(
        self,
        hidden_size: int,
        intermediate_size: int,
        dropout: float = 0.0,
        activation: Callable[[Tensor], Tensor] = torch.relu,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(hidden_size, intermediate_size), nn.Linear(intermediate_size, hidden_size)
        self.activation, self.residual = activation, AddNorm(hidden_size, dropout, eps)

    def forward(self, x: Tensor) -> Tensor:
        """``[nodes, hidden_size]`` -> ``[nodes, hidden_size]``."""
        return self.residual(x, self.outer(self.activation(self.inner(x))))


class NodeTypeModule(nn.Module):
    """One module per node type, applied to its features; features of other types are unchanged.

    Args:
        modules: by node type, ``[nodes, in_channels] -> [nodes, out_channels]``.
    """

    def __init__(self, modules: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.types = nn.ModuleDict(modules)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with new features of these node types."""
        return graph.update(**{node_type: module(graph.x[node_type]) for node_type, module in self.types.items()})


class FeatureModule(nn.Module):
    """A module of tensors between named features.

    Args:
        module: takes as many tensors as there are ``in_keys``, all of the same nodes.
        in_keys: names of features: node types, or the ``out_key`` of another layer.
        out_key: name of the result, features of the nodes of the first of ``in_keys``.
    """

    def __init__(self, module: nn.Module, *, in_keys: Sequence[str], out_key: str) -> None:
        super().__init__()
        self.module, self.in_keys, self.out_key = module, tuple(in_keys), out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the result under ``out_key``."""
        x = self.module(*(graph.x[key] for key in self.in_keys))
        return graph.with_features(self.out_key, x, nodes_of=self.in_keys[0])


class HeteroLayer(nn.Module):
    """One operator along each relation; messages are aggregated by receiving node type.

    All operators get the features of the same state. Arguments are those of PyG's HeteroConv, ``{edge type: operator}``
    and ``aggr``, but features of node types that received no message are kept, a relation that the graph lacks is an
    error, and an operator is passed only the arguments that it has.

    Args:
        operators: by edge type (source, name, target): operators of this package,
            ``(x_src, x_dst, edges) -> x_dst``, or convolutions of PyG.
        aggr: ``"sum"``, ``"mean"`` or ``"max"`` over the relations into one node type.
        residual: returns, for each receiving node type, a new module ``(x, message) -> x``; by default the message
            replaces the features.

    Raises:
        ValueError: for an unknown ``aggr``, or a convolution over all relations at once (HGTConv, HANConv), for which
            there is `HeteroConvLayer`.
    """

    def __init__(
        self,
        operators: Mapping[EdgeType, nn.Module],
        aggr: str = "sum",
        residual: Callable[[], nn.Module] | None = None,
    ) -> None:
        super().__init__()
        if aggr not in _AGGREGATE:
            raise ValueError(f"aggr is one of {', '.join(_AGGREGATE)}, not {aggr!r}")
        for key, operator in operators.items():
            if next(iter(inspect.signature(operator.forward).parameters), "") == "x_dict":
                raise ValueError(
                    f"{type(operator).__name__} along {key} takes all node types and relations at once; "
                    f"use HeteroConvLayer({type(operator).__name__}(...))"
                )
        self.relations = list(operators)
        self.operators = nn.ModuleList(operators.values())
        self.aggr = aggr
        receivers = dict.fromkeys(dst for _, _, dst in self.relations)
        self.residual = nn.ModuleDict({node_type: residual() for node_type in receivers} if residual else {})

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with new features of the receiving node types.

        Raises:
            KeyError: for a relation that the graph lacks.
            ValueError: for a convolution that needs edge types which the relation's edges do not have.
        """
        messages: dict[str, list[Tensor]] = {}
        for key, operator in zip(self.relations, self.operators, strict=True):
            edges = _edges_of(graph, key)
            x_src, x_dst = graph.x[key[0]], graph.x[key[2]]
            if isinstance(operator, MessagePassing):
                x = x_dst if key[0] == key[2] else (x_src, x_dst)
                message = operator(x, edges.index, **_edge_arguments(operator, edges, key))
            else:
                message = operator(x_src, x_dst, edges)
            messages.setdefault(key[2], []).append(message)
        new = {}
        for node_type, received in messages.items():
            message = received[0] if len(received) == 1 else _AGGREGATE[self.aggr](torch.stack(received))
            new[node_type] = self.residual[node_type](graph.x[node_type], message) if self.residual else message
        return graph.update(**new)


class HeteroConvLayer(nn.Module):
    """A module of PyG that maps ``(x_dict, edge_index_dict)`` to node features, in a stack.

    HeteroConv of any convolutions (RGCNConv too: edge types and edge features are passed to those that take
    them), HGTConv, HANConv, and what `torch_geometric.nn.to_hetero` returns. Node types that the module returns
    nothing for keep their features.

    Args:
        module: the module.
        relations: the edge types to pass; by default those that the module was made for, which a module of
            `to_hetero` does not keep.

    Raises:
        ValueError: for a module that does not keep its relations, without ``relations``.
    """

    def __init__(self, module: nn.Module, *, relations: Sequence[EdgeType] | None = None) -> None:
        super().__init__()
        self.module = module
        self.relations = list(_relations_of(module) if relations is None else relations)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the module's features.

        Raises:
            KeyError: for relations that the graph lacks.
            ValueError: for a convolution that needs edge types which the relation's edges do not have.
        """
        edges = {key: _edges_of(graph, key) for key in self.relations}
        node_types = dict.fromkeys(end for key in self.relations for end in (key[0], key[2]))
        x_dict = {node_type: graph.x[node_type] for node_type in node_types}
        index = {key: relation.index for key, relation in edges.items()}
        extra: dict[str, dict[EdgeType, Tensor]] = {}
        if isinstance(self.module, HeteroConv):
            for key, conv in self.module.convs.items():
                for name, values in _edge_arguments(conv, edges[key], key).items():
                    extra.setdefault(f"{name}_dict", {})[key] = values
        new = self.module(x_dict, index, **extra)
        return graph.update(**{node_type: x for node_type, x in new.items() if x is not None})


def _relations_of(module: nn.Module) -> list[EdgeType]:
    if isinstance(module, HeteroConv):
        return list(module.convs.keys())
    if isinstance(module, HGTConv):
        return list(module.edge_types)
    if isinstance(module, HANConv):
        return list(module.metadata[1])
    raise ValueError(
        f"{type(module).__name__} does not keep the relations that it was made for: give "
        "HeteroConvLayer(module, relations=schema.metadata()[1]) or those that it was made for"
    )


def _edges_of(graph: GraphState, key: EdgeType) -> Edges:
    if key not in graph.edges:
        raise KeyError(f"{key} is not in the graph, which has {', '.join(map(str, graph.edges))}")
    return graph.edges[key]


def _edge_arguments(conv: nn.Module, edges: Edges, key: EdgeType) -> dict[str, Tensor]:
    """Return the edge types and edge features that a convolution of PyG takes, by argument name."""
    parameters = inspect.signature(conv.forward).parameters
    # a convolution made without edge_dim does not use edge features; TransformerConv would add them to messages
    attr = edges.attr if getattr(conv, "edge_dim", 0) is not None else None
    if "edge_type" in parameters and edges.type is None:
        raise ValueError(
            f"{type(conv).__name__} needs a type for every edge, and those of {key} have none: use an edge rule "
            "that returns EdgeSet(edge_index, edge_type), as Spatial does"
        )
    offered = {"edge_type": edges.type, "edge_attr": attr}
    return {name: values for name, values in offered.items() if name in parameters and values is not None}


_AGGREGATE: dict[str, Callable[[Tensor], Tensor]] = {
    "sum": lambda stacked: stacked.sum(0),
    "mean": lambda stacked: stacked.mean(0),
    "max": lambda stacked: stacked.amax(0),
}


class RelationModule(nn.Module):
    """One operator along one relation, between any features of its source and target nodes.

    Args:
        relation: the edge type; the graph's schema must have it.
        operator: ``(x_src, x_dst, edges) -> x_dst``.
        dst_key: name of the target nodes' features; by default their node type.
        src_key: name of the source nodes' features; by default their node type.
        out_key: name of the result, features of the target nodes; by default ``dst_key``.
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

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses."""
        return [self.relation]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the operator's result under ``out_key``.

        Raises:
            KeyError: when the graph lacks the relation.
        """
        edges = _edges_of(graph, self.relation)
        x = self.operator(graph.x[self.src_key], graph.x[self.dst_key], edges)
        return graph.with_features(self.out_key, x, nodes_of=self.relation[2])


class PositionalEncoding(nn.Module):
    """Add the sinusoidal position encoding to nodes of one type (Vaswani et al., 2017, section 3.5).

    PE(p, 2i) = sin(p / 10000^(2i / hidden_size)),  PE(p, 2i + 1) = cos of the same.

    Args:
        node_type: the node type; p is a node's position in its post, from 0.
    """

    def __init__(self, node_type: str = "token") -> None:
        super().__init__()
        self.node_type = node_type

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the encoding added to the node type's features."""
        x = graph.x[self.node_type]
        even = torch.arange(0, x.shape[-1], 2, device=x.device)
        rate = torch.exp(even * (-math.log(10000.0) / x.shape[-1]))
        # [nodes, hidden_size / 2]
        angle = graph.layouts[self.node_type].position[:, None] * rate
        encoding = torch.stack([angle.sin(), angle.cos()], -1).flatten(1)[:, : x.shape[-1]]
        return graph.update(**{self.node_type: x + encoding.to(x.dtype)})


class CopyFeatures(nn.Module):
    """Copy features to another name, for a later layer.

    Args:
        in_key: the features to copy.
        out_key: the name of the copy.
    """

    def __init__(self, in_key: str, out_key: str) -> None:
        super().__init__()
        self.in_key, self.out_key = in_key, out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the copy."""
        return graph.with_features(self.out_key, graph.x[self.in_key], nodes_of=self.in_key)
