"""How two boxes lie to each other: HamLearning's eleven labels (section 3.1, "Spatial Encoding", and A.1)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

#: The eight directions divide the circle from 0 radians (to the right; y grows downwards) in equal parts.
DIRECTIONS = 8


#: ``inside``: the sender contains the receiver; ``cover``: the receiver contains the sender; then ``overlap``
#: and the eight directions.
SPATIAL_LABELS = ("inside", "cover", "overlap", *(f"class{place + 1}" for place in range(DIRECTIONS)))


def spatial_edges(
    src: Tensor, dst: Tensor, size: tuple[int, int] | None, *, same: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Labelled edges from boxes to boxes.

    "inside" if i contains j fully, "cover" if j contains i, else "overlap" if IoU > 0.5, else no edge if
    the distance of the centres is over half the picture's diagonal, else one of eight classes by the angle
    of the vector from i's centre to j's.

    Args:
        src: boxes of the senders, ``[senders, 4]``, xyxy in pixels; a row of NaN has no box and no edge.
        dst: boxes of the receivers, ``[receivers, 4]``.
        size: width and height of the picture in pixels; None means that nothing is known: no edge.
        same: whether both are the same nodes; then none reaches itself.

    Returns:
        index ``[2, edges]``, label ``[edges]``, (distance, angle) ``[edges, 2]``: the distance as a share of
        the diagonal, the angle in radians from -pi to pi.
    """
    diagonal = math.hypot(*size) if size else math.nan
    # [senders, receivers, 4]
    i, j = src[:, None], dst[None, :]
    contains = (i[..., :2] <= j[..., :2]).all(-1) & (i[..., 2:] >= j[..., 2:]).all(-1)
    covered = (j[..., :2] <= i[..., :2]).all(-1) & (j[..., 2:] >= i[..., 2:]).all(-1)
    step = (j[..., :2] + j[..., 2:] - i[..., :2] - i[..., 2:]) / 2
    distance = step.norm(dim=-1) / diagonal
    angle = torch.atan2(step[..., 1], step[..., 0])

    turns = angle % (2 * math.pi) / (2 * math.pi)
    # rounding may say that an angle just under a full turn is one
    sector = (turns * DIRECTIONS).nan_to_num().long().clamp(max=DIRECTIONS - 1)
    from torchvision.ops import box_iou  # a second to import, and few models need it

    label = torch.where(box_iou(src, dst).nan_to_num() > 0.5, 2, 3 + sector)
    label = torch.where(covered, 1, label)
    label = torch.where(contains, 0, label)
    # a comparison with NaN is false: where a box or the size is missing there is no edge
    joined = (label < 3) & ~distance.isnan() | (distance <= 0.5)
    if same:
        joined.fill_diagonal_(False)
    rows, columns = joined.nonzero(as_tuple=True)
    place = (rows, columns)
    return torch.stack(place), label[place], torch.stack([distance[place], angle[place]], -1)
