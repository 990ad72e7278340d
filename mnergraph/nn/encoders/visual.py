"""Encoders of objects, from region vectors and labels, and of images, from their features."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mnergraph.graph.node_types import LABEL_PIECE, LABEL_PIECES
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.state import GraphState

#: Name of the region vectors ``[objects, region_dim]`` that `PixelEncoder` computes.
REGION_FEATURES = "region_features"


class ObjectEncoder(nn.Module):
    """Features of ``object`` nodes from region vectors, label embeddings, or both (HamLearning, eq. 3).

    v_i = L(f_i) + W_e e_i;  f_i the region vector; e_i the layer-normalized mean of the label's pieces in the text
    encoder's embedding table. A term is zero for an object without region vector or label.

    The vectors of a frozen backbone are nearly parallel, and a linear map learns slowly from them: after
    `fit_normalization` f_i is standardized by the mean and standard deviation of the training posts' vectors, which
    are saved with the weights. After a `PixelEncoder` the vectors are those of its backbone.

    Args:
        hidden_size: features of the result.
        region_dim: features of a region vector; None to use labels only.
        label_dim: features of the text encoder's embeddings; None to use region vectors only.

    Raises:
        ValueError: when both are None.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, hidden_size: int, *, region_dim: int | None = None, label_dim: int | None = None) -> None:
        super().__init__()
        if region_dim is None and label_dim is None:
            raise ValueError("an object needs a region vector, a label, or both: give region_dim, label_dim")
        self.region = nn.Linear(region_dim, hidden_size) if region_dim else None
        self.register_buffer("mean", torch.zeros(region_dim or 0))
        self.register_buffer("deviation", torch.ones(region_dim or 0))
        self.norm = nn.LayerNorm(label_dim) if label_dim else None
        self.label = nn.Linear(label_dim, hidden_size) if label_dim else None

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with ``object`` features, ``[objects, hidden_size]``."""
        store, num_objects = graph.data["object"], graph.layouts["object"].num_nodes
        parts = []
        if self.region is not None:
            computed = graph.x.get(REGION_FEATURES)
            vectors = store.x if computed is None else computed
            standardized = (vectors - self.mean) / self.deviation
            parts.append(self.region(standardized) * store.has_x[:, None])
        if self.label is not None and self.norm is not None:
            piece, obj = graph.data[LABEL_PIECES].edge_index
            mean = segment_sum(graph.x[LABEL_PIECE][piece], obj, num_objects, mean=True)
            has_label = torch.zeros(num_objects, 1, device=mean.device, dtype=mean.dtype).index_fill(0, obj, 1.0)
            parts.append(self.label(self.norm(mean)) * has_label)
        return graph.update(object=parts[0] if len(parts) == 1 else parts[0] + parts[1])

    def fit_normalization(self, regions: Tensor) -> None:
        """Set mean and standard deviation to those of region vectors; constant features are only centered.

        Args:
            regions: the training posts' vectors, ``[objects, region_dim]``; fewer than two change nothing.
        """
        if self.region is None or len(regions) < 2:
            return
        deviation, mean = torch.std_mean(regions, dim=0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.where(deviation > 1e-6, torch.ones_like(deviation)))


class Standardize(nn.Module):
    """Features of nodes, standardized by the mean and standard deviation of the training posts' features.

    Before `fit` they are unchanged. The statistics are saved with the weights.

    Args:
        node_types: the node types whose features ``x`` of a batch are standardized, by the same statistics.
        in_features: number of features.
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, node_types: Sequence[str], in_features: int) -> None:
        super().__init__()
        self.node_types = tuple(node_types)
        self.register_buffer("mean", torch.zeros(in_features))
        self.register_buffer("deviation", torch.ones(in_features))

    def forward(self, x: Tensor) -> Tensor:
        """``[nodes, in_features]`` -> the same shape."""
        return (x - self.mean) / self.deviation

    def fit(self, rows: Iterable[Tensor]) -> None:
        """Set the statistics to those of features; constant ones are only centered.

        Args:
            rows: ``[nodes, in_features]`` of every post; fewer than two nodes in all change nothing.
        """
        count, total = 0, torch.zeros_like(self.mean, dtype=torch.float64)
        # of differences from the first row, whose squares lose no digits
        squares, first = total.clone(), total
        for x in rows:
            x = x.to(total)
            if count == 0 and len(x):
                first = x[0]
            count += len(x)
            total = total + (x - first).sum(0)
            squares = squares + (x - first).square().sum(0)
        if count < 2:
            return
        deviation = ((squares - total.square() / count) / (count - 1)).clamp(min=0).sqrt()
        self.mean.copy_(first + total / count)
        self.deviation.copy_(deviation.where(deviation > 1e-6, torch.ones_like(deviation)))


class ImageEncoder(nn.Module):
    """Features of ``image`` nodes: a linear map of the image's features, one or a grid (UMT, section 2.2).

    Args:
        hidden_size: features of the result.
        image_dim: features of a region of the image.
        out_key: name of the result; a second map of the same features needs another.
    """

    def __init__(self, hidden_size: int, image_dim: int, *, out_key: str = "image") -> None:
        super().__init__()
        self.linear, self.out_key = nn.Linear(image_dim, hidden_size), out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the result under ``out_key``, ``[image nodes, hidden_size]``."""
        return graph.with_features(self.out_key, self.linear(graph.data["image"].x), nodes_of="image")
