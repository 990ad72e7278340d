"""The transformer layer along any relation and co-attention, against loops over nodes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from equations import norm, scatter, transformer
from fakes import (
    NEAR,
    OBJECTS,
    SCHEMA,
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
from torch.nn import functional as F

from mnergraph.graph import Complete, EdgeType, Relation, Schema
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig, TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH, HEADS = 8, 2
#: Complete relations between tokens and objects in both directions, in addition to those of SCHEMA.
TOKEN_TO_OBJECT, OBJECT_TO_TOKEN = ("token", "updates", "object"), ("object", "updates", "token")
BOTH = SCHEMA | Schema([Relation(*TOKEN_TO_OBJECT, Complete()), Relation(*OBJECT_TO_TOKEN, Complete())])
RELATIONS = [TOKENS, OBJECTS, TO_TOKENS, TO_OBJECTS, NEAR, TOKEN_TO_OBJECT, OBJECT_TO_TOKEN]
SHORT = [pair for pair in awkward_posts() if len(pair.words) < 128]
POSTS = pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "bare"])


def block(relation: EdgeType, **options: object) -> TransformerLayer:
    made = TransformerLayer(relation, WIDTH, HEADS, **options)
    scatter(made)
    return made


def path(*, words: str | None = None, other: str | None = None, **options: object) -> CoAttention:
    made = CoAttention(
        TOKEN_TO_OBJECT,
        OBJECT_TO_TOKEN,
        TransformerConfig(WIDTH, HEADS, **options),
        words_key=words,
        other_key=other,
        out_key="attended",
    )
    scatter(made)
    return made


def plain(
    part: TransformerLayer, graph: GraphState, dst: Tensor, src: Tensor, activation: Callable = torch.relu
) -> Tensor:
    """The layer along its relation, for every receiver with its own senders."""
    senders = neighbors(graph.edges[part.relation])
    rows = transformer(part, dst, lambda index: src[senders[index]], activation)
    return torch.stack(rows) if rows else dst


@torch.no_grad()
@pytest.mark.parametrize("relation", RELATIONS, ids=str)
@pytest.mark.parametrize("posts", [SHORT, without_objects()], ids=["awkward", "bare"])
def test_against_the_equation(relation: EdgeType, posts: list[Pair]) -> None:
    part, graph = block(relation), state(posts, schema=BOTH)
    assert part.feed_forward.inner.out_features == 4 * WIDTH
    expected = plain(part, graph, graph.x[relation[2]], graph.x[relation[0]])
    for edge_layout in ("dense", "sparse"):
        found = part(with_edge_layout(graph, edge_layout))
        torch.testing.assert_close(found.x[relation[2]], expected, atol=1e-5, rtol=1e-5)
        others = graph.x.keys() - {relation[2]}
        assert all(found.x[kind] is graph.x[kind] for kind in others)


@torch.no_grad()
def test_settings_of_berts_layer() -> None:
    """With a GELU, another width inside and another eps, from and to features of other names."""
    part = block(
        OBJECT_TO_TOKEN,
        intermediate_size=11,
        activation=F.gelu,
        eps=0.3,
        dst_key="states",
        src_key="blocks",
        out_key="visual",
    )
    graph = state(SHORT, schema=BOTH)
    tokens, objects = (graph.layouts[kind].num_nodes for kind in ("token", "object"))
    graph = graph.update(states=torch.randn(tokens, WIDTH), blocks=torch.randn(objects, WIDTH))
    found = part(graph)
    expected = plain(part, graph, graph.x["states"], graph.x["blocks"], F.gelu)
    torch.testing.assert_close(found.x["visual"], expected, atol=1e-5, rtol=1e-5)
    assert all(found.x[name] is x for name, x in graph.x.items()), "nothing else is written"
    assert part.feed_forward.inner.out_features == 11
    relu = plain(part, graph, graph.x["states"], graph.x["blocks"])
    assert not torch.allclose(relu, expected, atol=1e-3)
    other_eps = block(
        OBJECT_TO_TOKEN, intermediate_size=11, activation=F.gelu, dst_key="states", src_key="blocks", out_key="visual"
    )(graph)
    assert not torch.allclose(other_eps.x["visual"], expected, atol=1e-3), "eps"


@torch.no_grad()
def test_no_incoming_edges() -> None:
    part, graph = block(OBJECT_TO_TOKEN), state(without_objects(), schema=BOTH)
    x, feed = graph.x["token"], part.feed_forward
    middle = torch.stack([norm(part.residual.norm, row + part.attention.output.bias) for row in x])
    expected = torch.stack([norm(feed.residual.norm, row + feed.outer(torch.relu(feed.inner(row)))) for row in middle])
    torch.testing.assert_close(part(graph).x["token"], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "make", [lambda: block(TOKENS), lambda: block(OBJECT_TO_TOKEN), path], ids=["self", "cross", "path"]
)
@pytest.mark.parametrize("training", [True, False])
@POSTS
def test_dense_is_sparse_and_trains(make: Callable[[], nn.Module], training: bool, posts: list[Pair]) -> None:
    part, graph, results = make().train(training), state(posts, schema=BOTH), []
    graph = graph.update(attended=graph.x["token"])
    for edge_layout in ("dense", "sparse"):
        part.zero_grad()
        x = {kind: rows.clone().requires_grad_() for kind, rows in graph.x.items()}
        found = part(with_edge_layout(graph.update(**x), edge_layout))
        (found.x["token"].sin().sum() + found.x["attended"].cos().sum()).backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())
        written = [found.x[name] for name in ("token", "attended")]
        results.append([*written, x["token"].grad, *(p.grad.clone() for p in part.parameters())])
    for dense, sparse in zip(*results, strict=True):
        torch.testing.assert_close(dense, sparse, atol=2e-4, rtol=1e-4)
    for dense, sparse in zip(*(found[:2] for found in results), strict=True):
        torch.testing.assert_close(dense, sparse, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_alone_is_batched(edge_layout: str) -> None:
    stack, posts = nn.Sequential(block(TOKENS), block(OBJECTS), path()).eval(), awkward_posts()
    graph = with_edge_layout(state(posts, schema=BOTH), edge_layout)
    found = stack(graph)
    for s, pair in enumerate(posts):
        rows = {kind: slice(*node_layout.ptr[s : s + 2].tolist()) for kind, node_layout in graph.layouts.items()}
        alone = with_edge_layout(state([pair], schema=BOTH), edge_layout)
        alone = stack(alone.update(**{kind: graph.x[kind][r] for kind, r in rows.items()}))
        for name, kind in (("token", "token"), ("attended", "token"), ("attended_intermediate", "object")):
            torch.testing.assert_close(alone.x[name], found.x[name][rows[kind]], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [lambda p: block(OBJECT_TO_TOKEN, dropout=p), lambda p: path(dropout=p)])
def test_dropout_in_training_alone(make: Callable[[float], nn.Module]) -> None:
    graph = state([post(7, 3, seed=1)], schema=BOTH)

    def found(part: nn.Module) -> Tensor:
        return torch.cat(list(part(graph).x.values()))

    with_dropout, without_dropout = make(0.5), make(0.0)
    assert torch.equal(found(with_dropout.eval()), found(without_dropout.train()))
    with_dropout.train()
    torch.manual_seed(0)
    first = found(with_dropout)
    torch.manual_seed(0)
    assert torch.equal(found(with_dropout), first)
    assert not torch.equal(found(with_dropout), first)
    # of the weights, of the attention output, and of the feed-forward
    blocks = [part for part in with_dropout.modules() if isinstance(part, TransformerLayer)]
    for part in blocks:
        dropouts = [part.attention.dropout, part.residual.dropout, part.feed_forward.residual.dropout]
        assert [dropout.p for dropout in dropouts] == [0.5] * 3


@pytest.mark.parametrize("make", [lambda: block(OBJECT_TO_TOKEN), path])
def test_mixed_precision(make: Callable[[], nn.Module]) -> None:
    part, graph = make(), state(awkward_posts(), schema=BOTH)
    expected = part(graph).x
    with torch.autocast("cpu", torch.bfloat16):
        found = part(graph).x
    for name, x in found.items():
        assert x.isfinite().all()
        torch.testing.assert_close(x.float(), expected[name], atol=0.2, rtol=0.1)


def test_missing_relation() -> None:
    with pytest.raises(KeyError, match=r"\('image', 'updates', 'token'\) is not in the graph, which has \('token'"):
        block(("image", "updates", "token"))(state([post(3, 2)]))
    with pytest.raises(ValueError, match=f"3 heads do not divide a hidden size of {WIDTH}"):
        TransformerLayer(TOKENS, WIDTH, 3)


# --- co-attention


@torch.no_grad()
@pytest.mark.parametrize("posts", [SHORT, without_objects()], ids=["awkward", "bare"])
@pytest.mark.parametrize(("words", "other"), [(None, None), ("states", None), (None, "blocks"), ("states", "blocks")])
def test_co_attention(posts: list[Pair], words: str | None, other: str | None) -> None:
    graph = state(posts, schema=BOTH)
    tokens, objects = (graph.layouts[kind].num_nodes for kind in ("token", "object"))
    graph = graph.update(states=torch.randn(tokens, WIDTH), blocks=torch.randn(objects, WIDTH))
    part = path(intermediate_size=11, activation=F.gelu, eps=0.1, words=words, other=other)
    first_layer, second_layer = part
    assert [layer.feed_forward.inner.out_features for layer in part] == [11, 11]
    text = graph.x[words or "token"]
    # P: the other modality queries the words; then the words query P
    intermediate = plain(first_layer, graph, graph.x[other or "object"], text, F.gelu)
    expected = plain(second_layer, graph, text, intermediate, F.gelu)
    found = part(graph)
    torch.testing.assert_close(found.x[part.intermediate_key], intermediate, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.x["attended"], expected, atol=1e-5, rtol=1e-5)
    assert all(found.x[name] is x for name, x in graph.x.items()), "nothing else is written"


def test_co_attention_needs_inverse_relations() -> None:
    with pytest.raises(
        ValueError,
        match=r"\('object', 'updates', 'token'\) is not between the node types of \('token', 'updates', 'image'\)",
    ):
        CoAttention(("token", "updates", "image"), OBJECT_TO_TOKEN, TransformerConfig(WIDTH, HEADS), out_key="attended")
