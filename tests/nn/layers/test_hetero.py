"""Residuals and layers: equations by loops, dense and sparse, and PyG's own convolutions as operators."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import (
    AROUND,
    NEAR,
    OBJECTS,
    TO_OBJECTS,
    TO_TOKENS,
    TOKENS,
    awkward_posts,
    neighbors,
    post,
    state,
    with_edge_layout,
    without_objects,
)
from torch import Tensor, nn
from torch_geometric.nn import GCNConv, HANConv, HeteroConv, HGTConv, RGCNConv, SAGEConv, TransformerConv, to_hetero

from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.layers.hetero import (
    Add,
    AddNorm,
    FeatureModule,
    FeedForward,
    HeteroConvLayer,
    HeteroLayer,
    NodeTypeModule,
)

WIDTH = 8
#: HeteroConv warns of node types that only send.
SENDERS_ONLY = pytest.mark.filterwarnings("ignore:There exist node types")


# --- node by node


@torch.no_grad()
def test_add_norm_and_feed_forward() -> None:
    torch.manual_seed(0)
    x, message = torch.randn(5, WIDTH), torch.randn(5, WIDTH)
    torch.testing.assert_close(Add()(x, message), x + message)

    def norm(row: Tensor, eps: float = 1e-5) -> Tensor:
        mean = sum(row) / WIDTH
        variance = sum((value - mean) ** 2 for value in row) / WIDTH
        return (row - mean) / math.sqrt(variance + eps)

    expected = torch.stack([norm(a + b) for a, b in zip(x, message, strict=True)])
    torch.testing.assert_close(AddNorm(WIDTH, 0.5).eval()(x, message), expected, atol=1e-5, rtol=1e-5)
    expected = torch.stack([norm(a + b, 0.2) for a, b in zip(x, message, strict=True)])
    torch.testing.assert_close(AddNorm(WIDTH, eps=0.2)(x, message), expected, atol=1e-5, rtol=1e-5)
    feed = FeedForward(WIDTH, 11, 0.5).eval()
    inner = [[max(0.0, float(w @ row + b)) for w, b in zip(feed.inner.weight, feed.inner.bias)] for row in x]  # noqa: B905
    outer = torch.tensor(inner) @ feed.outer.weight.T + feed.outer.bias
    expected = torch.stack([norm(a + b) for a, b in zip(x, outer, strict=True)])
    torch.testing.assert_close(feed(x), expected, atol=1e-5, rtol=1e-5)
    assert feed(x[:0]).shape == (0, WIDTH)
    other = FeedForward(WIDTH, 11, activation=torch.sin, eps=0.2)
    outer = other.outer(torch.sin(other.inner(x)))
    expected = torch.stack([norm(a + b, 0.2) for a, b in zip(x, outer, strict=True)])
    torch.testing.assert_close(other(x), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [lambda: AddNorm(WIDTH, 0.5), lambda: FeedForward(WIDTH, 11, 0.5)])
def test_dropout_only_in_training(make) -> None:
    module = make()
    arguments = [torch.randn(5, WIDTH) for _ in range(2 if isinstance(module, AddNorm) else 1)]
    module.eval()
    assert torch.equal(module(*arguments), module(*arguments))
    module.train()
    torch.manual_seed(0)
    first = module(*arguments)
    torch.manual_seed(0)
    assert torch.equal(module(*arguments), first)
    assert not torch.equal(module(*arguments), first)


def test_node_type_module() -> None:
    graph = state(awkward_posts())
    layer = NodeTypeModule({"token": nn.Linear(WIDTH, 3)})
    found = layer(graph)
    torch.testing.assert_close(found.x["token"], layer.types["token"](graph.x["token"]))
    assert found.x["object"] is graph.x["object"]


def test_feature_module() -> None:
    graph = state(awkward_posts())
    graph = graph.update(encoded=torch.randn(graph.layouts["token"].num_nodes, WIDTH))
    layer = FeatureModule(nn.Bilinear(WIDTH, WIDTH, 3), in_keys=("token", "encoded"), out_key="joined")
    found = layer(graph)
    expected = layer.module(graph.x["token"], graph.x["encoded"])
    torch.testing.assert_close(found.x["joined"], expected, rtol=0, atol=0)
    turned = FeatureModule(layer.module, in_keys=("encoded", "token"), out_key="token")(graph)
    expected = layer.module(graph.x["encoded"], graph.x["token"])
    torch.testing.assert_close(turned.x["token"], expected, rtol=0, atol=0)
    assert all(found.x[name] is x for name, x in graph.x.items()), "nothing else is written"
    assert "joined" not in graph.x
    found.x["joined"].sum().backward()
    assert all(p.grad is not None for p in layer.parameters())
    with pytest.raises(KeyError, match="image"):
        FeatureModule(nn.Identity(), in_keys=("image",), out_key="image")(graph)


# --- the relational layer

OPERATORS = {
    TOKENS: lambda: RelationAttention(WIDTH, 2),
    OBJECTS: lambda: RelationAttention(WIDTH, 4, value=False, output=False),
    TO_TOKENS: lambda: GatedSum(WIDTH),
    TO_OBJECTS: lambda: GatedSum(WIDTH, bias=True),
    NEAR: lambda: RelationAttention(WIDTH, 2),
}


def layer_of(aggr: str, combine=None) -> HeteroLayer:
    return HeteroLayer({key: make() for key, make in OPERATORS.items()}, aggr, combine)


@pytest.mark.parametrize("aggr", ["sum", "mean", "max"])
@pytest.mark.parametrize("combine", [None, Add, lambda: AddNorm(WIDTH)])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_relational_layer_by_hand(aggr: str, combine, posts: list) -> None:
    torch.manual_seed(0)
    layer, graph = layer_of(aggr, combine), state(posts)
    messages: dict[str, list[Tensor]] = {"token": [], "object": []}
    for key, operator in zip(layer.relations, layer.operators, strict=True):
        messages[key[2]].append(operator(graph.x[key[0]], graph.x[key[2]], graph.edges[key]))
    found = layer(graph)
    for kind, made in messages.items():
        expected = made[0]
        for other in made[1:]:
            expected = torch.maximum(expected, other) if aggr == "max" else expected + other
        expected = expected / len(made) if aggr == "mean" else expected
        if combine:
            expected = layer.residual[kind](graph.x[kind], expected)
        torch.testing.assert_close(found.x[kind], expected, atol=1e-5, rtol=1e-5)
    assert found.edges is graph.edges


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_relational_layer_dense_is_sparse_and_trains(training: bool, posts: list) -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(
        layer_of("sum", lambda: AddNorm(WIDTH)),
        NodeTypeModule({kind: FeedForward(WIDTH, 16) for kind in ("token", "object")}),
        layer_of("mean", lambda: AddNorm(WIDTH)),
    ).train(training)
    graph, results = state(posts), []
    for edge_layout in ("dense", "sparse"):
        stack.zero_grad()
        found = stack(with_edge_layout(graph, edge_layout))
        (found.x["token"].sin().sum() + found.x["object"].sin().sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in stack.parameters())
        results.append([found.x["token"], found.x["object"], *(p.grad.clone() for p in stack.parameters())])
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(dense, sparse, atol=2e-4, rtol=1e-3)
    torch.testing.assert_close(results[0][0], results[1][0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_relational_layer_alone_is_batched(edge_layout: str) -> None:
    torch.manual_seed(0)
    layer, posts = layer_of("sum", lambda: AddNorm(WIDTH)).eval(), awkward_posts()
    graph = with_edge_layout(state(posts), edge_layout)
    found = layer(graph)
    for s, pair in enumerate(posts):
        rows = {kind: slice(*node_layout.ptr[s : s + 2].tolist()) for kind, node_layout in graph.layouts.items()}
        alone = with_edge_layout(state([pair]), edge_layout).update(
            **{kind: graph.x[kind][r] for kind, r in rows.items()}
        )
        for kind, x in layer(alone).x.items():
            torch.testing.assert_close(x, found.x[kind][rows[kind]], atol=1e-5, rtol=1e-5)


def test_node_types_without_messages_are_unchanged() -> None:
    graph = state([post(3, 2)])
    found = HeteroLayer({TOKENS: RelationAttention(WIDTH, 2)})(graph)
    assert found.x["object"] is graph.x["object"]
    theirs = HeteroConv({TOKENS: SAGEConv(WIDTH, WIDTH)})
    assert "object" not in theirs(graph.x, {TOKENS: graph.edges[TOKENS].index}), "PyG's trap"


def test_errors_of_the_relational_layer() -> None:
    with pytest.raises(ValueError, match="aggr is one of sum, mean, max, not 'min'"):
        HeteroLayer({TOKENS: GatedSum(WIDTH)}, "min")
    layer = HeteroLayer({("image", "updates", "token"): GatedSum(WIDTH)})
    with pytest.raises(KeyError, match=r"\('image', 'updates', 'token'\) is not in the graph, which has \('token', "):
        layer(state([post(3, 2)]))


# --- PyG's convolutions


def test_sage_and_gcn_against_their_equations() -> None:
    torch.manual_seed(0)
    graph = state(awkward_posts())
    layer = HeteroLayer({TO_TOKENS: SAGEConv((WIDTH, WIDTH), 5), NEAR: GCNConv(WIDTH, 5, add_self_loops=False)}, "sum")
    sage, gcn = layer.operators
    expected = []
    tokens, objects = graph.x["token"], graph.x["object"]
    senders = neighbors(graph.edges[NEAR])
    for i, (guides, near) in enumerate(zip(neighbors(graph.edges[TO_TOKENS]), senders, strict=True)):
        mean = objects[guides].mean(0) if guides else torch.zeros(WIDTH)
        row = sage.lin_l(mean) + sage.lin_r(tokens[i]) + gcn.bias
        for j in near:
            row = row + gcn.lin(tokens[j]) / math.sqrt(len(near) * len(senders[j]))
        expected.append(row)
    torch.testing.assert_close(layer(graph).x["token"], torch.stack(expected), atol=1e-5, rtol=1e-5)


def test_rgcn_gets_edge_types() -> None:
    torch.manual_seed(0)
    graph = state(awkward_posts())
    layer = HeteroLayer({AROUND: RGCNConv(WIDTH, 5, len(SPATIAL_LABELS), aggr="add")})
    conv, edges, x = layer.operators[0], graph.edges[AROUND], graph.x["object"]
    assert edges.index.shape[1] > 3
    expected = x @ conv.root + conv.bias
    for (sender, receiver), kind in zip(edges.index.t().tolist(), edges.type.tolist(), strict=True):
        expected = expected.index_add(0, torch.tensor([receiver]), (x[sender] @ conv.weight[kind])[None])
    torch.testing.assert_close(layer(graph).x["object"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("geometry", [True, False])
def test_transformer_conv_gets_geometry_if_made_for_it(geometry: bool) -> None:
    torch.manual_seed(0)
    graph = state(awkward_posts())
    conv = TransformerConv(WIDTH, 5, edge_dim=2 if geometry else None)
    layer, edges, x = HeteroLayer({AROUND: conv}), graph.edges[AROUND], graph.x["object"]
    expected = []
    for i in range(len(x)):
        into = (edges.index[1] == i).nonzero().flatten().tolist()
        extra = conv.lin_edge(edges.attr[into]) if geometry else torch.zeros(len(into), 5)
        senders = x[edges.index[0][into]]
        keys, values = conv.lin_key(senders) + extra, conv.lin_value(senders) + extra
        alpha = (keys @ conv.lin_query(x[i]) / math.sqrt(5)).softmax(0)
        expected.append((alpha[:, None] * values).sum(0) + conv.lin_skip(x[i]))
    torch.testing.assert_close(layer(graph).x["object"], torch.stack(expected), atol=1e-5, rtol=1e-5)


@SENDERS_ONLY
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_pyg_layer_is_the_relational_layer(posts: list) -> None:
    """HeteroConv in a stack, against our layer with the same convolutions."""
    torch.manual_seed(0)
    operators = {
        TO_TOKENS: SAGEConv((WIDTH, WIDTH), WIDTH),
        TOKENS: TransformerConv(WIDTH, WIDTH),
        NEAR: GCNConv(WIDTH, WIDTH),
    }
    graph = state(posts)
    for aggr in ("sum", "mean", "max"):
        theirs = HeteroConvLayer(HeteroConv(operators, aggr))(graph)
        ours = HeteroLayer(operators, aggr)(graph)
        torch.testing.assert_close(theirs.x["token"], ours.x["token"], atol=1e-5, rtol=1e-5)
        assert theirs.x["object"] is graph.x["object"]


@SENDERS_ONLY
def test_pyg_layer_refuses_a_missing_relation() -> None:
    layer = HeteroConvLayer(HeteroConv({("image", "updates", "token"): SAGEConv((WIDTH, WIDTH), WIDTH)}))
    with pytest.raises(KeyError, match=r"\('image', 'updates', 'token'\) is not in the graph, which has"):
        layer(state([post(3, 2)]))


# --- PyG's modules that read all relations at once

NARROW = [TO_TOKENS, TO_OBJECTS, TOKENS]


def metadata() -> tuple[list[str], list[tuple[str, str, str]]]:
    return ["token", "object"], NARROW


def arguments(graph) -> tuple[dict[str, Tensor], dict[tuple[str, str, str], Tensor]]:
    x = {node_type: graph.x[node_type] for node_type in ("token", "object")}
    return x, {key: graph.edges[key].index for key in NARROW}


@SENDERS_ONLY
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_rgcn_in_hetero_conv(posts: list) -> None:
    torch.manual_seed(0)
    graph = state(posts)
    conv, sage = RGCNConv(WIDTH, WIDTH, len(SPATIAL_LABELS), aggr="add"), SAGEConv((WIDTH, WIDTH), WIDTH)
    found = HeteroConvLayer(HeteroConv({AROUND: conv, TO_TOKENS: sage}))(graph)
    edges = graph.edges[AROUND]
    torch.testing.assert_close(found.x["object"], conv(graph.x["object"], edges.index, edges.type))
    ours = HeteroLayer({AROUND: conv, TO_TOKENS: sage})(graph)
    torch.testing.assert_close(found.x["token"], ours.x["token"])
    torch.testing.assert_close(found.x["object"], ours.x["object"])


@SENDERS_ONLY
@pytest.mark.parametrize(
    "make", [lambda conv: HeteroConvLayer(HeteroConv({TOKENS: conv})), lambda c: HeteroLayer({TOKENS: c})]
)
def test_error_of_rgcn_without_edge_types(make) -> None:
    layer = make(RGCNConv(WIDTH, WIDTH, 3))
    with pytest.raises(
        ValueError, match=r"RGCNConv needs a type for every edge, and those of \('token', .*as Spatial does"
    ):
        layer(state([post(3, 2)]))


@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
@pytest.mark.parametrize("kind", [HGTConv, HANConv])
def test_convolutions_of_all_relations(kind: type[nn.Module], posts: list) -> None:
    torch.manual_seed(0)
    graph, conv = state(posts), kind(WIDTH, WIDTH, metadata(), heads=2).eval()
    found, expected = HeteroConvLayer(conv)(graph), conv(*arguments(graph))
    for node_type, x in expected.items():
        if x is None:
            assert found.x[node_type] is graph.x[node_type]
        else:
            torch.testing.assert_close(found.x[node_type], x)
    assert expected["token"] is not None
    with pytest.raises(
        ValueError, match=rf"{kind.__name__} along .* all node types and relations at once; use HeteroConvLayer"
    ):
        HeteroLayer({TOKENS: conv})


class TwoSteps(nn.Module):
    """A homogeneous network, as `to_hetero` takes it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = SAGEConv((WIDTH, WIDTH), WIDTH), SAGEConv((WIDTH, WIDTH), WIDTH)

    def forward(self, x: Tensor, edge_index: Tensor) -> Tensor:
        return self.second(self.first(x, edge_index).relu(), edge_index)


def test_module_of_to_hetero() -> None:
    torch.manual_seed(0)
    graph, module = state(awkward_posts()), to_hetero(TwoSteps(), metadata())
    found, expected = HeteroConvLayer(module, relations=NARROW)(graph), module(*arguments(graph))
    for node_type in ("token", "object"):
        torch.testing.assert_close(found.x[node_type], expected[node_type])
    with pytest.raises(ValueError, match=r"does not keep the relations .*relations=schema.metadata"):
        HeteroConvLayer(module)
