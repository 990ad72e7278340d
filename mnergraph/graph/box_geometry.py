"""Spatial relations between boxes: HamLearning's eleven labels (section 3.1, "Spatial Encoding", and A.1)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

# in NumPy, as torch takes three times as long for a post's few boxes
Boxes = NDArray[np.float32]

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
    if size is None or not len(src) or not len(dst):
        return _no_edges()
    # [4, src nodes, 1], [4, 1, dst nodes]
    i, j = src.numpy().T[:, :, None], dst.numpy().T[:, None, :]
    with np.errstate(invalid="ignore", divide="ignore"):  # of boxes that are none, or points
        x, y, distance = _offset(i, j, size, normalized)
        contains, covered = _contains(i, j), _contains(j, i)
        # comparisons with NaN are false: no edge where a box is missing
        near = contains | covered | (box_iou(i, j) > 0.5)
        is_edge = near & ~np.isnan(distance) | (distance <= 0.5)
        if same:
            np.fill_diagonal(is_edge, False)
        edges = is_edge.nonzero()
        angle = _angle(x[edges], y[edges])
        turns = angle % (2 * math.pi) / (2 * math.pi)
        # an angle just under a full turn may be rounded to a full turn; an infinite distance has no angle
        sector = np.nan_to_num(np.minimum(turns * DIRECTIONS, DIRECTIONS - 1)).astype(np.int64)
    label = np.where(near[edges], 2, 3 + sector)
    label[covered[edges]] = 1
    label[contains[edges]] = 0
    return _as_tensors(edges, label, distance[edges], angle)


def image_edges(
    boxes: Tensor, size: tuple[int, int] | None, *, from_image: bool, normalized: bool = True
) -> tuple[Tensor, Tensor, Tensor]:
    """Return edges between the whole image and the boxes in it, with their types, distances and angles.

    The image contains every box, also one as large as itself; parts of boxes outside the image are cut off.

    Args:
        boxes: ``[nodes, 4]``, as in `spatial_edges`.
        size: width and height of the image in pixels; None if unknown, then there are no edges.
        from_image: whether edges are from the image, "inside"; else they are from the boxes, "cover".
        normalized: as in `spatial_edges`.

    Returns:
        as `spatial_edges` does; the image is node 0.
    """
    if size is None or not len(boxes):
        return _no_edges()
    # [4, 1], [4, nodes]
    image = np.array([[0.0], [0.0], [size[0]], [size[1]]], dtype=np.float32)
    parts = np.minimum(np.maximum(boxes.numpy().T, 0), image[[2, 3, 2, 3]])
    with np.errstate(invalid="ignore", divide="ignore"):
        src, dst = (image, parts) if from_image else (parts, image)
        x, y, distance = _offset(src, dst, size, normalized)
    [node] = (~np.isnan(distance)).nonzero()
    ends = (np.zeros_like(node), node) if from_image else (node, np.zeros_like(node))
    label = np.full_like(node, SPATIAL_LABELS.index("inside" if from_image else "cover"))
    return _as_tensors(ends, label, distance[node], _angle(x[node], y[node]))


def _offset(i: Boxes, j: Boxes, size: tuple[int, int], normalized: bool) -> tuple[Boxes, Boxes, Boxes]:
    """Return the vectors from i's centers to j's, and their lengths as a share of the diagonal."""
    width, height = np.float32(size[0]), np.float32(size[1])
    x, y = (j[0] + j[2] - i[0] - i[2]) / 2, (j[1] + j[3] - i[1] - i[3]) / 2
    if normalized:
        x, y = x / width, y / height
    diagonal = math.hypot(1, 1) if normalized else math.hypot(*size)
    return x, y, np.sqrt(x * x + y * y) / np.float32(diagonal)


def _angle(x: Boxes, y: Boxes) -> NDArray[np.float64]:
    """Return the angle of vectors, in float64: in float32 a diagonal may fall on either side of its sector's border."""
    return np.arctan2(y, x, dtype=np.float64)


def _contains(i: Boxes, j: Boxes) -> NDArray[np.bool_]:
    """Return which box i contains which box j."""
    return (i[0] <= j[0]) & (i[1] <= j[1]) & (i[2] >= j[2]) & (i[3] >= j[3])


def box_iou(i: NDArray[Any], j: NDArray[Any]) -> NDArray[Any]:
    """Return the intersection over union of boxes i and j, ``[4, ...]`` each, as `torchvision.ops.box_iou`."""
    width = np.maximum(np.minimum(i[2], j[2]) - np.maximum(i[0], j[0]), 0)
    height = np.maximum(np.minimum(i[3], j[3]) - np.maximum(i[1], j[1]), 0)
    both = width * height
    areas = (i[2] - i[0]) * (i[3] - i[1]) + (j[2] - j[0]) * (j[3] - j[1])
    iou: NDArray[Any] = both / (areas - both)
    return iou


def _as_tensors(
    ends: tuple[NDArray[Any], ...], label: NDArray[Any], distance: Boxes, angle: NDArray[Any]
) -> tuple[Tensor, Tensor, Tensor]:
    geometry = np.stack([distance, angle.astype(np.float32)], -1)
    return torch.from_numpy(np.stack(ends)), torch.from_numpy(label), torch.from_numpy(geometry)


def _no_edges() -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty(2, 0, dtype=torch.long), torch.empty(0, dtype=torch.long), torch.empty(0, 2)
