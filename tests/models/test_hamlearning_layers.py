"""The R-GCN against its equations and PyG's, and boxes as features."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import awkward_edges, awkward_posts, gradients, layout, post, random_edges, state
from torch import Tensor
from torch_geometric.nn import RGCNConv

from mnergraph.graph import Edges, Relation, Schema, Spatial
from mnergraph.graph.box_geometry import SPATIAL_LABELS, spatial_edges
from mnergraph.models.hamlearning.layers import BoxFeatures, GatedResidual
from mnergraph.nn import HeteroLayer, RelationalConvolution
from mnergraph.pair import DetectedObject, Pair

WIDTH, LABELS = 8, 5
AROUND = ("object", "around", "object")


def labelled(edges: Edges, labels: int = LABELS) -> Edges:
    generator = torch.Generator().manual_seed(5)
    kinds = torch.randint(labels, (edges.index.shape[1],), generator=generator)
    return Edges(edges.src, edges.dst, edges.index, type=kinds)


SHAPES = [pytest.param(labelled(edges), id=name) for name, edges in awkward_edges()]
every_shape = pytest.mark.parametrize("edges", SHAPES)


def inputs(edges: Edges) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    dst = torch.randn(edges.dst.num_nodes, WIDTH, generator=generator)
    return dst, dst if edges.src is edges.dst else torch.randn(edges.src.num_nodes, WIDTH, generator=generator)


def convolution(labels: int = LABELS) -> RelationalConvolution:
    torch.manual_seed(0)
    made = RelationalConvolution(WIDTH, labels)
    torch.nn.init.normal_(made.bias)
    return made


@every_shape
def test_against_its_equation(edges: Edges) -> None:
    made, (dst, src) = convolution(), inputs(edges)
    expected = [made.bias for _ in range(edges.dst.num_nodes)]
    for (sender, receiver), label in zip(edges.index.t().tolist(), edges.type.tolist(), strict=True):
        expected[receiver] = expected[receiver] + made.weight[label].t() @ src[sender]
    found = made(src, dst, edges)
    assert found.shape == dst.shape
    if expected:
        torch.testing.assert_close(found, torch.stack(expected), atol=1e-5, rtol=1e-5)


@every_shape
def test_equals_pygs_rgcn_conv(edges: Edges) -> None:
    """Values and gradients of RGCNConv, whose parameters load into ours."""
    theirs = RGCNConv((WIDTH, WIDTH), WIDTH, LABELS, aggr="add", root_weight=False)
    torch.nn.init.normal_(theirs.bias)
    ours = convolution()
    ours.load_state_dict(theirs.state_dict())
    dst, src = inputs(edges)
    torch.testing.assert_close(ours(src, dst, edges), theirs((src, dst), edges.index, edges.type), atol=1e-5, rtol=1e-5)
    mine = gradients(lambda d, s: ours(s, d, edges), ours, dst, src)
    yours = gradients(lambda d, s: theirs((s, d), edges.index, edges.type), theirs, dst, src)
    for a, b in zip(mine, yours, strict=True):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-4)


def test_alone_is_batched() -> None:
    made, node_layout = convolution(), layout(4, 0, 6, 1)
    edges = labelled(random_edges(node_layout, node_layout, 0.5))
    x, _ = inputs(edges)
    together = made(x, x, edges)
    for begin, end in zip(node_layout.ptr[:-1].tolist(), node_layout.ptr[1:].tolist(), strict=True):
        inside = (edges.index[0] >= begin) & (edges.index[0] < end)
        own = layout(end - begin)
        alone = Edges(own, own, edges.index[:, inside] - begin, type=edges.type[inside])
        torch.testing.assert_close(made(x[begin:end], x[begin:end], alone), together[begin:end], atol=1e-5, rtol=1e-5)


def test_half_precision() -> None:
    made, edges = convolution(), labelled(random_edges(layout(6), layout(6), 0.5))
    x, src = inputs(edges)
    update = GatedResidual(WIDTH)
    expected = update(x, made(src, x, edges))
    with torch.autocast("cpu", torch.bfloat16):
        found = update(x, made(src, x, edges))
    torch.testing.assert_close(found.float(), expected, atol=0.1, rtol=0.1)


def test_edges_without_labels() -> None:
    with pytest.raises(ValueError, match="needs edge types, and this relation's edges have none"):
        convolution()(torch.zeros(3, WIDTH), torch.zeros(3, WIDTH), Edges(layout(3), layout(3)))


def test_gated_update() -> None:
    """Eqs. 6-7, node by node, with W as the one matrix of the paper."""
    torch.manual_seed(0)
    update, x, message = GatedResidual(WIDTH), torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    matrix = torch.cat([update.gate.a.weight, update.gate.b.weight], 1)
    assert [name for name, _ in update.named_parameters()] == ["gate.a.weight", "gate.b.weight"]
    found = update(x, message)
    for i in range(5):
        m = message[i].clamp(min=0)
        gate = torch.sigmoid(matrix @ torch.cat([m, x[i]]))
        torch.testing.assert_close(found[i], x[i] + gate * m)


def test_in_a_hetero_layer() -> None:
    """Operator and update in a HeteroLayer, on the boxes' own labels."""
    torch.manual_seed(0)
    graph = state(awkward_posts())
    layer = HeteroLayer({AROUND: convolution(len(SPATIAL_LABELS))}, residual=lambda: GatedResidual(WIDTH))
    x, edges = graph.x["object"], graph.edges[AROUND]
    found, message = layer(graph).x["object"], layer.operators[0](x, x, edges)
    torch.testing.assert_close(found, layer.residual["object"](x, message))
    isolated = torch.ones(len(x), dtype=torch.bool).index_fill(0, edges.index[1], False)
    assert 0 < isolated.sum() < len(x)
    torch.testing.assert_close(message[isolated], layer.operators[0].bias.expand(int(isolated.sum()), -1))


def test_a_label_determines_the_reverse_one() -> None:
    """Why a matrix for each label of the incoming edge is enough: it determines the outgoing edge's."""
    torch.manual_seed(0)
    corners = torch.rand(400, 2, 2) * torch.tensor([300.0, 200.0])
    boxes = torch.cat([corners.amin(1), corners.amax(1)], 1)
    boxes = torch.cat([boxes, torch.tensor([[0.0, 0.0, 300.0, 200.0]])])
    index, labels, _ = spatial_edges(boxes, boxes, (300, 200), same=True)
    of = dict(zip(map(tuple, index.t().tolist()), labels.tolist(), strict=True))
    assert {(j, i) for i, j in of} == of.keys()
    back = {(label, of[j, i]) for (i, j), label in of.items()}
    names = {(SPATIAL_LABELS[label], SPATIAL_LABELS[other]) for label, other in back}
    opposite = {(f"class{k + 1}", f"class{(k + 4) % 8 + 1}") for k in range(8)}
    assert names == {("inside", "cover"), ("cover", "inside"), ("overlap", "overlap")} | opposite


# --- boxes


SPATIAL_SCHEMA = Schema([Relation("object", "near", "image", Spatial())], nodes=["sentence"])


def test_box_features_against_loops() -> None:
    posts = [
        *awkward_posts(),
        Pair(("a",), size=None, objects=(DetectedObject(box=(1, 2, 3, 4)),), image_features=torch.zeros(1, 5)),
        Pair(("a",), size=(40, 20), objects=(DetectedObject(box=(10, 5, 30, 10)), DetectedObject())),
    ]
    graph = state(posts, schema=SPATIAL_SCHEMA)
    found = BoxFeatures()(graph)
    expected = []
    for pair in posts:
        for obj in pair.objects:
            if obj.box is None or pair.size is None:
                expected.append([0.0] * 4)
                continue
            (left, top, right, bottom), (w, h) = obj.box, pair.size
            expected.append([(left + right) / 2 / w, (top + bottom) / 2 / h, (bottom - top) / h, (right - left) / w])
    assert expected[-2] == [0.5, 0.375, 0.25, 0.5]
    assert any(map(any, expected))
    torch.testing.assert_close(found.x["object"], torch.cat([torch.tensor(expected), graph.x["object"]], 1))
    images = graph.layouts["image"].num_nodes
    whole = torch.tensor([[0.5, 0.5, 1.0, 1.0]] * images)
    torch.testing.assert_close(found.x["image"], torch.cat([whole, graph.x["image"]], 1))
    assert images == 8


def test_box_features_without_objects_or_images() -> None:
    found = BoxFeatures()(state([post(3, image=False)], schema=SPATIAL_SCHEMA))
    assert found.x["object"].shape == found.x["image"].shape == (0, 12)
    assert not math.isnan(found.x["object"].sum())
