"""An image backbone that is trained with the model: region vectors of objects from pixels."""

from __future__ import annotations

import torch
from torch import nn

from mnergraph.features.vision.crops import RegionEncoder, normalize
from mnergraph.nn.encoders.visual import REGION_FEATURES
from mnergraph.nn.state import GraphState


class PixelEncoder(nn.Module):
    """Region vectors of objects' crops by a torchvision ResNet that is trained with the model (as in UMGF).

    f_i = avgpool(ResNet(crop_i)), zeros for an object without pixels. They are kept as `REGION_FEATURES`, which
    `ObjectEncoder` uses in place of precomputed vectors. `Objects` needs a
    `mnergraph.features.vision.crops.CropPixels` of the same size. Batch norms use their pretrained statistics in
    training, too: a batch has few crops, often of one image, and a post's vectors must not depend on the other posts.

    Args:
        crops: the backbone, its initial weights and the size of its crops.
        train_batch_norm: whether batch norms use the batch's statistics in training and update their own, as in UMGF's
            released code.
    """

    def __init__(self, crops: RegionEncoder, *, train_batch_norm: bool = False) -> None:
        super().__init__()
        self.train_batch_norm = train_batch_norm
        self.backbone = crops.build()
        self.out_channels = self.backbone(torch.zeros(1, 3, 64, 64)).shape[1]
        self.backbone.requires_grad_(True)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with region vectors, ``[objects, out_channels]``."""
        store = graph.data["object"]
        # [objects with pixels, out_channels]
        computed = self.backbone(normalize(store.pixels[store.has_x]))
        vectors = computed.new_zeros(graph.layouts["object"].num_nodes, self.out_channels)
        return graph.with_features(REGION_FEATURES, vectors.index_put((store.has_x,), computed), nodes_of="object")

    def train(self, mode: bool = True) -> PixelEncoder:
        """Set the mode; batch norms remain in evaluation mode, unless ``train_batch_norm``."""
        super().train(mode)
        for part in () if self.train_batch_norm else self.backbone.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self
