"""HVPNeT as its authors' code computes it, number by number, from the weights of ours.

The code has no padding of prefixes: every post has an image and three objects. It views the pyramid ``[3840, 2, 2]`` as
four rows of blocks of channels, and keys and values of all sixteen positions, ``[16, width]``, as ``[heads, 16, width /
heads]``, both by a change of shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from mnergraph.models import HVPNeT
from mnergraph.models.hvpnet.layers import VisualPrefix


def prefix_of_node(part: VisualPrefix, pyramid: Tensor, layer: int, places: Sequence[Sequence[int]]) -> list[Tensor]:
    """Key and value of every place of a node in one layer, ``[2 * width]`` each.

    Args:
        part: our layer, for its weights.
        pyramid: features of the node.
        layer: index of the layer.
        places: for every place the indices of its features.
    """
    first, _, second = part.project
    width = 2 * part.prefix_size
    # the scales of every place
    scales: list[list[Tensor]] = []
    for of_place in places:
        v = pyramid[list(of_place)]
        out = second.weight @ torch.tanh(first.weight @ v + first.bias) + second.bias
        scales.append([out[k * width : (k + 1) * width] for k in range(len(out) // width)])
    if part.aggregation != "gate":
        chosen = layer * len(scales[0]) // part.num_layers
        return [of_place[chosen] for of_place in scales]
    mean = torch.cat([sum(of_place, torch.zeros_like(of_place[0])) / 4 for of_place in scales])
    assert part.gates is not None
    rows = slice(4 * layer, 4 * layer + 4)
    scores = F.leaky_relu(part.gates.weight[rows] @ mean + part.gates.bias[rows])
    gate = scores.exp() / scores.exp().sum()
    return [sum((g * s for g, s in zip(gate, of_place, strict=True)), 0 * of_place[0]) for of_place in scales]


def blocks(features: int, num_places: int) -> list[list[int]]:
    """The places of the released code: one block of features after the other."""
    size = features // num_places
    return [list(range(place * size, (place + 1) * size)) for place in range(num_places)]


def positions(features: int, num_places: int) -> list[list[int]]:
    """The places of a map ``[channels, rows, columns]``: every channel's numbers follow each other."""
    return [list(range(place, features, num_places)) for place in range(num_places)]


def released_prefixes(model: HVPNeT, image: Tensor, objects: Sequence[Tensor]) -> list[tuple[Tensor, Tensor]]:
    """Keys and values of every layer, ``[heads, positions, head_size]`` each."""
    (part,) = (layer for layer in model.layers if isinstance(layer, VisualPrefix))
    heads = model.encoder.model.config.num_attention_heads
    places = blocks(len(image), part.num_places)
    found = []
    for layer in range(part.num_layers):
        rows = [row for node in (image, *objects) for row in prefix_of_node(part, node, layer, places)]
        both = torch.stack(rows)
        key, value = both[:, : part.prefix_size], both[:, part.prefix_size :]
        shape = (heads, len(rows), part.prefix_size // heads)
        found.append((key.reshape(shape), value.reshape(shape)))
    return found
