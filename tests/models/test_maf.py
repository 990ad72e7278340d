"""MAF against its equations, one word, region and post at a time."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from equations import scatter
from torch import Tensor, nn

from mnergraph.explain import record_attention
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import MAF
from mnergraph.models.maf import TO_TOKENS
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
IMAGE, WIDTH, HEADS = 5, 16, 4
WORDS = ("Bob", "and", "Ann", "saw", "New", "York")
TAGS = ("B-PER", "O", "B-PER", "O", "B-LOC", "I-LOC")


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    return [
        Pair(WORDS, TAGS, "grid", image_features=torch.randn(9, IMAGE)),
        Pair(WORDS[3:], TAGS[3:], "one vector", image_features=torch.randn(1, IMAGE)),
        Pair(WORDS[2:], TAGS[2:], "no image"),
        Pair(WORDS[:1], TAGS[:1], "one word", image_features=torch.randn(4, IMAGE)),
    ]


def encoder() -> TextEncoderModel:
    torch.manual_seed(2)
    return tiny_encoder(["bob", "saw", "paris"], hidden_size=WIDTH, num_layers=1, heads=2)


def maf(**options: Any) -> MAF:
    """A small MAF without dropout, with random weights everywhere outside the encoder."""
    text = encoder()
    for part in text.model.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    sizes = {"image_dim": IMAGE, "num_heads": HEADS, "intermediate_size": 24, "dropout": 0.0}
    model = MAF(text, LABELS, **{**sizes, **options}).double().eval()
    scatter(nn.ModuleList([*model.layers[1:], *model.heads.values()]))
    return model


def run(model: MAF, posts: list[Pair]) -> GraphState:
    batch = collate(model.builder.build_all(posts))
    batch["image"].x = batch["image"].x.double()
    return model(batch)


def norm(part: nn.LayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean()
    return part.weight * centered / (centered.square().mean() + part.eps).sqrt() + part.bias


def cross(block: TransformerLayer, t: Tensor, v: list[Tensor]) -> Tensor:
    """A_i of one word."""
    attention, size, heads = block.attention, WIDTH // HEADS, []
    for head in range(HEADS):
        own = slice(head * size, (head + 1) * size)
        heard = torch.zeros(size, dtype=torch.float64)
        if v:
            scores = torch.stack([attention.query(t)[own] @ attention.key(v_j)[own] / math.sqrt(size) for v_j in v])
            alpha = scores.exp() / scores.exp().sum()
            heard = heard + sum(a * attention.value(v_j)[own] for a, v_j in zip(alpha, v, strict=True))
        heads.append(heard)
    p = norm(block.residual.norm, t + attention.output(torch.cat(heads)))
    return norm(block.feed_forward.residual.norm, p + block.feed_forward.outer(torch.relu(block.feed_forward.inner(p))))


def messages(model: MAF, t: list[Tensor], post: Pair) -> list[Tensor]:
    linear, block = model.layers[1].linear, model.layers[3]
    u = [] if post.image_features is None else list(post.image_features.double())
    return [cross(block, t_i, [linear.weight @ u_j + linear.bias for u_j in u]) for t_i in t]


def matching(model: MAF, t: list[Tensor], a: list[Tensor]) -> Tensor:
    """p of one post, with the mean of messages of this or another post."""
    part = model.layers[5].linear
    score = part.weight[0] @ torch.cat([sum(t) / len(t), sum(a) / len(a)]) + part.bias[0]
    return 1 / (1 + (-score).exp())


def emissions(model: MAF, t: list[Tensor], post: Pair) -> Tensor:
    gate, tags, a = model.layers[6].module, model.layers[7].linear, messages(model, t, post)
    p = matching(model, t, a) if post.image_features is not None else 0.0
    rows = []
    for t_i, a_i in zip(t, a, strict=True):
        g = 1 / (1 + (-gate.a.weight @ t_i - gate.a.bias - gate.b.weight @ (p * a_i)).exp())
        rows.append(tags.weight @ torch.cat([t_i, g * p * a_i]) + tags.bias)
    return torch.stack(rows)


def words_of(graph: GraphState, posts: list[Pair]) -> list[list[Tensor]]:
    return [list(rows) for rows in graph.x["token"].split([len(post.words) for post in posts])]


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_emissions_against_the_equations(posts: list[Pair], training: bool) -> None:
    model = maf().train(training)
    graph = run(model, posts)
    found = graph.emissions["tags"].split([len(post.words) for post in posts])
    for post, t, scores in zip(posts, words_of(graph, posts), found, strict=True):
        torch.testing.assert_close(scores, emissions(model, t, post), rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_matching_against_the_equations(posts: list[Pair]) -> None:
    model = maf().train()
    graph = run(model, posts)
    words = words_of(graph, posts)
    a = [messages(model, t, post) for t, post in zip(words, posts, strict=True)]
    expected = torch.zeros(4, dtype=torch.float64)
    for index, foreign in ((0, 1), (1, 3), (3, 0)):  # the post without an image, 2, is left out
        right, wrong = matching(model, words[index], a[index]), matching(model, words[index], a[foreign])
        expected[index] = -(right.log() + (1 - wrong).log()) / 2
    torch.testing.assert_close(model.heads["match"].loss(graph), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_alignment_against_the_equations(posts: list[Pair]) -> None:
    model = maf(temperature=0.5, balance=0.7).train()
    graph, head = run(model, posts), model.heads["contrast"]
    with_image = [index for index, post in enumerate(posts) if post.image_features is not None]
    t, v = [], []
    for index in with_image:
        grid = posts[index].image_features
        assert grid is not None
        for net, x, out in ((head.text, graph.x["sentence"][index], t), (head.image, grid.double().mean(0), v)):
            vector = net[2](torch.relu(net[0](x)))
            out.append(vector / vector.square().sum().sqrt())
    expected = torch.zeros(4, dtype=torch.float64)
    for place, index in enumerate(with_image):
        of_text = [(t[place] @ other / 0.5).exp() for other in v]
        of_image = [(other @ v[place] / 0.5).exp() for other in t]
        expected[index] = -0.7 * (of_text[place] / sum(of_text)).log() - 0.3 * (of_image[place] / sum(of_image)).log()
    torch.testing.assert_close(head.loss(graph), expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_loss(posts: list[Pair]) -> None:
    model = maf().train()
    graph = run(model, posts)
    tags, match, contrast = (head.loss(graph) for head in model.heads.values())
    torch.testing.assert_close(model.loss(graph), (0.62 * tags + 0.38 * (match + contrast)).mean())
    assert (match > 0).tolist() == (contrast > 0).tolist() == [True, True, False, True]
    # of a post's own only, where the batch does not matter
    evaluated = run(model.eval(), posts)
    torch.testing.assert_close(model.loss(evaluated), (0.62 * model.heads["tags"].loss(evaluated)).mean())


@torch.no_grad()
@pytest.mark.parametrize("training", [True, False])
def test_alone_equals_batched(posts: list[Pair], training: bool) -> None:
    """Features and tags of a post do not depend on its batch, in training neither: exchanged messages are extra."""
    model = maf().train(training)
    together = run(model, posts).emissions["tags"].split([len(post.words) for post in posts])
    for post, expected in zip(posts, together, strict=True):
        torch.testing.assert_close(run(model, [post]).emissions["tags"], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_post_without_an_image_is_its_text(posts: list[Pair]) -> None:
    model, bare = maf(), [posts[2]]
    before = run(model, bare).emissions["tags"]
    scatter(nn.ModuleList(model.layers[1:6]), seed=9)
    assert torch.equal(run(model, bare).emissions["tags"], before)
    with_image = replace(posts[2], image_features=torch.ones(4, IMAGE))
    assert not torch.allclose(run(model, [with_image]).emissions["tags"], before)
    losses = [head.loss(run(model.train(), bare)) for head in model.heads.values()]
    assert [bool(loss.any()) for loss in losses] == [True, False, False]


def test_gradients_of_batches_without_images(posts: list[Pair]) -> None:
    for batch in ([posts[2]], [posts[0]], [posts[0], posts[2]]):
        model = maf().train()
        model.loss(run(model, batch)).backward()
        assert all(weight.grad is not None and weight.grad.isfinite().all() for weight in model.parameters())


def test_recorded(posts: list[Pair]) -> None:
    model = maf(num_heads=2).float()
    with record_attention(model) as record:
        model.predict(posts)
    first, without = record.posts[0], record.posts[2]
    (weights,) = first.select(TO_TOKENS)
    assert weights.nodes == (9, 6)
    match, fusion = first.gates
    assert (match.node_type, fusion.node_type) == ("token", "token")
    assert len(set(match.values.tolist())) == 1, "one number for the post"
    assert without.gates[0].values.tolist() == [0.0] * 4


def test_hyperparameters() -> None:
    model = MAF(tiny_encoder(hidden_size=24, num_layers=1, heads=2), LABELS)
    block = model.layers[3]
    assert (block.attention.num_heads, block.feed_forward.inner.out_features, block.residual.dropout.p) == (12, 96, 0.1)
    assert [head.weight for head in model.heads.values()] == [0.62, 0.38, 0.38]
    contrast = model.heads["contrast"]
    assert (contrast.temperature, contrast.balance, contrast.image[0].in_features) == (0.179, 0.7, 2048)
