"""The state of a batch of graphs between the layers of a model: every layer takes one and returns a new one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from mnergraph.graph.cached import cached_property
from mnergraph.graph.collate import EdgeType, collate, layouts, with_pair
from mnergraph.graph.layout import Edges, Layout
from mnergraph.graph.schema import Schema


@dataclass(frozen=True)
class GraphState:
    """A batch of graphs with the node features, edges and scores computed so far. Immutable.

    Features are kept by name: under their node type, or under another name that a layer declares (`with_features`).

    Args:
        data: the batch as it was built; never changed.
        x: features by name, ``[nodes, hidden_size]``.
        edges: the edges of every relation of the schema, by edge type.
        layouts: the layout of every node type.
        emissions: scores by task, ``[tokens, labels]``.
        feature_types: node type of the features whose name is not a node type.
        merged_from: for node types whose nodes stand for those of others, the names of these.
        views: for heads that compare predictions, by name what computes the last graph of another view of the same
            posts, see `view`.
    """

    data: Batch
    x: Mapping[str, Tensor] = field(default_factory=dict)
    edges: Mapping[EdgeType, Edges] = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    emissions: Mapping[str, Tensor] = field(default_factory=dict)
    feature_types: Mapping[str, str] = field(default_factory=dict)
    merged_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    views: Mapping[str, Callable[[], GraphState]] = field(default_factory=dict)

    @classmethod
    def from_batch(cls, data: HeteroData | Batch, schema: Schema) -> GraphState:
        """Return the state before the first layer, without features.

        Args:
            data: a graph or a batch of graphs, of `collate` or of PyG's ``DataLoader``, with their pairs or with plain
                values in the place of these.
            schema: the schema with which the graphs were built.

        Raises:
            KeyError: when the batch lacks a node type or relation of the schema.
        """
        batch = with_pair(data if isinstance(data, Batch) else collate([data]))
        by_type = layouts(batch)
        missing = [node_type for node_type in schema.nodes if node_type not in by_type]
        if missing:
            raise KeyError(f"the batch has no {', '.join(missing)}; its node types are {', '.join(by_type)}")
        edges = {}
        for relation in schema:
            ends = by_type[relation.src], by_type[relation.dst]
            if relation.rule.fully_connected:
                edges[relation.key] = Edges(*ends)
                continue
            if relation.key not in batch.edge_types:
                raise KeyError(f"the batch has no relation {relation}; build its graphs with this schema")
            store = batch[relation.key]
            edges[relation.key] = Edges(
                *ends, store.edge_index, type=store.get("edge_type"), attr=store.get("edge_attr")
            )
        return cls(batch, edges=edges, layouts=by_type)

    def update(self, **x: Tensor) -> GraphState:
        """Return the state with new features of node types, or of names that `with_features` has declared."""
        return replace(self, x={**self.x, **x})

    def with_edges(self, edges: Mapping[EdgeType, Edges]) -> GraphState:
        """Return the state with new edges of relations that the graph has.

        Raises:
            KeyError: for a relation that the graph does not have.
        """
        unknown = [key for key in edges if key not in self.edges]
        if unknown:
            raise KeyError(f"{unknown} is not in the graph, which has {', '.join(map(str, self.edges))}")
        return replace(self, edges={**self.edges, **edges})

    def without_edges(self, *relations: EdgeType) -> GraphState:
        """Return the state in which these relations have no edges; those that the graph does not have are ignored."""
        empty = {}
        for relation in relations:
            edges = self.edges.get(relation)
            if edges is not None and edges.index.shape[1]:
                type_, attr = (None if x is None else x[:0] for x in (edges.type, edges.attr))
                empty[relation] = Edges(edges.src, edges.dst, edges.index[:, :0], type=type_, attr=attr)
        return replace(self, edges={**self.edges, **empty})

    def view(self, name: str) -> GraphState:
        """Return the last graph of another view of the same posts, computed by the same layers.

        Raises:
            KeyError: for a view that the model does not have.
        """
        if name not in self.views:
            known = ", ".join(self.views) or "none"
            raise KeyError(f"the graph has no view {name!r}; it has {known}")
        return self.views[name]()

    def replace_nodes(self, node_type: str, x: Tensor, layout: Layout, edges: Mapping[EdgeType, Edges]) -> GraphState:
        """Return the state with new nodes of one type in place of its old ones, such as GEI's entities.

        Args:
            node_type: the node type.
            x: features of the new nodes, ``[nodes, hidden_size]``.
            layout: the layout of the new nodes.
            edges: the edges of all relations from or to the node type; fully connected ones may be left out.

        Raises:
            ValueError: for another number of rows than nodes, or a relation whose edges are not given.
        """
        if x.shape[0] != layout.num_nodes:
            raise ValueError(f"{x.shape[0]} rows of features for {layout.num_nodes} nodes of type {node_type}")
        layouts = {**self.layouts, node_type: layout}
        old = [key for key in self.edges if node_type in (key[0], key[2]) and key not in edges]
        stale = [key for key in old if not self.edges[key].complete]
        if stale:
            raise ValueError(f"replacing {node_type} nodes leaves {stale} with the old ones; give their edges too")
        complete = {key: Edges(layouts[key[0]], layouts[key[2]]) for key in old}
        edges = {**self.edges, **complete, **edges}
        return replace(self, x={**self.x, node_type: x}, layouts=layouts, edges=edges)

    def with_parts(self, node_type: str, merged_from: Sequence[str]) -> GraphState:
        """Return the state with the types that a merged node type was made of; nothing else changes.

        Recorders use it to assign attention on merged nodes to the nodes that they stand for.

        Args:
            node_type: the merged node type.
            merged_from: the types, in the order of their nodes within each post.
        """
        return replace(self, merged_from={**self.merged_from, node_type: tuple(merged_from)})

    def with_features(self, name: str, x: Tensor, *, nodes_of: str) -> GraphState:
        """Return the state with features under a name.

        Args:
            name: the name, a node type or any other.
            x: the features, ``[nodes, hidden_size]``.
            nodes_of: a node type, or the name of features of the same nodes.
        """
        node_type = self.node_type_of(nodes_of)
        state = self.update(**{name: x})
        return state if node_type is None else replace(state, feature_types={**self.feature_types, name: node_type})

    def node_type_of(self, name: str) -> str | None:
        """Return the node type of the features of a name; None if no layer has declared it."""
        return name if name in self.layouts else self.feature_types.get(name)

    def with_scores(self, task: str, scores: Tensor) -> GraphState:
        """Return the state with the scores of a task, ``[tokens, labels]``."""
        return replace(self, emissions={**self.emissions, task: scores})

    @cached_property
    def num_graphs(self) -> int:
        """Number of posts in the batch."""
        return self.data.num_graphs
