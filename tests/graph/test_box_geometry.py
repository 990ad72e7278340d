"""The eleven spatial labels, against a direct implementation of HamLearning, section 3.1."""

from __future__ import annotations

import math
import random

import pytest
import torch

from mnergraph.graph.box_geometry import SPATIAL_LABELS, image_edges, spatial_edges

SIZE = (80, 60)  # diagonal 100


def plain(
    i: list[float], j: list[float], size: tuple[float, float], normalized: bool
) -> tuple[str, float, float] | None:
    """Label, distance and angle of the edge from i to j, or None: one sentence of the paper after another."""
    dx, dy = (j[0] + j[2] - i[0] - i[2]) / 2, (j[1] + j[3] - i[1] - i[3]) / 2
    if normalized:
        dx, dy, size = dx / size[0], dy / size[1], (1, 1)
    ratio, angle = math.hypot(dx, dy) / math.hypot(*size), math.atan2(dy, dx)
    if i[0] <= j[0] and i[1] <= j[1] and i[2] >= j[2] and i[3] >= j[3]:
        return "inside", ratio, angle
    if j[0] <= i[0] and j[1] <= i[1] and j[2] >= i[2] and j[3] >= i[3]:
        return "cover", ratio, angle
    wide, high = min(i[2], j[2]) - max(i[0], j[0]), min(i[3], j[3]) - max(i[1], j[1])
    common = max(wide, 0.0) * max(high, 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (i, j)]
    if common and common / (sum(areas) - common) > 0.5:
        return "overlap", ratio, angle
    if ratio > 0.5:
        return None
    positive = angle if angle >= 0 else angle + 2 * math.pi
    return f"class{min(7, int(positive / (math.pi / 4))) + 1}", ratio, angle


def labels(*boxes: list[float], size: tuple[int, int] | None = SIZE) -> dict[tuple[int, int], str]:
    index, label, _ = spatial_edges(torch.tensor(boxes), torch.tensor(boxes), size, same=True, normalized=False)
    return {(i, j): SPATIAL_LABELS[name] for (i, j), name in zip(index.t().tolist(), label.tolist(), strict=True)}


def test_eleven_labels() -> None:
    assert ("inside", "cover", "overlap", *(f"class{k}" for k in range(1, 9))) == SPATIAL_LABELS


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("seed", range(20))
def test_random_boxes(seed: int, normalized: bool) -> None:
    chance = random.Random(seed)

    def boxes(count: int) -> list[list[float]]:
        xs, ys = ([sorted(chance.sample(range(limit + 1), 2)) for _ in range(count)] for limit in SIZE)
        return [[float(v) for v in (x[0], y[0], x[1], y[1])] for x, y in zip(xs, ys, strict=True)]

    ours, theirs = boxes(chance.randint(0, 6)), boxes(6)
    index, label, geometry = spatial_edges(
        torch.tensor(ours).reshape(-1, 4), torch.tensor(theirs), SIZE, same=False, normalized=normalized
    )
    found = {
        (i, j): (SPATIAL_LABELS[name], *numbers)
        for (i, j), name, numbers in zip(index.t().tolist(), label.tolist(), geometry.tolist(), strict=True)
    }
    expected = {(i, j): plain(a, b, SIZE, normalized) for i, a in enumerate(ours) for j, b in enumerate(theirs)}
    expected = {pair: edge for pair, edge in expected.items() if edge is not None}
    assert found.keys() == expected.keys()
    for pair, (name, ratio, angle) in expected.items():
        assert found[pair][0] == name, (pair, ours[pair[0]], theirs[pair[1]])
        assert found[pair][1:] == pytest.approx((ratio, angle), abs=1e-5)


@pytest.mark.parametrize("position", range(8))
def test_directions_and_their_boundaries(position: int) -> None:
    """A direction begins at its own angle, and ends just before the next."""

    def towards(angle: float) -> str:
        x, y = 40 + 20 * math.cos(angle), 30 + 20 * math.sin(angle)
        return labels([39, 29, 41, 31], [x - 1, y - 1, x + 1, y + 1])[0, 1]

    begin = position * math.pi / 4
    assert towards(begin + math.pi / 8) == f"class{position + 1}"
    assert towards(begin + 1e-3) == f"class{position + 1}"
    assert towards(begin - 1e-3) == f"class{(position - 1) % 8 + 1}"
    # exactly on the boundary, as boxes in whole pixels have it
    dx, dy = [(1, 0), (1, 1), (0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1)][position]
    x, y = 40 + 15 * dx, 30 + 15 * dy
    assert labels([39, 29, 41, 31], [x - 1, y - 1, x + 1, y + 1])[0, 1] == f"class{position + 1}"


def test_angle_just_below_two_pi() -> None:
    index, label, _ = spatial_edges(
        torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[30.0, -1e-7, 32.0, 2.0]]), SIZE, same=False
    )
    assert index.shape == (2, 1)
    assert SPATIAL_LABELS[int(label)] in ("class8", "class1")


def test_overlap_needs_more_than_half() -> None:
    # two boxes 30 wide, shifted by 10: IoU = 20 / 40
    assert labels([0, 0, 30, 10], [10, 0, 40, 10]) == {(0, 1): "class1", (1, 0): "class5"}
    assert labels([0, 0, 30, 10], [9.9, 0, 39.9, 10]) == {(0, 1): "overlap", (1, 0): "overlap"}


def test_overlap_comes_before_distance() -> None:
    """Large boxes of a small image overlap although their centers lie far apart."""
    assert labels([0, 0, 100, 100], [20, 0, 120, 100], size=(8, 6)) == {(0, 1): "overlap", (1, 0): "overlap"}


def test_no_edge_beyond_half_a_diagonal() -> None:
    def at(distance: float) -> dict[tuple[int, int], str]:
        return labels([0, 0, 2, 2], [distance, 0, distance + 2, 2])

    assert at(49.9) == {(0, 1): "class1", (1, 0): "class5"}
    assert at(50.1) == {}


def test_box_inside_another() -> None:
    assert labels([0, 0, 40, 40], [10, 10, 20, 20]) == {(0, 1): "inside", (1, 0): "cover"}
    assert labels([0, 0, 40, 40], [0, 0, 20, 40]) == {(0, 1): "inside", (1, 0): "cover"}, "sharing sides"
    assert labels([10, 10, 20, 20], [10, 10, 20, 20]) == {(0, 1): "inside", (1, 0): "inside"}, "identical"
    assert labels([0, 0, 1000, 2], [998, 0, 1000, 2]) == {(0, 1): "inside", (1, 0): "cover"}, "however far"


def test_missing_boxes_and_size() -> None:
    nowhere = [math.nan] * 4
    assert labels([0, 0, 4, 4], nowhere, [1, 1, 3, 3]) == {(0, 2): "inside", (2, 0): "cover"}
    assert labels(nowhere, nowhere) == {}
    assert labels([0, 0, 4, 4], [1, 1, 3, 3], size=None) == {}
    index, label, geometry = spatial_edges(torch.zeros(0, 4), torch.zeros(0, 4), SIZE, same=True)
    assert (index.shape, label.shape, geometry.shape) == ((2, 0), (0,), (0, 2))
    assert index.dtype == label.dtype == torch.long


def test_a_box_without_area() -> None:
    assert labels([5, 5, 5, 5], [20, 5, 22, 9])[0, 1] == "class1"


def test_no_self_loops_unless_the_nodes_differ() -> None:
    box = torch.tensor([[0.0, 0.0, 4.0, 4.0]])
    assert spatial_edges(box, box, SIZE, same=True)[0].shape == (2, 0)
    assert spatial_edges(box, box, SIZE, same=False)[0].tolist() == [[0], [0]]


@pytest.mark.parametrize("normalized", [True, False])
@pytest.mark.parametrize("from_image", [True, False])
def test_image_edges_are_spatial_edges_of_the_whole_image(from_image: bool, normalized: bool) -> None:
    nan = math.nan
    rows = [[10.0, 20.0, 30.0, 50.0], [nan, nan, nan, nan], [0.0, 0.0, 80.0, 60.0], [41.0, 7.0, 55.0, 9.0]]
    boxes, image = torch.tensor(rows), torch.tensor([[0.0, 0.0, *SIZE]])
    ends = (image, boxes) if from_image else (boxes, image)
    index, label, geometry = image_edges(boxes, SIZE, from_image=from_image, normalized=normalized)
    expected, _, expected_geometry = spatial_edges(*ends, SIZE, same=False, normalized=normalized)
    assert index[1 if from_image else 0].tolist() == [0, 2, 3]
    assert torch.equal(index, expected)
    assert torch.equal(geometry, expected_geometry)
    # a box as large as the image is inside it, too, in both directions
    assert label.tolist() == [SPATIAL_LABELS.index("inside" if from_image else "cover")] * 3


def test_image_edges_cut_boxes_off_at_the_border() -> None:
    outside, cut = torch.tensor([[-20.0, 30.0, 100.0, 90.0]]), torch.tensor([[0.0, 30.0, 80.0, 60.0]])
    for found, expected in zip(*(image_edges(box, SIZE, from_image=True) for box in (outside, cut)), strict=True):
        assert torch.equal(found, expected)


def test_image_edges_need_an_image_of_known_size() -> None:
    box = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    assert image_edges(box, None, from_image=True)[0].shape == (2, 0)
    assert image_edges(box[:0], SIZE, from_image=False)[2].shape == (0, 2)
