"""A stack of layers with everything that is recorded: attention, gates, created and merged nodes."""

from __future__ import annotations

import torch
from fakes import OBJECTS, SCHEMA, TO_OBJECTS, TO_TOKENS, TOKENS
from torch import nn

from mnergraph.graph import Complete, Edges, Layout, Member, Relation, Schema
from mnergraph.nn import (
    FeatureModule,
    GatedMix,
    GatedSum,
    GraphState,
    HeteroLayer,
    RelationAttention,
    TransformerLayer,
)

WIDTH, HEADS = 8, 2
OF, SHOWS = ("entity", "of", "token"), ("visual", "shows", "entity")
#: `fakes.SCHEMA` with entity nodes, and with images and objects merged to ``visual`` nodes.
STACK_SCHEMA = SCHEMA | Schema(
    [Relation(*OF, Member()), Relation(*SHOWS, Complete())], nodes=["image", "visual", "entity"]
)


class EntityNodes(nn.Module):
    """Creates an entity node for every two words of a post with three or more words."""

    def forward(self, graph: GraphState) -> GraphState:
        words = graph.layouts["token"]
        counts = torch.where(words.counts > 2, words.counts // 2, 0)
        entities = Layout(nn.functional.pad(counts.cumsum(0), (1, 0)))
        first = words.ptr[entities.graph_index] + 2 * entities.position
        # edges are not sorted by post
        index = torch.stack([torch.arange(entities.num_nodes).repeat(2), torch.cat([first + 1, first])])
        x = graph.x["token"][first]
        edges = {
            OF: Edges(entities, words, index),
            SHOWS: Edges(graph.layouts["visual"], entities),
        }
        return graph.replace_nodes("entity", x, entities, edges)


class MergeVisual(nn.Module):
    """Merges the image and object nodes of a post to one node type."""

    def forward(self, graph: GraphState) -> GraphState:
        parts = [graph.layouts[name] for name in ("image", "object")]
        merged = Layout(parts[0].ptr + parts[1].ptr)
        order = torch.cat([part.graph_index for part in parts]).argsort(stable=True)
        x = torch.cat([graph.x["image"], graph.x["object"]])[order]
        edges = {SHOWS: Edges(merged, graph.layouts["entity"])}
        return graph.replace_nodes("visual", x, merged, edges).with_parts("visual", ("image", "object"))


class GatedAttention(nn.Module):
    """Attention with a gate, applied to the target nodes with incoming edges only."""

    def __init__(self) -> None:
        super().__init__()
        self.attention, self.highway = RelationAttention(WIDTH, HEADS), GatedMix(WIDTH)

    def forward(self, src: torch.Tensor, dst: torch.Tensor, edges: Edges) -> torch.Tensor:
        has_source = edges.dst.to_flat(edges.has_incoming)
        message = self.attention(src, dst, edges)
        return dst.masked_scatter(has_source[:, None], self.highway(message[has_source], dst[has_source]))


def build_stack() -> nn.Sequential:
    """Return attention and gates along stored, complete and created edges, gates at nodes, and a shared layer."""
    torch.manual_seed(3)
    shared = HeteroLayer({TOKENS: RelationAttention(WIDTH, HEADS, dropout=0.5)}, residual=lambda: GatedMix(WIDTH))
    return nn.Sequential(
        HeteroLayer(
            {
                OBJECTS: RelationAttention(WIDTH, HEADS),
                TO_TOKENS: GatedSum(WIDTH),
                TO_OBJECTS: GatedSum(WIDTH),
            },
            residual=lambda: GatedMix(WIDTH),
        ),
        shared,
        nn.Sequential(TransformerLayer(TO_TOKENS, WIDTH, HEADS, out_key="seen"), MergeVisual()),
        FeatureModule(GatedMix(WIDTH), in_keys=("seen", "token"), out_key="mixed"),
        EntityNodes(),
        HeteroLayer({SHOWS: GatedAttention()}),
        shared,
    )
