"""Encoders against loops: piece by piece, window by window."""

from __future__ import annotations

import math

import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, layout, make_builder, post, state, without_objects
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph import Layout, Schema, collate
from mnergraph.graph.node_types import LABEL_PIECE
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.layers.hetero import CopyFeatures, PositionalEncoding
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

WIDTH = 8


def backbone(max_length: int = 512) -> TextEncoderModel:
    torch.manual_seed(0)
    found = tiny_encoder(["paris", "rain"], hidden_size=WIDTH, num_layers=1, heads=2, max_length=max_length)
    found.model.eval()
    return found


def graph_of(
    posts: list[Pair], encoder: TextEncoderModel, *, tokens: str = "words", schema: Schema = SCHEMA
) -> GraphState:
    builder = make_builder(schema, tokenizer=encoder.tokenizer, region_dim=6, tokens=tokens)
    return GraphState.from_batch(collate(builder.build_all(posts)), schema)


def states(encoder: TextEncoderModel, ids: list[int]) -> Tensor:
    """One sentence through the encoder, unpadded."""
    return encoder.model(input_ids=torch.tensor([ids])).last_hidden_state[0]


def plain_pieces(encoder: TextEncoderModel, words: tuple[str, ...]) -> tuple[Tensor, list[int]]:
    """States of a sentence's pieces but the special ones, and the word of each: every window by itself."""
    start, end = list(encoder.tokenizer.start), list(encoder.tokenizer.end)
    split = encoder.tokenizer(words)
    ids = [piece for word in split for piece in word]
    spans = windows(len(ids), encoder.max_length - len(start) - len(end))
    encoded = [states(encoder, start + ids[w.start : w.stop] + end)[len(start) :] for w in spans]
    rows = [encoded[w][piece - spans[w].start] for piece, w in enumerate(best_windows(len(ids), spans))]
    return torch.stack(rows), [position for position, word in enumerate(split) for _ in word]


def plain_words(encoder: TextEncoderModel, words: tuple[str, ...], pooling: str) -> Tensor:
    pieces, owner = plain_pieces(encoder, words)
    rows = []
    for word in range(len(words)):
        mine = [pieces[position] for position, w in enumerate(owner) if w == word]
        rows.append({"first": mine[0], "sum": sum(mine), "mean": sum(mine) / len(mine)}[pooling])
    return torch.stack(rows)


@pytest.mark.parametrize("pooling", ["first", "mean", "sum"])
@pytest.mark.parametrize("max_length", [512, 12])
def test_tokens_against_a_loop(pooling: str, max_length: int) -> None:
    """Short and long sentences mixed; with 12 pieces at once nearly all take several windows."""
    encoder, posts = backbone(max_length), awkward_posts()
    if max_length == 512:
        posts = [pair for pair in posts if len(pair.words) < 128]
    else:
        posts = [*posts[:5], post(30, 1, seed=9), Pair(("zero", "\u200b", "x" * 40, "paris"))]
    layer = TextEncoder(encoder, pooling=pooling).eval()
    graph = graph_of(posts, encoder)
    with torch.no_grad():
        found = layer(graph).x["token"]
        expected = torch.cat([plain_words(encoder, pair.words, pooling) for pair in posts])
    assert found.shape == (sum(len(pair.words) for pair in posts), WIDTH)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_length", [12, 64, 512])
def test_long_sentence_alone_equals_batched(max_length: int) -> None:
    encoder = backbone(max_length)
    posts = [post(3, seed=1), post(128, seed=2), post(1, seed=3), post(40, seed=4)]
    layer = TextEncoder(encoder).eval()
    with torch.no_grad():
        found = layer(graph_of(posts, encoder)).x["token"].split([len(pair.words) for pair in posts])
        for pair, words in zip(posts, found, strict=True):
            assert words.isfinite().all()
            torch.testing.assert_close(layer(graph_of([pair], encoder)).x["token"], words, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_length", [512, 8])
def test_pieces_as_tokens_include_special_pieces(max_length: int) -> None:
    encoder, pair = backbone(max_length), Pair(("paris", "zz", "rain", "abcdef"))
    with torch.no_grad():
        found = TextEncoder(encoder).eval()(graph_of([pair], encoder, tokens="pieces")).x["token"]
        inner, _ = plain_pieces(encoder, pair.words)
        torch.testing.assert_close(found[1:-1], inner, atol=1e-5, rtol=1e-5)
        assert len(found) == len(inner) + 2
        ids = [piece for word in encoder.tokenizer(pair.words) for piece in word]
        spans = windows(len(ids), max_length - 2)
        for position, w in ((0, spans[0]), (-1, spans[-1])):
            rims = [*encoder.tokenizer.start, *ids[w.start : w.stop], *encoder.tokenizer.end]
            torch.testing.assert_close(found[position], states(encoder, rims)[position], atol=1e-5, rtol=1e-5)


def _states(layer: TextEncoder, ids: Tensor, rows: Layout) -> Tensor:
    sequences = layer._sequences(rows)
    found, _ = layer._encode(ids if sequences.rows is None else ids[sequences.rows], sequences.layout, None)
    return found if sequences.source is None else found[sequences.source]


@pytest.mark.parametrize("max_length", [512, 6])
def test_an_empty_row(max_length: int) -> None:
    """A sentence without pieces changes no other and leaves gradients finite."""
    layer = TextEncoder(backbone(max_length)).eval()
    ids = torch.tensor([2, 9, 10, 3, 2, 11, 12, 13, 14, 15, 16, 3])
    found, expected = (_states(layer, ids, rows) for rows in (layout(4, 0, 8), layout(4, 8)))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    found.sum().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("max_length", [512, 12])
def test_sentence_state_is_that_of_cls(max_length: int) -> None:
    """[CLS] of every sentence, of its first window where it takes several."""
    encoder, posts = backbone(max_length), [post(3, seed=1), post(30, seed=2), post(1, seed=3)]
    with torch.no_grad():
        graph = TextEncoder(encoder, sentence=True).eval()(graph_of(posts, encoder))
        assert graph.x["sentence"].shape == (3, WIDTH)
        for row, pair in zip(graph.x["sentence"], posts, strict=True):
            ids = [piece for word in encoder.tokenizer(pair.words) for piece in word]
            first = windows(len(ids), max_length - 2)[0]
            rims = [*encoder.tokenizer.start, *ids[first.start : first.stop], *encoder.tokenizer.end]
            torch.testing.assert_close(row, states(encoder, rims)[0], atol=1e-5, rtol=1e-5)
        assert "sentence" not in TextEncoder(encoder)(graph_of(posts, encoder)).x
        dropped = TextEncoder(encoder, sentence=True, dropout=1.0).train()(graph_of(posts, encoder))
    assert not dropped.x["sentence"].any()


def test_encoder_without_a_cls_piece() -> None:
    encoder = backbone()
    encoder.tokenizer.start = ()
    with pytest.raises(ValueError, match="tiny-random has no special piece before the words, whose state"):
        TextEncoder(encoder, sentence=True)


def test_every_encoder_weight_has_a_gradient_and_dropout_is_applied() -> None:
    encoder = backbone(16)
    layer = TextEncoder(encoder, dropout=0.5)
    graph = graph_of(awkward_posts()[:6], encoder)
    torch.manual_seed(0)
    first = layer.train()(graph)
    torch.manual_seed(0)
    assert torch.equal(layer(graph).x["token"], first.x["token"])
    assert 0.35 < float((first.x["token"] == 0).float().mean()) < 0.65
    (first.x["token"].sin().sum() + first.x[LABEL_PIECE].sin().sum()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())
    assert not (layer.eval()(graph).x["token"] == 0).any()


def test_label_pieces_are_input_embeddings() -> None:
    encoder = backbone()
    graph = TextEncoder(encoder)(graph_of(awkward_posts()[:3], encoder))
    table = encoder.model.get_input_embeddings().weight
    assert torch.equal(graph.x[LABEL_PIECE], table[graph.data[LABEL_PIECE].input_ids])
    text = Schema(nodes=["token"])
    assert TextEncoder(encoder)(graph_of([post(2)], encoder, schema=text)).x.keys() == {"token"}


def test_unknown_pooling() -> None:
    with pytest.raises(ValueError, match="pooling is first, mean or sum, not 'last'"):
        TextEncoder(backbone(), pooling="last")


def test_encoder_too_short_for_one_piece() -> None:
    encoder = backbone(2)
    with pytest.raises(ValueError, match="a window holds at least one piece, not 0"):
        TextEncoder(encoder)(graph_of([post(2)], encoder))


# --- positions


@pytest.mark.parametrize("width", [8, 7])
def test_positions(width: int) -> None:
    graph = state(awkward_posts(), width=width)
    found = PositionalEncoding()(graph)
    for row, position in enumerate(graph.layouts["token"].position.tolist()):
        for i in range(0, width, 2):
            angle = position / 10000 ** (i / width)
            extra = [math.sin(angle), math.cos(angle)][: width - i]
            expected = graph.x["token"][row, i : i + 2] + torch.tensor(extra)
            torch.testing.assert_close(found.x["token"][row, i : i + 2], expected, atol=2e-5, rtol=1e-5)
    assert found.x["object"] is graph.x["object"]
    other = PositionalEncoding("object")(graph)
    assert other.x["token"] is graph.x["token"]
    assert not torch.equal(other.x["object"], graph.x["object"])
    assert PositionalEncoding()(graph.update(token=graph.x["token"].bfloat16())).x["token"].dtype == torch.bfloat16


# --- objects


@pytest.mark.parametrize("region", [6, None])
@pytest.mark.parametrize("label", [WIDTH, None])
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_objects_against_the_equation(region: int | None, label: int | None, posts: list[Pair]) -> None:
    if region is None and label is None:
        with pytest.raises(ValueError, match="an object needs a region vector, a label, or both"):
            ObjectEncoder(5)
        return
    encoder = backbone()
    layer = ObjectEncoder(5, region_dim=region, label_dim=label)
    table = encoder.model.get_input_embeddings()
    graph = graph_of(posts, encoder)
    labels = table(graph.data[LABEL_PIECE].input_ids)
    found = layer(graph.update(label_piece=labels)).x["object"]
    detections = [obj for pair in posts for obj in pair.objects]
    assert found.shape == (len(detections), 5)
    for row, obj in zip(found, detections, strict=True):
        expected = torch.zeros(5)
        if region and obj.region is not None:
            expected = expected + layer.region(obj.region)
        ids = [piece for word in encoder.tokenizer(obj.label.split()) for piece in word]
        if label and ids:
            mean = sum(table(torch.tensor(piece)) for piece in ids) / len(ids)
            expected = expected + layer.label(layer.norm(mean))
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)
    found.sin().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_objects_alone_and_batched() -> None:
    encoder, posts = backbone(), awkward_posts()
    stack = nn.Sequential(TextEncoder(encoder), ObjectEncoder(5, region_dim=6, label_dim=WIDTH)).eval()
    batched = stack(graph_of(posts, encoder)).x["object"].split([len(pair.objects) for pair in posts])
    for pair, objects in zip(posts, batched, strict=True):
        torch.testing.assert_close(stack(graph_of([pair], encoder)).x["object"], objects)


def test_regions_are_standardized_by_fitted_statistics() -> None:
    encoder, posts = backbone(), awkward_posts()
    layer, graph = ObjectEncoder(5, region_dim=6), graph_of(posts, encoder)
    regions = torch.randn(20, 6) * 3 + 2
    regions[:, 1] = 4.0
    layer.fit_normalization(regions)
    deviation = [float(column.std()) or 1.0 for column in regions.T]
    found = layer(graph).x["object"]
    for row, obj in zip(found, (obj for pair in posts for obj in pair.objects), strict=True):
        if obj.region is None:
            assert not row.any()
            continue
        standard = (obj.region - regions.mean(0)) / torch.tensor(deviation)
        torch.testing.assert_close(row, layer.region(standard), atol=1e-5, rtol=1e-5)
    before = layer.state_dict()["mean"].clone()
    layer.fit_normalization(regions[:1] + 9)
    ObjectEncoder(5, label_dim=WIDTH).fit_normalization(regions)
    assert torch.equal(layer.mean, before), "one vector has no deviation"


# --- the image


@pytest.mark.parametrize("images", [(4, 0, 1, 49), (0, 0), (1,)], ids=str)
def test_images_against_the_equation(images: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    grids = [torch.randn(blocks, 5) if blocks else None for blocks in images]
    posts = [Pair(("paris",), image_features=grid) for grid in grids]
    schema = Schema(nodes=["image"])
    graph = GraphState.from_batch(collate(make_builder(schema, image_dim=5).build_all(posts)), schema)
    layer = ImageEncoder(3, 5)
    again = ImageEncoder(3, 5, out_key="querying image")
    found = again(layer(graph)).x
    assert graph.layouts["image"].counts.tolist() == list(images)
    for name, part in (("image", layer), ("querying image", again)):
        rows = [part.linear.weight @ block + part.linear.bias for grid in grids if grid is not None for block in grid]
        expected = torch.stack(rows) if rows else torch.zeros(0, 3)
        torch.testing.assert_close(found[name], expected, atol=1e-5, rtol=1e-5)
        found[name].sin().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in part.parameters())


def test_copy_features() -> None:
    graph = state([post(3, 1)])
    found = CopyFeatures("token", "encoded")(graph)
    assert found.x["encoded"] is graph.x["token"]
    assert "encoded" not in graph.x


# --- sums by owner


@pytest.mark.parametrize("mean", [False, True])
@pytest.mark.parametrize("owner", [[0, 0, 2, 2, 2], [3, 1, 3, 0, 0], []])
def test_segment_sum(owner: list[int], mean: bool) -> None:
    x = torch.randn(len(owner), 3, requires_grad=True)
    expected = torch.zeros(5, 3)
    for position in range(5):
        rows = [row for row, o in zip(x, owner, strict=True) if o == position]
        if rows:
            expected[position] = sum(rows) / (len(rows) if mean else 1)
    found = segment_sum(x, torch.tensor(owner, dtype=torch.long), 5, mean=mean)
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert x.grad.isfinite().all()


def test_fakes_cover_the_edge_cases() -> None:
    posts = awkward_posts()
    assert {1, 128} <= {len(pair.words) for pair in posts}
    assert any(not pair.objects for pair in posts)
    assert any(pair.size is None for pair in posts)
    assert all(label in LABELS.tags for pair in posts for label in pair.labels)
    assert isinstance(layout(1), Layout)
