"""Nodes of several types merged into one type, for one softmax or one set of parameters over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges, Layout
from mnergraph.nn.state import GraphState


class Creation(NamedTuple):
    """How a layer creates the nodes of a type, as a module's ``creates`` has it by the type's name.

    Attributes:
        sources: the node types that they are created from.
        how: a word for it, such as ``"merged"``.
    """

    sources: tuple[str, ...]
    how: str


class MergeNodeTypes(nn.Module):
    """Create a node type of all nodes of several others: post by post, the parts in their order.

    Relations of one name among the parts become one relation of that name among the merged nodes, fully connected (and
    not stored) if all of them are. The schema's fully connected relations of the new type are adapted. The parts are
    unchanged; `SplitNodeTypes` copies features back to them.

    Args:
        node_type: the new node type.
        parts: the node types that are merged.
        relation_names: names of relations among the parts; every ``(part, name, part)`` of the graph is merged.
        empty_relations: further relations of the new type in the schema, which have no edges until a later layer
            sets them.

    Attributes:
        creates: how the nodes of each type that the layer creates come about.
    """

    def __init__(
        self,
        node_type: str,
        parts: Sequence[str],
        *,
        relation_names: Sequence[str] = (),
        empty_relations: Sequence[EdgeType] = (),
    ) -> None:
        super().__init__()
        self.node_type, self.parts, self.relation_names = node_type, tuple(parts), tuple(relation_names)
        self.empty_relations = tuple(empty_relations)
        self.creates = {node_type: Creation(self.parts, "merged")}

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with features ``[merged nodes, hidden_size]`` and edges of the new node type.

        Raises:
            ValueError: for parts of different hidden sizes.
            KeyError: for a relation name that no relation among the parts has.
        """
        features = [graph.x[part] for part in self.parts]
        sizes = [x.shape[-1] for x in features]
        if len(set(sizes)) > 1:
            raise ValueError(
                f"{self.node_type} merges {', '.join(self.parts)} of hidden sizes {', '.join(map(str, sizes))}; "
                "project them to one first"
            )
        layout, rows = merged_layout([graph.layouts[part] for part in self.parts])
        x = torch.cat(features)
        merged = x.new_zeros(x.shape).index_copy(0, torch.cat(rows), x)
        rows_by_part = dict(zip(self.parts, rows, strict=True))
        edges = {
            (self.node_type, name, self.node_type): self._edges(graph, name, layout, rows_by_part)
            for name in self.relation_names
        }
        layouts, no_edges = {**graph.layouts, self.node_type: layout}, rows[0].new_zeros(2, 0)
        edges |= {key: Edges(layouts[key[0]], layouts[key[2]], no_edges) for key in self.empty_relations}
        return graph.replace_nodes(self.node_type, merged, layout, edges).with_parts(self.node_type, self.parts)

    def _edges(self, graph: GraphState, name: str, layout: Layout, rows: Mapping[str, Tensor]) -> Edges:
        keys = [(src, name, dst) for src in self.parts for dst in self.parts]
        relations = {key: graph.edges[key] for key in keys if key in graph.edges}
        if not relations:
            raise KeyError(
                f"no relation {name} among {', '.join(self.parts)} is in the graph, which has "
                f"{', '.join(map(str, graph.edges))}"
            )
        if len(relations) == len(keys) and all(edges.complete for edges in relations.values()):
            return Edges(layout, layout)
        index = [
            torch.stack([rows[src][edges.index[0]], rows[dst][edges.index[1]]])
            for (src, _, dst), edges in relations.items()
        ]
        types = [edges.type for edges in relations.values() if edges.type is not None]
        attrs = [edges.attr for edges in relations.values() if edges.attr is not None]
        return Edges(
            layout,
            layout,
            torch.cat(index, 1),
            type=torch.cat(types) if len(types) == len(relations) else None,
            attr=torch.cat(attrs) if len(attrs) == len(relations) else None,
        )


class SplitNodeTypes(nn.Module):
    """Copy the features of merged nodes back to the node types that they were merged from.

    Args:
        node_type: the merged node type.
        out_keys: for every part, in the order of `MergeNodeTypes`, the name of its features.
    """

    def __init__(self, node_type: str, out_keys: Mapping[str, str]) -> None:
        super().__init__()
        self.node_type, self.out_keys = node_type, dict(out_keys)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the features of every part under its name."""
        _, rows = merged_layout([graph.layouts[part] for part in self.out_keys])
        merged = graph.x[self.node_type]
        for (part, key), index in zip(self.out_keys.items(), rows, strict=True):
            graph = graph.with_features(key, merged[index], nodes_of=part)
        return graph


def merged_layout(parts: Sequence[Layout]) -> tuple[Layout, list[Tensor]]:
    """Return the layout of all nodes of these layouts, and the row in it of every node of each, ``[nodes]``."""
    merged = Layout(torch.stack([part.ptr for part in parts]).sum(0))
    begin, rows = merged.ptr[:-1], []
    for part in parts:
        rows.append(begin[part.graph_index] + part.position)
        begin = begin + part.counts
    return merged, rows
