"""Raw stores to node features: objects by their region and their label, the picture by its vectors."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.graph.node_types import LABEL_PIECES
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.state import GraphState

#: Name of the region vectors that a backbone in the model makes.
REGION_FEATURES = "region"


class ObjectEncoder(nn.Module):
    """Objects by region vector, by the embedding of their label, or by both (HamLearning, eq. 3).

    v_i = L(f_i) + W_e e_i;  f_i the region vector, nothing where an object has none; e_i the normalised mean
    of the label's pieces in the text encoder's own embedding table, nothing where it has no label.

    The vectors of a frozen backbone are nearly parallel, and a linear map learns slowly from them: `observe`
    lets f_i be standardised, feature by feature, by the mean and deviation of the training posts' vectors,
    which are saved with the weights. Until then they enter as they are. Where `PixelEncoder` stands before,
    the vectors are those of its backbone.

    Args:
        hidden_size: of the result.
        region_dim: of the region vectors; None when only labels speak.
        label_dim: of the text encoder; None when only regions speak.
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
        store, objects = graph.data["object"], graph.layouts["object"].num_nodes
        parts = []
        if self.region is not None:
            made = graph.x.get(REGION_FEATURES)
            vectors = store.x if made is None else made
            standard = (vectors - self.mean) / self.deviation
            parts.append(self.region(standard) * store.has_x[:, None])
        if self.label is not None and self.norm is not None:
            piece, owner = graph.data[LABEL_PIECES].edge_index
            mean = segment_sum(graph.x["label_piece"][piece], owner, objects, mean=True)
            named = torch.zeros(objects, 1, device=mean.device, dtype=mean.dtype).index_fill(0, owner, 1.0)
            parts.append(self.label(self.norm(mean)) * named)
        return graph.update(object=parts[0] if len(parts) == 1 else parts[0] + parts[1])

    def fit_normalization(self, regions: Tensor) -> None:
        """Standardise by these vectors, ``[objects, region width]``; constant features are only centred."""
        if self.region is None or len(regions) < 2:
            return
        deviation, mean = torch.std_mean(regions, dim=0)
        self.mean.copy_(mean)
        self.deviation.copy_(deviation.where(deviation > 1e-6, torch.ones_like(deviation)))


class ImageEncoder(nn.Module):
    """The picture's vectors, one or a grid of them, by a linear map: ``image`` nodes (UMT, section 2.2).

    Args:
        hidden_size: of the result.
        image_dim: of the vectors that the posts carry.
        out_key: under which name the result is kept; a second map of the same vectors needs another.
    """

    def __init__(self, hidden_size: int, image_dim: int, *, out_key: str = "image") -> None:
        super().__init__()
        self.linear, self.out_key = nn.Linear(image_dim, hidden_size), out_key

    def forward(self, graph: GraphState) -> GraphState:
        return graph.with_features(self.out_key, self.linear(graph.data["image"].x), nodes_of="image")
