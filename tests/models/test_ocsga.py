"""OCSGA against its equations, one word, object and head at a time, over either encoder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from mnergraph.models import OCSGA
from mnergraph.models.ocsga import OBJECTS, TO_TOKENS, TOKENS
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training.build import text_encoder

WORDS = ("bob", "saw", "paris", "in", "person", "sports", "ball", "cat")
LABELS = LabelSet.from_types(["PER", "LOC"])
either = pytest.mark.parametrize("over", ["word vectors", "pretrained"])
#: Posts with several objects, with one, without any, with an object without a name, and of one word.
POSTS = [
    Pair(("Bob", "saw", "Paris"), ("B-PER", "O", "B-LOC"), "a", objects=tuple(map(DetectedObject, WORDS[4:7]))),
    Pair(("Paris", "saw"), ("B-LOC", "O"), "b", objects=(DetectedObject("sports ball"),)),
    Pair(("in", "Paris"), ("O", "B-LOC"), "c"),
    Pair(("Bob",), ("B-PER",), "d", objects=(DetectedObject(""), DetectedObject("cat"))),
]


def model(over: str = "word vectors", **options: Any) -> OCSGA:
    torch.manual_seed(1)
    encoder: Any = tiny_encoder(WORDS, hidden_size=16, num_layers=1, heads=2)
    if over == "word vectors":
        encoder = word_vectors_for(encoder, 12)
    sizes = {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3, "intermediate_size": 24}
    made = OCSGA(encoder, LABELS, **{**sizes, **options}).double().eval()
    first = next(index for index, layer in enumerate(made.layers) if isinstance(layer, ObjectEncoder))
    scatter(nn.ModuleList(made.layers[first:]))
    norm = made.layers[-2].module.norm.module
    nn.init.normal_(norm.running_mean)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    return made


def parts(made: OCSGA) -> dict[str, Any]:
    layers = list(made.layers)
    first = next(index for index, layer in enumerate(layers) if isinstance(layer, ObjectEncoder))
    names = ("objects", "queries", "among objects", "guided", "join", "tags")
    return dict(zip(names, layers[first:], strict=True)) | {"text": made.layers[:first]}


def norm(part: nn.LayerNorm, x: Tensor) -> Tensor:
    centered = x - x.mean()
    return part.weight * centered / (centered.square().mean() + part.eps).sqrt() + part.bias


def attend(part: RelationAttention, query: Tensor, rows: Sequence[Tensor]) -> Tensor:
    size, heads = len(query) // part.num_heads, []
    for head in range(part.num_heads):
        own = slice(head * size, (head + 1) * size)
        scores = torch.stack([part.query(query)[own] @ part.key(row)[own] / math.sqrt(size) for row in rows])
        alpha = scores.exp() / scores.exp().sum()
        heads.append(sum(a * part.value(row)[own] for a, row in zip(alpha, rows, strict=True)))
    return part.output(torch.cat(heads))


def sums(made: OCSGA, x: list[Tensor], o: list[Tensor]) -> list[Tensor]:
    """x_i + v'_i of one post, by the equations of the module's docstring."""
    part = parts(made)
    block, guided = part["queries"], part["guided"].operator
    among, after = part["among objects"].operators[0], part["among objects"].residual["object"]
    queries = []
    for row in x:
        p = norm(block.residual.norm, row + attend(block.attention, row, x))
        inner = torch.relu(block.feed_forward.inner(p))
        queries.append(norm(block.feed_forward.residual.norm, p + block.feed_forward.outer(inner)))
    o = [norm(after.norm, row + attend(among, row, o)) for row in o]
    out = []
    for row, query in zip(x, queries, strict=True):
        if not o:
            out.append(row)
            continue
        v = norm(guided.attention_norm, attend(guided.attention, query, o))
        out.append(row + norm(guided.norm, guided.outer(torch.relu(guided.inner(v)))))
    return out


def objects(made: OCSGA, post: Pair, table: Callable[[str], Tensor]) -> list[Tensor]:
    """o_j of one post."""
    encoder, found = parts(made)["objects"], []
    for item in post.objects:
        vectors = [table(word) for word in item.label.split()]
        mean = sum(vectors) / len(vectors) if vectors else None
        width = encoder.label.out_features
        found.append(
            torch.zeros(width, dtype=torch.float64) if mean is None else encoder.label(norm(encoder.norm, mean))
        )
    return found


def table_of(made: OCSGA) -> Callable[[str], Tensor]:
    tokenizer, net = made.encoder.tokenizer, made.encoder.model
    look_up = net if not hasattr(net, "get_input_embeddings") else net.get_input_embeddings()
    return lambda word: look_up(torch.tensor(tokenizer([word])[0])).mean(0)


@torch.no_grad()
@either
def test_against_the_equations(over: str) -> None:
    made = model(over)
    batch = collate(made.builder.build_all(POSTS))
    counts = [len(post.words) for post in POSTS]
    words = parts(made)["text"](GraphState.from_batch(batch, made.schema)).x["token"].split(counts)
    joined = [sums(made, list(x), objects(made, post, table_of(made))) for x, post in zip(words, POSTS, strict=True)]
    batch_norm, tags = parts(made)["join"].module.norm.module, parts(made)["tags"].linear
    everything = torch.stack([row for rows in joined for row in rows])
    for training in (False, True):
        mean, variance = batch_norm.running_mean, batch_norm.running_var
        if training:
            mean, variance = everything.mean(0), everything.var(0, correction=0)
        normed = batch_norm.weight * (everything - mean) / (variance + batch_norm.eps).sqrt() + batch_norm.bias
        expected = normed @ tags.weight.T + tags.bias
        for part in made.modules():  # batch norm alone, for the other parts have dropout
            part.training = training and part is batch_norm
        torch.testing.assert_close(made(batch).emissions["tags"], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
@either
def test_alone_equals_batched(over: str) -> None:
    made = model(over)
    together = made(collate(made.builder.build_all(POSTS))).emissions["tags"].split([len(p.words) for p in POSTS])
    for post, expected in zip(POSTS, together, strict=True):
        torch.testing.assert_close(made(made.builder(post)).emissions["tags"], expected, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_a_post_without_objects_is_its_text() -> None:
    """What is added to its words is exactly 0, whatever the weights of the guided attention."""
    made, post = model(), POSTS[2]
    before = made(made.builder(post)).emissions["tags"]
    scatter(parts(made)["guided"], seed=9)
    assert torch.equal(made(made.builder(post)).emissions["tags"], before)
    with_object = Pair(post.words, post.labels, "e", objects=(DetectedObject("cat"),))
    assert not torch.allclose(made(made.builder(with_object)).emissions["tags"], before)


@torch.no_grad()
def test_objects_after_the_fourth_are_not_read() -> None:
    made = model()
    many = [Pair(("Bob",), None, str(n), objects=tuple(map(DetectedObject, WORDS[-n:]))[::-1]) for n in (4, 5, 8)]
    four, five, eight = (made(made.builder(post)).emissions["tags"] for post in many)
    assert torch.equal(four, five)
    assert torch.equal(four, eight)
    assert model(max_objects=6).builder(many[2])["object"].num_nodes == 6


def test_the_class_names_are_in_the_vocabulary_of_word_vectors() -> None:
    posts = [Pair(("a", "b"), None, str(n), objects=(DetectedObject("traffic light"),)) for n in range(2)]
    with_labels, without = text_encoder("random:4", posts, OCSGA), text_encoder("random:4", posts)
    assert set(with_labels.tokenizer.words) - set(without.tokenizer.words) == {"traffic", "light"}


@torch.no_grad()
def test_recorded() -> None:
    made = model()
    with record_attention(made) as record:
        made.predict(POSTS)
    first, _, without, _ = record.posts
    for relation, nodes in ((TOKENS, (3, 3)), (OBJECTS, (3, 3)), (TO_TOKENS, (3, 3))):
        (weights,) = first.select(relation)
        assert weights.nodes == nodes
        torch.testing.assert_close(weights.matrix().sum(-1), torch.ones(2, 3))
    assert without.select(TO_TOKENS)[0].nodes == (0, 2)


def test_hyperparameters() -> None:
    made = OCSGA(word_vectors_for(tiny_encoder(WORDS), 200), LABELS)
    lstm = next(part for part in made.modules() if isinstance(part, nn.LSTM) and part.input_size == 250)
    assert (lstm.hidden_size, lstm.bidirectional) == (100, True)
    guided = parts(made)["guided"].operator
    assert (guided.attention.num_heads, guided.inner.out_features, guided.dropout.p) == (2, 800, 0.6)
    rates = {part.p for part in parts(made)["text"].modules() if isinstance(part, nn.Dropout)}
    assert rates == {0.5}
    assert parts(made)["join"].module.dropout.p == 0.0
