"""Object-AGBAN against its equations, one pair of word and object at a time, over either encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from equations import scatter
from fakes import word_vectors_for
from torch import Tensor, nn

from mnergraph.explain import record_attention
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import ObjectAGBAN
from mnergraph.models.object_agban import TO_TOKENS
from mnergraph.nn.conv.bilinear_attention import BilinearAttention
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.layers.gates import GatedAdd
from mnergraph.nn.layers.hetero import CopyFeatures
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

WORDS = ("bob", "saw", "paris", "in", "person", "cat")
LABELS = LabelSet.from_types(["PER", "LOC"])
REGION = 5
either = pytest.mark.parametrize("over", ["word vectors", "pretrained"])


def detected(*seeds: int) -> tuple[DetectedObject, ...]:
    generators = (torch.Generator().manual_seed(seed) for seed in seeds)
    return tuple(DetectedObject("cat", region=torch.randn(REGION, generator=one)) for one in generators)


#: Posts with several objects, with one, without any, with an object without a vector, and of one word.
POSTS = [
    Pair(("Bob", "saw", "Paris"), ("B-PER", "O", "B-LOC"), "a", objects=detected(1, 2, 3)),
    Pair(("Paris", "saw"), ("B-LOC", "O"), "b", objects=detected(4)),
    Pair(("in", "Paris"), ("O", "B-LOC"), "c"),
    Pair(("Bob",), ("B-PER",), "d", objects=(DetectedObject("person"), *detected(5))),
]


def model(over: str = "word vectors", **options: Any) -> ObjectAGBAN:
    torch.manual_seed(1)
    encoder: Any = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    if over == "word vectors":
        encoder = word_vectors_for(encoder, 12)
    sizes = {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3, "region_dim": REGION, "label_features": False}
    made = ObjectAGBAN(encoder, LABELS, **{**sizes, **options}).double().eval()
    first = next(index for index, layer in enumerate(made.layers) if isinstance(layer, CopyFeatures))
    scatter(nn.ModuleList([*made.layers[first:], *made.heads.values()]))
    for part in made.modules():
        if isinstance(part, nn.BatchNorm1d):
            nn.init.normal_(part.running_mean)
            nn.init.uniform_(part.running_var, 0.5, 2)
        if isinstance(part, BilinearAttention):  # the softmax is far from uniform
            part.score.parametrizations.weight.original0.data.fill_(30.0)
    return made


def run(made: ObjectAGBAN, posts: list[Pair]) -> GraphState:
    batch = collate(made.builder.build_all(posts))
    batch["object"].x = batch["object"].x.double()
    return made(batch)


def batch_norm(part: nn.BatchNorm1d, x: Tensor) -> Tensor:
    return part.weight * (x - part.running_mean) / (part.running_var + part.eps).sqrt() + part.bias


def linear(part: nn.Linear, x: Tensor) -> Tensor:
    return part.weight @ x + (0 if part.bias is None else part.bias)


def objects(made: ObjectAGBAN, post: Pair) -> list[Tensor]:
    """v_j of one post."""
    place = next(index for index, layer in enumerate(made.layers) if isinstance(layer, ObjectEncoder))
    encoder = made.layers[place]
    norm_1, _, second, norm_2, _, last = made.layers[place + 1].types["object"]
    found = []
    for item in post.objects:
        row = torch.zeros(512, dtype=torch.float64)
        if item.region is not None:
            row = linear(encoder.region, item.region.double())
        row = linear(second, torch.relu(batch_norm(norm_1.module, row)))
        found.append(linear(last, torch.relu(batch_norm(norm_2.module, row))))
    return found


def glimpses(made: ObjectAGBAN) -> list[tuple[BilinearAttention, GatedAdd]]:
    layers = [layer for layer in made.layers if hasattr(layer, "operators")]
    return [(layer.operators[0], layer.residual["token"]) for layer in layers]


def plain(made: ObjectAGBAN, x: list[Tensor], v: list[Tensor]) -> Tensor:
    """Emissions of one post from its words' states, by the equations in the module's docstring."""
    for attention, gate in glimpses(made):
        h = attention.score.weight[0]
        scores = {
            (i, j): (h * torch.relu(linear(attention.key, v_j))) @ torch.relu(linear(attention.query, x_i))
            for i, x_i in enumerate(x)
            for j, v_j in enumerate(v)
        }
        total = sum(score.exp() for score in scores.values())
        after = []
        for i, x_i in enumerate(x):
            u = torch.zeros_like(x_i)
            for j, v_j in enumerate(v):
                u = u + scores[i, j].exp() / total * torch.relu(linear(attention.value, v_j))
            r = 1 / (1 + (-linear(gate.a, x_i) - linear(gate.b, u)).exp())
            after.append(x_i + r * u)
        x = after
    norm, tags = made.layers[-2].types["token"].module, made.layers[-1].linear
    return torch.stack([linear(tags, batch_norm(norm, x_i)) for x_i in x])


@torch.no_grad()
@either
@pytest.mark.parametrize("num_glimpses", [1, 3])
def test_against_the_equations(over: str, num_glimpses: int) -> None:
    made = model(over, num_glimpses=num_glimpses)
    last, counts = run(made, POSTS), [len(post.words) for post in POSTS]
    words, emissions = last.x["words"].split(counts), last.emissions["tags"].split(counts)
    for post, x, scores in zip(POSTS, words, emissions, strict=True):
        expected = plain(made, list(x), objects(made, post))
        torch.testing.assert_close(scores, expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@either
def test_alone_equals_batched(over: str) -> None:
    made = model(over)
    together = run(made, POSTS)
    emissions = together.emissions["tags"].split([len(post.words) for post in POSTS])
    losses = made.heads["domain"].loss(together)
    for index, post in enumerate(POSTS):
        alone = run(made, [post])
        torch.testing.assert_close(alone.emissions["tags"], emissions[index], rtol=1e-10, atol=1e-10)
        torch.testing.assert_close(made.heads["domain"].loss(alone)[0], losses[index], rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_post_without_objects_is_its_text() -> None:
    made, post = model(), POSTS[2]
    before = run(made, [post])
    assert float(made.heads["domain"].loss(before)) == 0.0
    scatter(nn.ModuleList(part for pair in glimpses(made) for part in pair), seed=9)
    assert torch.equal(run(made, [post]).emissions["tags"], before.emissions["tags"])
    with_object = replace(post, objects=detected(1))
    assert not torch.allclose(run(made, [with_object]).emissions["tags"], before.emissions["tags"])


@torch.no_grad()
def test_the_softmax_is_over_the_whole_post() -> None:
    made = model(num_glimpses=2)
    with record_attention(made) as record:
        run(made, POSTS)
    for post, recorded in zip(POSTS, record.posts, strict=True):
        found = recorded.select(TO_TOKENS)
        assert len(found) == 2
        for weights in found:
            assert weights.nodes == (len(post.objects), len(post.words))
            assert float(weights.weights.sum()) == pytest.approx(1.0 if post.objects else 0.0)
    assert [gates.node_type for gates in record.posts[0].gates] == ["token", "token"]


def test_the_adversary_reads_words_before_the_attention_and_its_gradient_is_reversed() -> None:
    made = model()
    found = run(made, POSTS)
    head = made.heads["domain"]
    assert not torch.allclose(found.x["words"], found.x["token"])
    region = next(layer for layer in made.layers if isinstance(layer, ObjectEncoder)).region.weight
    for alpha in (0.0, 0.5):
        head.reversal.alpha.fill_(alpha)
        (gradient,) = torch.autograd.grad(head.loss(run(made, POSTS)).sum(), [region])
        assert gradient.any() == bool(alpha)


def test_loss() -> None:
    made = model(adversary_weight=0.3)
    found = run(made, POSTS)
    parts = [head.loss(found) for head in made.heads.values()]
    torch.testing.assert_close(made.loss(found), (parts[0] + 0.3 * parts[1]).mean())
    assert set(model(adversary_weight=0.0).heads) == {"tags"}


def test_hyperparameters() -> None:
    made = ObjectAGBAN(word_vectors_for(tiny_encoder(WORDS), 200), LABELS, region_dim=1024, label_features=False)
    lstm = next(part for part in made.modules() if isinstance(part, nn.LSTM) and part.input_size == 250)
    assert (lstm.hidden_size, lstm.bidirectional) == (100, True)
    ((attention, gate),) = glimpses(made)
    assert (attention.query.in_features, attention.query.out_features, attention.value.out_features) == (200, 600, 200)
    assert (attention.input_dropout.p, attention.dropout.p) == (0.2, 0.5)
    assert gate.a.bias is not None
    linears = [part for part in made.heads["domain"].classifier if isinstance(part, nn.Linear)]
    assert [part.in_features for part in linears] == [200, 100, 50]
    assert made.builder.node_types["object"].max_objects == 3
    pretrained = ObjectAGBAN(tiny_encoder(WORDS), LABELS)
    assert glimpses(pretrained)[0][0].dropout.p == 0.1
    assert pretrained.layers[2].region is None, "labels alone, where there are no region vectors"
