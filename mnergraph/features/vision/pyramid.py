"""Pyramids: the feature maps of a ResNet's stages, each averaged to 2 x 2 places, in one vector (HVPNeT)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Stages of a ResNet.
NUM_STAGES = 4
#: Rows and columns of places.
SIDE = 2


class ResNetPyramid(nn.Module):
    """The pyramid of a torchvision ResNet (HVPNeT's released code).

    Each stage's map is averaged over 2 x 2 equal parts; of an odd number of rows and columns the last is left out, and
    a map of one is repeated. The channels of the stages are joined: 256 + 512 + 1024 + 2048 = 3840 of a ResNet-50, at
    four places. The vector has them channel by channel, the places of each row by row.

    Args:
        resnet: the ResNet.
        num_stages: how many stages, from the last.

    Raises:
        ValueError: for a number of stages that a ResNet does not have.
    """

    def __init__(self, resnet: nn.Module, num_stages: int = NUM_STAGES) -> None:
        super().__init__()
        check_stages(num_stages)
        self.resnet, self.num_stages = resnet, num_stages

    def forward(self, pixels: Tensor) -> Tensor:
        """``[images, 3, size, size]`` -> ``[images, channels * 4]``."""
        net: Any = self.resnet
        x = net.maxpool(net.relu(net.bn1(net.conv1(pixels))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(_places(x))
        return torch.cat(maps[-self.num_stages :], 1).flatten(1)


def check_stages(num_stages: int) -> None:
    """Check the number of a pyramid's stages.

    Raises:
        ValueError: for one that a ResNet does not have.
    """
    if not 1 <= num_stages <= NUM_STAGES:
        raise ValueError(f"a pyramid has 1 to {NUM_STAGES} stages of a ResNet, not {num_stages}")


def _places(x: Tensor) -> Tensor:
    """``[images, channels, side, side]`` -> ``[images, channels, 2, 2]``."""
    size = x.shape[-1] // SIDE
    if size == 0:
        return x.expand(-1, -1, SIDE, SIDE)
    return F.avg_pool2d(x[..., : SIDE * size, : SIDE * size], size)
