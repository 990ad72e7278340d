"""Nodes of several types read as one: one softmax, or one set of matrices, stands over all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges, Layout
from mnergraph.nn.state import GraphState


class MergeNodeTypes(nn.Module):
    """Grows a node type that holds all nodes of several others, sentence by sentence in their order.

    Relations of one name among the parts become one relation of that name among the merged nodes: complete,
    and still not stored, if all of them are. Complete relations that the schema has of the new type follow
    by themselves. The parts stay as they are; `SplitNodeTypes` takes features back to them.

    Args:
        node_type: the new node type.
        parts: the node types that it holds.
        relation_names: names of relations among the parts; every ``(part, name, part)`` of the graph is taken.
        empty_relations: the schema's other relations of the new type: without edges until a later layer draws them.
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
        #: Node types whose nodes the layer creates.
        self.creates = (node_type,)

    def forward(self, graph: GraphState) -> GraphState:
        """
        Raises:
            ValueError: when the parts differ in width.
            KeyError: when the graph has no relation of such a name among them.
        """
        features = [graph.x[part] for part in self.parts]
        widths = [x.shape[-1] for x in features]
        if len(set(widths)) > 1:
            raise ValueError(
                f"{self.node_type} merges {', '.join(self.parts)} of widths {', '.join(map(str, widths))}; "
                "they must be alike"
            )
        layout, rows = places([graph.layouts[part] for part in self.parts])
        both = torch.cat(features)
        merged = both.new_zeros(both.shape).index_copy(0, torch.cat(rows), both)
        of = dict(zip(self.parts, rows, strict=True))
        edges = {
            (self.node_type, name, self.node_type): self._edges(graph, name, layout, of) for name in self.relation_names
        }
        layouts, nothing = {**graph.layouts, self.node_type: layout}, rows[0].new_zeros(2, 0)
        edges |= {key: Edges(layouts[key[0]], layouts[key[2]], nothing) for key in self.empty_relations}
        return graph.replace_nodes(self.node_type, merged, layout, edges).with_parts(self.node_type, self.parts)

    def _edges(self, graph: GraphState, name: str, layout: Layout, rows: Mapping[str, Tensor]) -> Edges:
        every = [(src, name, dst) for src in self.parts for dst in self.parts]
        found = {key: graph.edges[key] for key in every if key in graph.edges}
        if not found:
            raise KeyError(
                f"no relation {name} among {', '.join(self.parts)} is in the graph, which has "
                f"{', '.join(map(str, graph.edges))}"
            )
        if len(found) == len(every) and all(edges.complete for edges in found.values()):
            return Edges(layout, layout)
        index = [
            torch.stack([rows[src][edges.index[0]], rows[dst][edges.index[1]]])
            for (src, _, dst), edges in found.items()
        ]
        types = [edges.type for edges in found.values() if edges.type is not None]
        attrs = [edges.attr for edges in found.values() if edges.attr is not None]
        return Edges(
            layout,
            layout,
            torch.cat(index, 1),
            type=torch.cat(types) if len(types) == len(found) else None,
            attr=torch.cat(attrs) if len(attrs) == len(found) else None,
        )


class SplitNodeTypes(nn.Module):
    """Takes the features of merged nodes back to the types that they were merged from.

    Args:
        node_type: the merged node type.
        into: for every part, in the order of `MergeNodeTypes`, under which name its features are kept.
    """

    def __init__(self, node_type: str, into: Mapping[str, str]) -> None:
        super().__init__()
        self.node_type, self.into = node_type, dict(into)

    def forward(self, graph: GraphState) -> GraphState:
        _, rows = places([graph.layouts[part] for part in self.into])
        merged = graph.x[self.node_type]
        return graph.update(**{name: merged[of] for name, of in zip(self.into.values(), rows, strict=True)})


def places(parts: Sequence[Layout]) -> tuple[Layout, list[Tensor]]:
    """The layout of all nodes of these layouts together, and the row in it of every node of each."""
    whole = Layout(torch.stack([part.ptr for part in parts]).sum(0))
    begin, rows = whole.ptr[:-1], []
    for part in parts:
        rows.append(begin[part.graph_index] + part.position)
        begin = begin + part.counts
    return whole, rows
