"""Attention: its equation by loops, torch's own module, dense and sparse."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import awkward_edges, gradients, layout, neighbors, random_edges
from torch import Tensor, nn

from mnergraph.graph import Edges
from mnergraph.nn.conv.attention import DENSE_ABOVE, RelationAttention

WIDTH, HEADS = 8, 2
EDGES = [pytest.param(edges, id=name) for name, edges in awkward_edges()]


def inputs(edges: Edges, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(
        torch.randn(node_layout.num_nodes, WIDTH, generator=generator) for node_layout in (edges.dst, edges.src)
    )


def plain(attention: RelationAttention, dst: Tensor, src: Tensor, edges: Edges) -> Tensor:
    """One receiver and one head at a time."""
    size = WIDTH // HEADS
    rows = []
    for i, senders in enumerate(neighbors(edges)):
        heads = []
        for h in range(HEADS):
            part = slice(h * size, (h + 1) * size)
            if not senders:
                heads.append(torch.zeros(size))
                continue
            query = attention.query(dst[i])[part]
            scores = torch.stack([query @ attention.key(src[j])[part] / math.sqrt(size) for j in senders])
            alpha = scores.exp() / scores.exp().sum()
            heads.append(sum(a * attention.value(src[j])[part] for a, j in zip(alpha, senders, strict=True)))
        rows.append(attention.output(torch.cat(heads)))
    return torch.stack(rows) if rows else torch.zeros(0, WIDTH)


@pytest.mark.parametrize("maps", [True, False])
def test_against_the_equation(maps: bool) -> None:
    torch.manual_seed(0)
    attention = RelationAttention(WIDTH, HEADS, value=maps, output=maps)
    assert {name.split(".")[0] for name in attention.state_dict()} == (
        {"query", "key", "value", "output"} if maps else {"query", "key"}
    )
    for edges in (
        Edges(layout(3, 1, 0, 4), layout(2, 5, 3, 0)),
        Edges(layout(6, 1), layout(6, 1)),
        random_edges(layout(3, 0, 4), layout(5, 2, 4), 0.4),
    ):
        dst, src = inputs(edges)
        expected = plain(attention, dst, src, edges)
        for edge_layout in ("dense", "sparse"):
            found = attention(src, dst, edges.with_layout(edge_layout))
            torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edges", EDGES)
@pytest.mark.parametrize("training", [True, False])
def test_dense_is_sparse(edges: Edges, training: bool) -> None:
    torch.manual_seed(1)
    attention = RelationAttention(WIDTH, HEADS).train(training)
    dst, src = inputs(edges)
    found = {}
    for edge_layout in ("dense", "sparse"):
        read = edges.with_layout(edge_layout)
        found[edge_layout] = [
            attention(src, dst, read),
            *gradients(lambda d, s, read=read: attention(s, d, read), attention, dst, src),
        ]
    assert found["dense"][0].shape == dst.shape
    for dense, sparse in zip(*found.values(), strict=True):
        assert dense.isfinite().all()
        torch.testing.assert_close(dense, sparse, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("edges", EDGES)
def test_edge_layout_is_chosen_by_density(edges: Edges) -> None:
    attention = RelationAttention(WIDTH, HEADS)
    dst, src = inputs(edges)
    edge_layout = "dense" if edges.density >= DENSE_ABOVE else "sparse"
    assert torch.equal(attention(src, dst, edges), attention(src, dst, edges.with_layout(edge_layout)))


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_alone_is_batched(edge_layout: str) -> None:
    attention = RelationAttention(WIDTH, HEADS)
    objects, words = (3, 0, 2, 1), (5, 4, 1, 128)
    edges = random_edges(layout(*objects), layout(*words), 0.5)
    dst, src = inputs(edges)
    batched = attention(src, dst, edges.with_layout(edge_layout))
    for s in range(len(words)):
        d, t = (slice(*node_layout.ptr[s : s + 2].tolist()) for node_layout in (edges.dst, edges.src))
        mine = edges.dst.graph_index[edges.index[1]] == s
        index = edges.index[:, mine] - torch.tensor([[t.start], [d.start]])
        alone = Edges(layout(objects[s]), layout(words[s]), index, layout=edge_layout)
        torch.testing.assert_close(attention(src[t], dst[d], alone), batched[d], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_a_target_node_without_incoming_edges(edge_layout: str) -> None:
    """Zeros before the output map: what comes out is that map's bias."""
    attention = RelationAttention(WIDTH, HEADS)
    edges = Edges(layout(2, 0), layout(2, 1), torch.tensor([[0], [0]]), layout=edge_layout)
    dst, src = inputs(edges)
    out = attention(src, dst, edges)
    torch.testing.assert_close(out[1:], attention.output.bias.expand(2, -1))
    bare = RelationAttention(WIDTH, HEADS, output=False)
    assert not bare(src, dst, edges)[1:].any()
    # its own features have no effect and no gradient
    dst = dst.requires_grad_()
    attention(src, dst, edges)[1:].sum().backward()
    assert not dst.grad.any()


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_against_torch(edge_layout: str) -> None:
    """torch.nn.MultiheadAttention with the same weights."""
    torch.manual_seed(2)
    ours = RelationAttention(WIDTH, HEADS)
    theirs = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
    parts = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([part.weight.data for part in parts])
    theirs.in_proj_bias.data = torch.cat([part.bias.data for part in parts])
    theirs.out_proj.load_state_dict(ours.output.state_dict())
    edges = Edges(layout(4, 2, 5), layout(3, 6, 1), layout=edge_layout)
    dst, src = inputs(edges)
    expected, weights = theirs(
        edges.dst.to_dense(dst),
        edges.src.to_dense(src),
        edges.src.to_dense(src),
        key_padding_mask=~edges.src.mask,
        average_attn_weights=False,
    )
    torch.testing.assert_close(ours(src, dst, edges), edges.dst.to_flat(expected), atol=1e-5, rtol=1e-5)
    captured = []
    ours.weights.register_forward_hook(lambda module, args, out: captured.append(out))
    ours(src, dst, edges)
    if edge_layout == "dense":
        found = captured[0].transpose(1, 2)[edges.mask.any(-1)]
        torch.testing.assert_close(found, edges.dst.to_flat(weights.transpose(1, 2)), atol=1e-5, rtol=1e-5)
    else:
        sentence, i, j = edges.dense_index
        torch.testing.assert_close(captured[0], weights[sentence, :, i, j], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_weights_are_a_distribution(edge_layout: str) -> None:
    attention = RelationAttention(WIDTH, HEADS)
    edges = random_edges(layout(4, 3), layout(5, 2), 0.6)
    dst, src = inputs(edges)
    captured = []
    attention.weights.register_forward_hook(lambda module, args, out: captured.append(out))
    attention(src, dst, edges.with_layout(edge_layout))
    if edge_layout == "dense":
        weights = captured[0]
        assert not weights.masked_select(~edges.mask[:, None] & edges.has_incoming[:, None, :, None]).any()
        torch.testing.assert_close(weights.sum(-1), torch.ones(weights.shape[:-1]))
    else:
        total = torch.zeros(edges.dst.num_nodes, HEADS).index_add(0, edges.index[1], captured[0])
        has_senders = edges.dst.to_flat(edges.has_incoming)
        torch.testing.assert_close(total[has_senders], torch.ones(int(has_senders.sum()), HEADS))


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_dropout_drops_weights_in_training_alone(edge_layout: str) -> None:
    edges = Edges(layout(20), layout(30), layout=edge_layout)
    dst, src = inputs(edges)
    attention = RelationAttention(WIDTH, HEADS, dropout=0.5)
    without = RelationAttention(WIDTH, HEADS)
    without.load_state_dict(attention.state_dict())
    torch.testing.assert_close(attention.eval()(src, dst, edges), without(src, dst, edges))
    attention.train()
    kept = []
    attention.dropout.register_forward_hook(lambda module, args, out: kept.append((args[0], out)))
    torch.manual_seed(3)
    first = attention(src, dst, edges)
    torch.manual_seed(3)
    assert torch.equal(attention(src, dst, edges), first), "seeded"
    assert not torch.allclose(attention(src, dst, edges), first)
    before, after = kept[0]
    share = float((after == 0).float().mean())
    assert 0.4 < share < 0.6
    torch.testing.assert_close(after[after != 0], 2 * before[after != 0])


def test_large_scores_stay_finite() -> None:
    attention = RelationAttention(WIDTH, HEADS)
    edges = random_edges(layout(4), layout(4), 0.6)
    for edge_layout in ("dense", "sparse"):
        assert attention(*(1e4 * x for x in inputs(edges)), edges.with_layout(edge_layout)).isfinite().all()


@pytest.mark.parametrize("edge_layout", ["dense", "sparse"])
def test_half_precision(edge_layout: str) -> None:
    attention = RelationAttention(WIDTH, HEADS, value=False, output=False)
    edges = random_edges(layout(4, 2), layout(4, 3), 0.6).with_layout(edge_layout)
    dst, src = inputs(edges)
    expected = attention(src, dst, edges)
    with torch.autocast("cpu", torch.bfloat16):
        found = attention(src, dst, edges)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_width_must_be_divisible_by_heads() -> None:
    with pytest.raises(ValueError, match="3 heads do not divide a hidden size of 8"):
        RelationAttention(8, 3)
