"""A picture backbone that learns with the model: the pixels of objects to region vectors."""

from __future__ import annotations

import torch
from torch import nn

from mnergraph.features.vision.crops import RegionEncoder, normalize
from mnergraph.nn.encoders.visual import REGION_FEATURES
from mnergraph.nn.state import GraphState


class PixelEncoder(nn.Module):
    """Objects' crops by a torchvision ResNet that learns with the model (UMGF fine-tunes its ResNet-152).

    f_i = avgpool(ResNet(crop_i)), zeros for an object without pixels; `ObjectEncoder` reads them in place of
    vectors computed beforehand. The builder needs `mnergraph.features.vision.crops.CropPixels` of the same size. Batch
    norms keep the statistics that they came with, in training too: a batch holds few crops, often of one
    picture, and so a post's vectors do not depend on its neighbours.

    Args:
        crops: which backbone, with which weights to begin with; also the size of its crops.
    """

    def __init__(self, crops: RegionEncoder) -> None:
        super().__init__()
        self.backbone = crops.build()
        self.out_channels = self.backbone(torch.zeros(1, 3, 64, 64)).shape[1]
        self.backbone.requires_grad_(True)

    def forward(self, graph: GraphState) -> GraphState:
        store = graph.data["object"]
        # [objects with pixels, width]
        seen = self.backbone(normalize(store.pixels[store.has_x]))
        vectors = seen.new_zeros(graph.layouts["object"].num_nodes, self.out_channels)
        return graph.with_features(REGION_FEATURES, vectors.index_put((store.has_x,), seen), nodes_of="object")

    def train(self, mode: bool = True) -> PixelEncoder:
        super().train(mode)
        for part in self.backbone.modules():
            if isinstance(part, nn.BatchNorm2d):
                part.eval()
        return self
