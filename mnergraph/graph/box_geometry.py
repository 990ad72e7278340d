"""Spatial relations between boxes: HamLearning's eleven labels (section 3.1, "Spatial Encoding", and A.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: Number of directions, equal sectors of the circle from 0 radians (to the right; y grows downwards).
DIRECTIONS = 8

#: Edge types: ``inside``, the source box contains the target box; ``cover``, the target box contains the source box;
#: ``overlap``; and the eight directions.
SPATIAL_LABELS = ("inside", "cover", "overlap", *(f"class{sector + 1}" for sector in range(DIRECTIONS)))


def spatial_edges(
    src: Tensor, dst: Tensor, size: tuple[int, int] | None, *, same: bool, normalized: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return edges between boxes, with their types, distances and angles.

    An edge from i to j is "inside" if i contains j, else "cover" if j contains i, else "overlap" if their IoU is above
    0.5. Otherwise there is no edge if the distance of the centers is over half the image's diagonal, else one of eight
    classes by the angle of the vector from i's center to j's.

    Args:
        src: boxes of the source nodes, ``[src nodes, 4]``, xyxy in pixels; a row of NaN is no box and has no edges.
        dst: boxes of the target nodes, ``[dst nodes, 4]``.
        size: width and height of the image in pixels; None if unknown, then there are no edges.
        same: whether both are the same nodes; then there are no edges from a node to itself.
        normalized: whether centers are divided by the image's width and height before distance and angle are taken, as
            in the paper; else both are taken in pixels.

    Returns:
        edge index ``[2, edges]``; index into `SPATIAL_LABELS` ``[edges]``; and distance and angle ``[edges, 2]``, the
        distance as a share of the diagonal, the angle in radians from -pi to pi.
    """
    width, height = size or (math.nan, math.nan)
    diagonal = math.hypot(1, 1) if normalized else math.hypot(width, height)
    # [src nodes, dst nodes, 4]
    i, j = src[:, None], dst[None, :]
    contains = (i[..., :2] <= j[..., :2]).all(-1) & (i[..., 2:] >= j[..., 2:]).all(-1)
    covered = (j[..., :2] <= i[..., :2]).all(-1) & (j[..., 2:] >= i[..., 2:]).all(-1)
    offset = (j[..., :2] + j[..., 2:] - i[..., :2] - i[..., 2:]) / 2
    # without a size NaN, so that there are no edges
    offset = offset / offset.new_tensor([width, height]) if normalized else offset
    distance = offset.norm(dim=-1) / diagonal
    angle = torch.atan2(offset[..., 1], offset[..., 0])

    turns = angle % (2 * math.pi) / (2 * math.pi)
    # an angle just under a full turn may be rounded to a full turn
    sector = (turns * DIRECTIONS).nan_to_num().long().clamp(max=DIRECTIONS - 1)
    from torchvision.ops import box_iou  # a second to import, and few models need it

    label = torch.where(box_iou(src, dst).nan_to_num() > 0.5, 2, 3 + sector)
    label = torch.where(covered, 1, label)
    label = torch.where(contains, 0, label)
    # comparisons with NaN are false: no edge where a box or the image's size is missing
    is_edge = (label < 3) & ~distance.isnan() | (distance <= 0.5)
    if same:
        is_edge.fill_diagonal_(False)
    edges = is_edge.nonzero(as_tuple=True)
    return torch.stack(edges), label[edges], torch.stack([distance[edges], angle[edges]], -1)
