"""The graph's state on its way through a stack: every layer takes one and returns a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from mnergraph.graph.collate import EdgeType, collate, layouts
from mnergraph.graph.layout import Edges, Layout
from mnergraph.graph.schema import Schema


@dataclass(frozen=True)
class GraphState:
    """A batch of posts: raw stores, node features so far, edges, layouts, and scores of tasks.

    Attributes:
        data: the batch as it was built, never changed.
        x: features of every node type that has any yet, ``[nodes, width]``.
        edges: every relation of the schema.
        layouts: where the nodes of every type lie.
        emissions: scores by task, ``[nodes, labels]``.
        kinds: the node type of features that are kept under a name of their own.
        parts: for a node type whose nodes stand for those of other types, which those are.
    """

    data: Batch
    x: Mapping[str, Tensor] = field(default_factory=dict)
    edges: Mapping[EdgeType, Edges] = field(default_factory=dict)
    layouts: Mapping[str, Layout] = field(default_factory=dict)
    emissions: Mapping[str, Tensor] = field(default_factory=dict)
    feature_types: Mapping[str, str] = field(default_factory=dict)
    merged_from: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @classmethod
    def from_batch(cls, data: HeteroData | Batch, schema: Schema) -> GraphState:
        """The state before the first layer: no features, edges as the schema says.

        Raises:
            KeyError: when the batch lacks a node type or relation of the schema.
        """
        batch = data if isinstance(data, Batch) else collate([data])
        places = layouts(batch)
        absent = [kind for kind in schema.nodes if kind not in places]
        if absent:
            raise KeyError(f"the batch has no {', '.join(absent)}; its node types are {', '.join(places)}")
        edges = {}
        for relation in schema:
            ends = places[relation.src], places[relation.dst]
            if relation.rule.fully_connected:
                edges[relation.key] = Edges(*ends)
                continue
            if relation.key not in batch.edge_types:
                raise KeyError(f"the batch has no relation {relation}; build its graphs with this schema")
            store = batch[relation.key]
            edges[relation.key] = Edges(
                *ends, store.edge_index, type=store.get("edge_type"), attr=store.get("edge_attr")
            )
        return cls(batch, edges=edges, layouts=places)

    def update(self, **x: Tensor) -> GraphState:
        """New features for these node types."""
        return replace(self, x={**self.x, **x})

    def with_edges(self, edges: Mapping[EdgeType, Edges]) -> GraphState:
        """New edges of relations that the graph has."""
        unknown = [key for key in edges if key not in self.edges]
        if unknown:
            raise KeyError(f"{unknown} is not in the graph, which has {', '.join(map(str, self.edges))}")
        return replace(self, edges={**self.edges, **edges})

    def replace_nodes(self, node_type: str, x: Tensor, layout: Layout, edges: Mapping[EdgeType, Edges]) -> GraphState:
        """New nodes of one type, replacing those it had, with their edges (GEI's entities).

        Args:
            x: features of the new nodes, ``[nodes, width]``.
            layout: which sentence each belongs to.
            edges: the relations that touch them; complete ones may be left out, as layouts alone say them.
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
        """Says that nodes of one type stand, post by post, for those of these types, type after type.

        Nothing is computed of it; a record reads it, to tell what of the post a layer weighed.
        """
        return replace(self, merged_from={**self.merged_from, node_type: tuple(merged_from)})

    def with_features(self, name: str, x: Tensor, *, nodes_of: str) -> GraphState:
        """Features under a name of their own, of the nodes that the features named ``like`` belong to."""
        kind = self.node_type_of(nodes_of)
        kept = self.update(**{name: x})
        return kept if kind is None else replace(kept, feature_types={**self.feature_types, name: kind})

    def node_type_of(self, name: str) -> str | None:
        """The node type of the features of this name; None where no layer told."""
        return name if name in self.layouts else self.feature_types.get(name)

    def with_scores(self, task: str, scores: Tensor) -> GraphState:
        """Scores of a task, ``[nodes, labels]``."""
        return replace(self, emissions={**self.emissions, task: scores})

    @cached_property
    def num_graphs(self) -> int:
        """Posts in the batch."""
        return self.data.num_graphs
