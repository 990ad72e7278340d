"""Visual prefixes: keys and values for every layer of the text encoder, from the features of images and objects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.graph.layout import Layout
from mnergraph.nn.encoders.visual import Standardize
from mnergraph.nn.layers.node_types import merged_layout
from mnergraph.nn.state import GraphState

#: Number of scales that a layer's gate chooses from, c.
NUM_SCALES = 4
#: How a layer of the text encoder gets its prefix from the scales.
Aggregation = Literal["gate", "split", "single"]


def prefix_key(node_type: str) -> str:
    """Return the name of the prefixes of a node type's nodes."""
    return f"{node_type} prefix"


class VisualPrefix(nn.Module):
    """Keys and values for every layer of a text encoder, by dynamic gated aggregation of scales (HVPNeT).

    [s_1 .. s_c] = W_2 tanh(W_1 v),  for the vector v of each of a node's places
    g^l = softmax(LeakyReLU(W_l mean over k of s_k)),  P^l = sum over k of g^l_k s_k

    s_k has a key and a value for each place; W_l reads those of all places. Image and objects share the maps. v is
    standardized after `Standardize.fit`.

    Args:
        node_types: the node types that get prefixes, with features ``x`` of the same width.
        in_features: that width.
        num_layers: layers of the text encoder, L.
        prefix_size: features of a key, and of a value.
        num_places: into how many vectors v the features of a node are split, each of which gives one key and value.
        interleaved: whether the features hold the places one after the other for each channel, as a map of channels,
            rows and columns that was flattened does; otherwise v is one of ``num_places`` equal blocks.
        bottleneck_size: rows of W_1.
        aggregation: ``gate`` as above; ``split``: c scales without gates, layer l gets scale ceil(c l / L) alone;
            ``single``: one scale for all layers.

    Raises:
        ValueError: when the number of places does not divide the width.
    """

    def __init__(
        self,
        node_types: Sequence[str],
        in_features: int,
        *,
        num_layers: int,
        prefix_size: int,
        num_places: int = 1,
        interleaved: bool = True,
        bottleneck_size: int = 800,
        aggregation: Aggregation = "gate",
    ) -> None:
        super().__init__()
        if num_places < 1 or in_features % num_places:
            raise ValueError(
                f"num_places={num_places} does not divide the {in_features} features of {' and '.join(node_types)}; "
                "a vector that is no pyramid has one place"
            )
        self.num_layers, self.num_places, self.prefix_size = num_layers, num_places, prefix_size
        self.interleaved, self.aggregation = interleaved, aggregation
        self.num_scales = 1 if aggregation == "single" else NUM_SCALES
        self.standardize = Standardize(node_types, in_features)
        self.project = nn.Sequential(
            nn.Linear(in_features // num_places, bottleneck_size),
            nn.Tanh(),
            nn.Linear(bottleneck_size, self.num_scales * 2 * prefix_size),
        )
        # W_1 .. W_L in one matrix
        self.gates = nn.Linear(num_places * 2 * prefix_size, num_layers * NUM_SCALES) if aggregation == "gate" else None

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with prefixes, ``[nodes, num_layers, 2, num_places, prefix_size]``, under `prefix_key`."""
        for node_type in self.standardize.node_types:
            graph = graph.with_features(
                prefix_key(node_type), self.prefixes(graph.data[node_type].x), nodes_of=node_type
            )
        return graph

    def prefixes(self, x: Tensor) -> Tensor:
        """``[nodes, in_features]`` -> ``[nodes, num_layers, 2, num_places, prefix_size]``."""
        x = self.standardize(x)
        # [nodes, num_places, in_features / num_places]
        v = (
            x.unflatten(1, (-1, self.num_places)).transpose(1, 2)
            if self.interleaved
            else x.unflatten(1, (self.num_places, -1))
        )
        # [nodes, num_scales, num_places * 2 * prefix_size]
        scales = self.project(v).unflatten(2, (self.num_scales, -1)).transpose(1, 2).flatten(2)
        if self.gates is not None:
            scores = F.leaky_relu(self.gates(scales.mean(1))).unflatten(1, (self.num_layers, NUM_SCALES))
            # [nodes, num_layers, num_scales] @ [nodes, num_scales, ...]
            prefixes = scores.softmax(-1).to(scales.dtype) @ scales
        else:
            layer = torch.arange(self.num_layers, device=x.device)
            prefixes = scales[:, layer * self.num_scales // self.num_layers]
        return prefixes.unflatten(2, (self.num_places, 2, self.prefix_size)).transpose(2, 3)


class ReshapeHeads(nn.Module):
    """Regroup the chunks of a post's prefixes by heads as HVPNeT's released code does.

    It has the keys of all places of a post as a matrix ``[places, heads * head_size]``, and makes ``[heads, places,
    head_size]`` of it by a change of shape alone, where multi-head attention splits the features of each place. A head
    then reads all chunks of a few places instead of its chunk of every place. Here the chunks are moved so that the
    usual split gives the same.

    Args:
        node_types: whose nodes a post's places are, in their order.
        num_heads: heads of the text encoder.
    """

    def __init__(self, node_types: Sequence[str], num_heads: int) -> None:
        super().__init__()
        self.node_types, self.num_heads = tuple(node_types), num_heads

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the prefixes of all nodes, regrouped."""
        layout, rows = merged_layout([graph.layouts[node_type] for node_type in self.node_types])
        prefixes = torch.cat([graph.x[prefix_key(node_type)] for node_type in self.node_types])
        prefixes = torch.empty_like(prefixes).index_copy(0, torch.cat(rows), prefixes)
        num_places = prefixes.shape[3]
        # [nodes, places, heads, layers, 2, head_size]
        chunks = prefixes.unflatten(4, (self.num_heads, -1)).permute(0, 3, 4, 1, 2, 5)
        regrouped = chunks.flatten(0, 2)[self._order(layout, num_places)].view(chunks.shape)
        regrouped = regrouped.permute(0, 3, 4, 1, 2, 5).flatten(4)
        for node_type, index in zip(self.node_types, rows, strict=True):
            graph = graph.with_features(prefix_key(node_type), regrouped[index], nodes_of=node_type)
        return graph

    def _order(self, layout: Layout, num_places: int) -> Tensor:
        """Return the chunk that comes to every place and head of all posts, ``[nodes * places * heads]``."""
        places = Layout(layout.ptr * num_places)
        head = torch.arange(self.num_heads, device=layout.ptr.device)
        begin, count = (values[places.graph_index, None] for values in (places.ptr[:-1], places.counts))
        return (begin * self.num_heads + head * count + places.position[:, None]).flatten()


def prefix_layers(widths: dict[str, int], num_places: int | None, **settings: Any) -> Iterator[VisualPrefix]:
    """Yield the layers that make prefixes: one for the node types whose features have the same width.

    Args:
        widths: of the features of each node type.
        num_places: see `VisualPrefix`; None for 4 where the features are a pyramid's, else 1.
        settings: further ones of `VisualPrefix`.
    """
    for width in dict.fromkeys(widths.values()):
        node_types = [node_type for node_type, of_type in widths.items() if of_type == width]
        places = default_places(width) if num_places is None else num_places
        yield VisualPrefix(node_types, width, num_places=places, **settings)


def default_places(width: int) -> int:
    """Return the number of places of features of this width: 4 for a pyramid's, else 1.

    The stages of every ResNet have channels in the ratio 1 : 2 : 4 : 8, 64 or 256 in the first, and a pyramid has
    them at 2 x 2 places, so that its width is a multiple of 4 * 15.
    """
    return 4 if width % 60 == 0 else 1
