"""Entities found inside the model: spans read off labels, nodes grown from them, features pooled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges, Layout
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.state import GraphState


class SpanDecoder(nn.Module):
    """The spans that B, I and O spell, as `mnergraph.labels.tags_to_spans` reads them: an orphan I opens one.

    Args:
        labels: B, I and O, in the order that numbers them.
    """

    opens: Tensor
    inside: Tensor

    def __init__(self, labels: Sequence[str]) -> None:
        super().__init__()
        for name, wanted in (("opens", "B"), ("inside", "BI")):
            held = torch.tensor([label in tuple(wanted) for label in labels], dtype=torch.bool)
            self.register_buffer(name, held, persistent=False)

    def forward(self, labels: Tensor, words: Layout) -> tuple[Tensor, Tensor, Layout]:
        """``[tokens]`` -> each word within a span, its span (both ``[words within]``), the spans' layout."""
        within = self.inside[labels]
        # whether the word before, in the same sentence, lies within a span
        before = F.pad(within[:-1], (1, 0)) & (words.position > 0)
        begins = within & (self.opens[labels] | ~before)
        # spans that have begun before each place, [tokens + 1]
        begun = F.pad(begins.cumsum(0), (1, 0))
        word = within.nonzero()[:, 0]
        return word, begun[word + 1] - 1, Layout(begun[words.ptr])


class EntityNodes(nn.Module):
    """Grows an ``entity`` node for every span that labels spell (GEI, sections 2.1 and 2.3).

    E_n = max over the words i of span n of x_i, feature by feature

    They replace the entities that the graph had. Relations between entities and words join each entity with
    the words of its span; complete relations follow by themselves.

    Args:
        labels: B, I and O, in the order that numbers them.
        membership: relations between ``entity`` and ``token``, in either direction.
        in_key: name of the words' labels, ``[tokens]``.
    """

    def __init__(self, labels: Sequence[str], membership: Sequence[EdgeType], *, in_key: str) -> None:
        super().__init__()
        for key in membership:
            if {key[0], key[2]} != {"entity", "token"}:
                raise ValueError(f"members are relations between entity and token, not {key}")
        self.spans, self.membership, self.in_key = SpanDecoder(labels), tuple(membership), in_key
        self.pool = SpanPooling("max")

    def forward(self, graph: GraphState) -> GraphState:
        words = graph.layouts["token"]
        word, entity, entities = self.spans(graph.x[self.in_key], words)
        pooled = Edges(words, entities, torch.stack([word, entity]))
        told = Edges(entities, words, torch.stack([entity, word]))
        x = graph.x["token"]
        x = self.pool(x, x.new_zeros(entities.num_nodes, x.shape[-1]), pooled)
        edges = {key: pooled if key[0] == "token" else told for key in self.membership}
        return graph.replace_nodes("entity", x, entities, edges)


class EntityEdges(nn.Module):
    """Joins nodes with the words that lie in an entity, and with no other word (GEI without entity nodes).

    Args:
        labels: B, I and O, in the order that numbers them.
        relations: between ``token`` and another node type, in either direction.
        in_key: name of the words' labels, ``[tokens]``.
    """

    def __init__(self, labels: Sequence[str], relations: Sequence[EdgeType], *, in_key: str) -> None:
        super().__init__()
        for key in relations:
            if (key[0], key[2]).count("token") != 1:
                raise ValueError(f"relations are between token and another node type, not {key}")
        self.spans, self.relations, self.in_key = SpanDecoder(labels), tuple(relations), in_key

    def forward(self, graph: GraphState) -> GraphState:
        within = self.spans.inside[graph.x[self.in_key]]
        edges = {}
        for key in self.relations:
            ends = graph.layouts[key[0]], graph.layouts[key[2]]
            index = Edges(*ends).index
            words = index[0 if key[0] == "token" else 1]
            edges[key] = Edges(*ends, index[:, within[words]])
        return graph.with_edges(edges)
