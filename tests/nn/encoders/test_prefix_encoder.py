"""Prefixes in every layer's self-attention, against a loop over queries, heads and keys."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as hf
from equations import scatter
from prefixed_encoders import encode_with_prefixes
from torch import Tensor, nn

from benchmarks.encoder_families import FAMILIES
from mnergraph.explain import record_attention
from mnergraph.explain.occlusion import without_relations
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph import Complete, EdgeRule, GraphBuilder, Grounded, Relation, Schema, collate
from mnergraph.graph.context import CONTEXT_SCHEMA, CONTEXT_TO_TOKENS, Context, ContextWords
from mnergraph.graph.node_types import CreatedNodes, Images, NodeType, Objects, Tokens
from mnergraph.nn import PrefixTextEncoder, TextEncoder
from mnergraph.nn.encoders.prefix_encoder import PREFIX_ATTENTION, _Prefixes, use_prefix_attention
from mnergraph.nn.encoders.pretrained import Pooling
from mnergraph.nn.state import GraphState
from mnergraph.pair import DetectedObject, Pair

IMAGE, OBJECT = ("image", "prefixes", "token"), ("object", "prefixes", "token")
#: Positions of an image's prefix and of an object's.
POSITIONS = {"image": 2, "object": 3}
LAYERS, COMPLETE = 3, Complete()
SUPPORTED = ["BERT", "DistilBERT", "ELECTRA", "ALBERT", "RoBERTa", "BERTweet", "XLM-R", "ModernBERT"]


def things(number: int, *spans: tuple[int, int]) -> tuple[DetectedObject, ...]:
    return tuple(DetectedObject("hat") for _ in range(number)) + tuple(DetectedObject("cap", span=s) for s in spans)


WORDS = ("he", "wins", "in", "Rome", "with", "naïve", "Zoë")
POSTS = [
    Pair(WORDS, id="image, two objects", image_features=torch.zeros(1, 1), objects=things(2)),
    Pair(("Rome",), id="nothing"),
    Pair(WORDS[::-1] * 2, id="objects", objects=things(1)),
    Pair(WORDS[:3], id="image", image_features=torch.zeros(1, 1)),
]
LONG = Pair(WORDS * 12, id="long", image_features=torch.zeros(1, 1), objects=things(1))


@cache
def encoder(family: str) -> TextEncoderModel:
    """The family's encoder of three layers, in float64, with random weights everywhere."""
    one = FAMILIES[family]()
    saved = {name: value for name, value in one.model.config.to_dict().items() if name != "layer_types"}
    layers = {name: LAYERS for name in ("num_hidden_layers", "n_layers") if name in saved}
    optional = {} if family in ("DistilBERT", "ELECTRA", "ModernBERT") else {"add_pooling_layer": False}
    model = type(one.model)(type(one.model.config)(**{**saved, **layers}), **optional)
    scatter(model)
    return TextEncoderModel(model.double().eval(), one.tokenizer, family)


def state(
    posts: Sequence[Pair],
    backbone: TextEncoderModel,
    *,
    rule: EdgeRule = COMPLETE,
    layers: int = LAYERS,
    context: bool = False,
) -> GraphState:
    """The graph of posts with random prefixes, the same for a post in any batch."""
    schema = Schema([Relation(*IMAGE, Complete()), Relation(*OBJECT, rule)])
    node_types: list[NodeType] = [Tokens(backbone.tokenizer), Images(1), Objects()]
    if context:
        schema |= CONTEXT_SCHEMA
        node_types.append(ContextWords(backbone.tokenizer, Context(sources=("caption",), budget=16)))
    builder = GraphBuilder(schema, node_types)
    graph = GraphState.from_batch(collate(builder.build_all(posts)), schema)
    width = backbone.hidden_size
    for node_type, positions in POSITIONS.items():
        rows = [torch.zeros(0, layers, 2, positions, width)]
        for post, count in zip(posts, graph.layouts[node_type].counts.tolist(), strict=True):
            generator = torch.Generator().manual_seed(len(post.id) + 100 * positions)
            rows.append(torch.randn(count, layers, 2, positions, width, generator=generator))
        dtype = backbone.model.dtype
        graph = graph.with_features(f"{node_type} prefix", torch.cat(rows).to(dtype), nodes_of=node_type)
    return graph


def prefixed(backbone: TextEncoderModel, **settings: Any) -> PrefixTextEncoder:
    return PrefixTextEncoder(backbone, {IMAGE: "image prefix", OBJECT: "object prefix"}, **settings).eval()


def own_prefixes(graph: GraphState, post: int) -> list[tuple[Tensor, str, int]]:
    """Every prefix position of a post, ``[layers, 2, width]``, with the type and the index of its node."""
    found = []
    for node_type in POSITIONS:
        begin, end = graph.layouts[node_type].ptr[post : post + 2].tolist()
        for index, node in enumerate(graph.x[f"{node_type} prefix"][begin:end]):
            found += [(node[:, :, position], node_type, index) for position in range(node.shape[2])]
    return found


def plain_tokens(backbone: TextEncoderModel, graph: GraphState, index: int, pooling: Pooling = "first") -> Tensor:
    """Features of a post's words: every window of it by itself, before the caption, with all its prefixes."""
    pair = graph.data.pair[index]
    words, caption = pair.words, [piece for of in backbone.tokenizer((pair.caption or "").split()) for piece in of]
    start, end = list(backbone.tokenizer.start), list(backbone.tokenizer.end)
    after = [*end, *caption, *end] if caption and "context" in graph.layouts else end
    split = backbone.tokenizer(words)
    ids = [piece for word in split for piece in word]
    spans = windows(len(ids), backbone.max_length - len(start) - len(after))
    prefixes = [prefix for prefix, _, _ in own_prefixes(graph, index)]
    encoded = []
    for span in spans:
        window = start + ids[span.start : span.stop] + after
        states = encode_with_prefixes(
            backbone.model, window, [prefixes] * len(window), num_context=len(after) - len(end)
        )
        encoded.append(states[len(start) :])
    pieces = [encoded[w][piece - spans[w].start] for piece, w in enumerate(best_windows(len(ids), spans))]
    owner = [word for word, of_word in enumerate(split) for _ in of_word]
    rows = []
    for word in range(len(words)):
        mine = torch.stack([piece for piece, of in zip(pieces, owner, strict=True) if of == word])
        rows.append({"first": mine[0], "mean": mine.mean(0), "sum": mine.sum(0)}[pooling])
    return torch.stack(rows)


def tokens_of(graph: GraphState) -> list[Tensor]:
    return list(graph.x["token"].split(graph.layouts["token"].counts.tolist()))


# --- the equation ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", ["first", "mean", "sum"])
@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "DistilBERT", "XLM-R"])
@torch.no_grad()
def test_equals_the_loop(family: str, pooling: Pooling) -> None:
    backbone = encoder(family)
    graph = state([*POSTS, LONG], backbone)
    assert len(windows(len(graph.data["piece"].input_ids), backbone.max_length)) > 1
    for index, found in enumerate(tokens_of(prefixed(backbone, pooling=pooling)(graph))):
        expected = plain_tokens(backbone, graph, index, pooling)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", SUPPORTED)
@torch.no_grad()
def test_alone_equals_batched_and_prefixes_matter(family: str) -> None:
    backbone = encoder(family)
    layer, posts = prefixed(backbone), [*POSTS, LONG]
    assert (layer.num_layers, layer.prefix_size) == (LAYERS, backbone.hidden_size)
    together = tokens_of(layer(state(posts, backbone)))
    without = tokens_of(TextEncoder(backbone).eval()(state(posts, backbone)))
    for post, batched, text in zip(posts, together, without, strict=True):
        (alone,) = tokens_of(layer(state([post], backbone)))
        torch.testing.assert_close(batched, alone, rtol=1e-10, atol=1e-10)
        assert torch.allclose(batched, text, rtol=1e-10, atol=1e-10) == (post.id == "nothing")


@pytest.mark.parametrize("family", SUPPORTED)
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_without_nodes_it_is_the_text_encoder_to_the_bit(family: str, mode: str) -> None:
    backbone = encoder(family)
    posts = [Pair(WORDS, id="a"), Pair(WORDS[:2], id="b"), replace(LONG, image_features=None, objects=())]
    found = []
    for layer in (prefixed(backbone, dropout=0.3), TextEncoder(backbone, dropout=0.3)):
        torch.manual_seed(5)
        found.append(layer.train(mode == "train")(state(posts, backbone)).x["token"])
    backbone.model.eval()
    assert torch.equal(*found)


@torch.no_grad()
def test_queries_keys_and_values_of_prefixes() -> None:
    """One post by arithmetic: a prefix is never projected, and has no state of its own."""
    backbone = encoder("BERT")
    graph = state(POSTS[:1], backbone)
    layer = prefixed(backbone)
    before = layer(graph).x["token"]
    first = backbone.model.encoder.layer[0].attention.self
    assert layer(graph).x["token"].shape == (len(WORDS), backbone.hidden_size)
    # maps of keys are those of the text alone: a change of them leaves what a prefix adds to the scores
    seen: list[Tensor] = []
    handle = first.key.register_forward_hook(lambda module, args, out: seen.append(args[0]))
    layer(graph)
    handle.remove()
    assert [x.shape[1] for x in seen] == [int(graph.layouts["piece"].counts[0])]
    changed = graph.update(**{"image prefix": graph.x["image prefix"] + 1})
    assert not torch.allclose(layer(changed).x["token"], before)


# --- gradients -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["BERT", "DistilBERT"])
def test_gradients_are_those_of_the_loop(family: str) -> None:
    backbone = encoder(family)
    graph = state(POSTS, backbone)
    names = [f"{node_type} prefix" for node_type in POSITIONS]
    for name in names:
        graph.x[name].requires_grad_()
    inputs = [*(graph.x[name] for name in names), *backbone.model.parameters()]
    direction = torch.randn(sum(len(post.words) for post in POSTS), backbone.hidden_size, dtype=torch.float64)
    found = torch.autograd.grad((prefixed(backbone)(graph).x["token"] * direction).sum(), inputs, allow_unused=True)
    rows = torch.cat([plain_tokens(backbone, graph, index) for index in range(len(POSTS))])
    expected = torch.autograd.grad((rows * direction).sum(), inputs, allow_unused=True)
    assert found[0] is not None
    for one, other in zip(found, expected, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-10)


def test_gradients_are_those_of_differences() -> None:
    backbone = encoder("RoBERTa")
    layer, graph = prefixed(backbone), state(POSTS[:2], backbone)

    def call(image: Tensor, objects: Tensor) -> Tensor:
        return layer(graph.update(**{"image prefix": image, "object prefix": objects})).x["token"][:3]

    inputs = [graph.x[f"{node_type} prefix"].clone().requires_grad_() for node_type in POSITIONS]
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


def test_prefixes_are_part_of_the_computation_where_no_post_has_any() -> None:
    backbone = encoder("BERT")
    graph = state(POSTS[1:2], backbone)
    weight = torch.ones(1, dtype=torch.float64, requires_grad=True)
    graph = graph.update(**{name: graph.x[name] * weight for name in ("image prefix", "object prefix")})
    prefixed(backbone)(graph).x["token"].sum().backward()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_gradient_checkpointing_is_refused() -> None:
    backbone = tiny_encoder(hidden_size=16, num_layers=LAYERS, heads=2)
    model: Any = backbone.model
    getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
    graph = state(POSTS[:1], backbone)
    layer = prefixed(backbone).train()
    with pytest.raises(ValueError, match="computes more layers than it has, as gradient checkpointing does, and each"):
        layer(graph).x["token"].sum().backward()


# --- training, precision, threads ------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "DistilBERT"])
def test_training_mode(family: str) -> None:
    backbone = encoder(family)
    layer, graph = prefixed(backbone), state(POSTS, backbone)
    rates = {part: part.p for part in backbone.model.modules() if isinstance(part, nn.Dropout)}
    try:
        for part in rates:
            part.p = 0.0
        assert torch.equal(layer.train()(graph).x["token"], layer.eval()(graph).x["token"])
        for part in rates:
            part.p = 0.4
        layer.train()
        torch.manual_seed(1)
        one = layer(graph).x["token"]
        other = layer(graph).x["token"]
        torch.manual_seed(1)
        again = layer(graph).x["token"]
    finally:
        for part, rate in rates.items():
            part.p = rate
        layer.eval()
    assert torch.equal(one, again)
    assert not torch.equal(one, other)


@pytest.mark.parametrize("family", SUPPORTED)
@torch.no_grad()
def test_bf16(family: str) -> None:
    torch.manual_seed(0)
    backbone = FAMILIES[family]()
    layer, graph = prefixed(backbone), state([*POSTS, LONG], backbone, layers=1)
    exact = layer(graph).x["token"]
    with torch.autocast("cpu", torch.bfloat16):
        rounded = layer(graph).x["token"]
    torch.testing.assert_close(exact, rounded.float(), rtol=0.1, atol=0.15)


@torch.no_grad()
def test_threads_have_prefixes_of_their_own() -> None:
    backbone = encoder("BERT")
    layer = prefixed(backbone)
    graphs = [state([post], backbone) for post in POSTS] * 6
    expected = [layer(graph).x["token"] for graph in graphs]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda graph: layer(graph).x["token"], graphs))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


# --- relations -------------------------------------------------------------------------------------------


@torch.no_grad()
def test_other_relations_than_complete_ones() -> None:
    """A piece attends to the objects of its word's phrase, special pieces to all that have an edge."""
    backbone = encoder("BERT")
    post = Pair(WORDS, id="grounded", image_features=torch.zeros(1, 1), objects=things(1, (1, 3), (5, 6)))
    posts = [post, POSTS[1], replace(post, words=WORDS * 12, id="grounded and long")]
    graph = state(posts, backbone, rule=Grounded())
    layer = prefixed(backbone)
    found = tokens_of(layer(graph))
    all_prefixes = own_prefixes(graph, 0)
    split = backbone.tokenizer(WORDS)
    spans = [item.span for item in post.objects]

    def allowed(word: int | None) -> list[Tensor]:
        return [
            prefix
            for prefix, node_type, index in all_prefixes
            if node_type == "image" or word is None or spans[index] is None or word in range(*(spans[index] or ()))
        ]

    of_piece = [allowed(None), *(allowed(word) for word, of in enumerate(split) for _ in of), allowed(None)]
    ids = [*backbone.tokenizer.start, *(piece for of in split for piece in of), *backbone.tokenizer.end]
    states = encode_with_prefixes(backbone.model, ids, of_piece)
    first = [1 + sum(map(len, split[:word])) for word in range(len(WORDS))]
    torch.testing.assert_close(found[0], states[first], rtol=1e-10, atol=1e-10)
    for index in range(len(posts)):
        (alone,) = tokens_of(layer(state([posts[index]], backbone, rule=Grounded())))
        torch.testing.assert_close(found[index], alone, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("family", ["BERT", "DistilBERT"])
@torch.no_grad()
def test_with_context_in_the_sequence(family: str) -> None:
    backbone = encoder(family)
    posts = [replace(post, caption=("a man wins", None)[index % 2]) for index, post in enumerate([*POSTS, LONG])]
    graph = state(posts, backbone, context=True)
    assert graph.layouts["context"].counts.tolist() == [3, 0, 3, 0, 3]
    layer = prefixed(backbone)
    for index, found in enumerate(tokens_of(layer(graph))):
        torch.testing.assert_close(found, plain_tokens(backbone, graph, index), rtol=1e-10, atol=1e-10)
    without = state(posts, backbone)
    found, expected = (tokens_of(layer(one)) for one in (graph.without_edges(CONTEXT_TO_TOKENS), without))
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@torch.no_grad()
def test_without_edges_the_text_is_alone() -> None:
    backbone = encoder("BERT")
    layer, graph = nn.Sequential(prefixed(backbone)), state([*POSTS, LONG], backbone)
    text = TextEncoder(backbone).eval()(graph).x["token"]

    class Model(nn.Module):
        layers = layer

        def forward(self, graph: GraphState) -> GraphState:
            return self.layers(graph)

    model: Any = Model()
    with without_relations(model, IMAGE, OBJECT):
        assert torch.equal(model(graph).x["token"], text)
    with without_relations(model, OBJECT):
        found = tokens_of(model(graph))
    bare = [replace(post, objects=()) for post in (*POSTS, LONG)]
    for one, other in zip(found, tokens_of(model(state(bare, backbone))), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


def test_declared_relations_and_errors() -> None:
    backbone = encoder("BERT")
    layer = prefixed(backbone)
    assert layer.relations[:2] == [IMAGE, OBJECT]
    with pytest.raises(ValueError, match=r"prefixes are of relations to token, not \('token', 'names', 'object'\)"):
        PrefixTextEncoder(backbone, {("token", "names", "object"): "x"})
    graph = state(POSTS, backbone)
    with pytest.raises(KeyError, match=r"\('token', 'a', 'token'\) is not in the graph, which has \('image', "):
        PrefixTextEncoder(backbone, {("token", "a", "token"): "x"})(graph)
    wrong = graph.update(**{"image prefix": graph.x["image prefix"][:, :2]})
    message = r"the prefixes 'image prefix' of .* are \[2, 2, 2, 2, 16\]; right is \[nodes, 3, 2, positions, 16\]: for"
    with pytest.raises(ValueError, match=message):
        layer(wrong)


# --- recording -------------------------------------------------------------------------------------------


def weights_of(
    backbone: TextEncoderModel, ids: list[int], prefixes: list[Tensor], num_context: int = 0
) -> dict[tuple[int, int, int], list[float]]:
    """The weights over prefixes and pieces, by layer, position of the query, and head."""
    found: dict[tuple[int, int, int], list[float]] = {}

    def keep(layer: int, place: int, head: int, alpha: list[float]) -> None:
        found[layer, place, head] = alpha

    encode_with_prefixes(backbone.model, ids, [prefixes] * len(ids), keep, num_context=num_context)
    return found


@pytest.mark.parametrize("pooling", ["first", "mean"])
@torch.no_grad()
def test_recorded_shares_are_those_of_the_loop(pooling: Pooling) -> None:
    backbone = encoder("BERT")
    layer = nn.Sequential(prefixed(backbone, pooling=pooling))
    graph = state(POSTS, backbone)
    expected_states = layer(graph).x["token"]
    with record_attention(layer) as record:
        assert torch.equal(layer(graph).x["token"], expected_states)
    heads = layer[0].num_heads
    for index, post in enumerate(record.posts):
        prefixes = own_prefixes(graph, index)
        split = backbone.tokenizer(POSTS[index].words)
        ids = [*backbone.tokenizer.start, *(piece for of in split for piece in of), *backbone.tokenizer.end]
        alphas = weights_of(backbone, ids, [prefix for prefix, _, _ in prefixes])
        for relation in (IMAGE, OBJECT):
            of_layers = post.select(relation)
            assert [w.layer for w in of_layers] == ["0", *(f"0#{number}" for number in range(2, LAYERS + 1))]
            for number, weights in enumerate(of_layers):
                assert weights.what == "attention"
                matrix = weights.matrix()
                nodes = {place for _, node_type, place in prefixes if node_type == relation[0]}
                assert matrix.shape == (heads, len(split), len(nodes))
                for head in range(heads):
                    for word, of_word in enumerate(split):
                        first = 1 + sum(map(len, split[:word]))
                        places = range(first, first + (1 if pooling == "first" else len(of_word)))
                        for node in nodes:
                            mine = [i for i, (_, t, n) in enumerate(prefixes) if (t, n) == (relation[0], node)]
                            share = sum(alphas[number, place, head][i] for place in places for i in mine) / len(places)
                            assert float(matrix[head, word, node]) == pytest.approx(share, abs=1e-6)


@torch.no_grad()
def test_recorded_attention_to_context_is_that_beside_prefixes() -> None:
    backbone = encoder("BERT")
    layer = nn.Sequential(prefixed(backbone))
    posts = [replace(post, caption="a man wins") for post in (*POSTS[:2], LONG)]
    with record_attention(layer) as record:
        layer(state(posts, backbone, context=True))
    graph = state(posts, backbone, context=True)
    start, end = list(backbone.tokenizer.start), list(backbone.tokenizer.end)
    caption = backbone.tokenizer(("a", "man", "wins"))
    after = [*end, *(piece for word in caption for piece in word), *end]
    for index, post in enumerate(record.posts[:2]):
        prefixes = [prefix for prefix, _, _ in own_prefixes(graph, index)]
        split = backbone.tokenizer(posts[index].words)
        ids = [*start, *(piece for word in split for piece in word), *after]
        alphas = weights_of(backbone, ids, prefixes, num_context=len(after) - len(end))
        of_layers = post.select(CONTEXT_TO_TOKENS)
        assert len(of_layers) == LAYERS
        for number, weights in enumerate(of_layers):
            for head, word, node in ((h, w, n) for h in range(2) for w in range(len(split)) for n in range(3)):
                row = 1 + sum(map(len, split[:word]))
                first = len(prefixes) + len(ids) - len(after) + 1 + sum(map(len, caption[:node]))
                expected = sum(alphas[number, row, head][first : first + len(caption[node])])
                assert float(weights.matrix()[head, word, node]) == pytest.approx(expected, abs=1e-6)
    assert record.posts[2].select(CONTEXT_TO_TOKENS)[0].nodes == (3, len(LONG.words))


@torch.no_grad()
def test_recorded_shares_of_long_posts_and_alone() -> None:
    backbone = encoder("RoBERTa")
    layer = nn.Sequential(prefixed(backbone))
    posts = [*POSTS, LONG]
    with record_attention(layer) as record:
        layer(state(posts, backbone))
    for post, together in zip(posts, record.posts, strict=True):
        with record_attention(layer) as own:
            layer(state([post], backbone))
        (alone,) = own.posts
        for one, other in zip(alone.weights, together.weights, strict=True):
            assert one.relation == other.relation
            torch.testing.assert_close(one.matrix(), other.matrix(), rtol=1e-5, atol=1e-6)
        assert together.weights[0].nodes[1] == len(post.words)


# --- encoders --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["DeBERTa-v2", "DeBERTa-v3"])
def test_families_that_are_refused(family: str) -> None:
    backbone = FAMILIES[family]()
    before = backbone.model.config._attn_implementation
    message = ".*: DebertaV2Model computes its self-attention in a way of its own, so prefixes can't be added; take"
    with pytest.raises(ValueError, match=message):
        prefixed(backbone)
    assert backbone.model.config._attn_implementation == before
    TextEncoder(backbone)(state(POSTS, backbone, layers=1))


SMALL = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


@pytest.mark.parametrize(
    ("model", "fault"),
    [
        (lambda: hf.MPNetModel(hf.MPNetConfig(**SMALL)), "computes its self-attention in a way of its own"),
        (lambda: hf.GPT2Model(hf.GPT2Config(vocab_size=20, n_embd=16, n_layer=1, n_head=2)), "earlier ones only"),
        (lambda: hf.LlamaModel(hf.LlamaConfig(**SMALL)), "earlier ones only"),
        (
            lambda: hf.FNetModel(hf.FNetConfig(vocab_size=20, hidden_size=16, num_hidden_layers=1)),
            "in a way of its own",
        ),
    ],
)
def test_other_models_are_refused(model: Callable[[], hf.PreTrainedModel], fault: str) -> None:
    built = model()
    before = built.config._attn_implementation
    with pytest.raises(ValueError, match=rf"^mine: \w+ .*{fault}.*, so prefixes can't be added; take BERT, RoBERTa"):
        use_prefix_attention(built, "mine")
    assert built.config._attn_implementation == before


def test_one_encoder_in_two_models(tmp_path: Path) -> None:
    backbone = tiny_encoder(hidden_size=16, num_layers=LAYERS, heads=2)
    backbone.model.eval()
    graph = state(POSTS, backbone)
    with torch.no_grad():
        plain_text = TextEncoder(backbone)(graph).x["token"]
        with_prefix = prefixed(backbone)(graph).x["token"]
        assert backbone.model.config._attn_implementation == PREFIX_ATTENTION
        assert torch.equal(TextEncoder(backbone)(graph).x["token"], plain_text)
        assert torch.equal(prefixed(backbone)(graph).x["token"], with_prefix)
    backbone.save(tmp_path)
    assert PREFIX_ATTENTION not in (tmp_path / "config.json").read_text()
    assert json.loads((tmp_path / "config.json").read_text())["hidden_size"] == 16


def test_building_changes_neither_mode_nor_random_state() -> None:
    backbone = tiny_encoder(hidden_size=16, num_layers=2, heads=2)
    backbone.model.train()
    before = torch.get_rng_state()
    assert use_prefix_attention(backbone.model, "mine") == [(2, 2, 8)] * 2
    assert torch.equal(torch.get_rng_state(), before)
    assert backbone.model.training


@torch.no_grad()
def test_grouped_heads() -> None:
    """Keys and values of fewer heads than queries: the same as with every head's own copy."""
    sizes = {**SMALL, "num_attention_heads": 4, "head_dim": 4, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
    model = hf.EuroBertModel(hf.EuroBertConfig(**sizes, num_key_value_heads=2)).eval()
    assert use_prefix_attention(model, "grouped") == [(4, 2, 4)]
    whole = hf.EuroBertModel(hf.EuroBertConfig(**sizes, num_key_value_heads=4)).eval()
    weights = model.state_dict()
    for name in ("k_proj", "v_proj"):
        key = f"layers.0.self_attn.{name}.weight"
        weights[key] = weights[key].unflatten(0, (2, 1, 4)).expand(2, 2, 4, 16).reshape(16, 16)
    whole.load_state_dict(weights)
    use_prefix_attention(whole, "whole")
    found = []
    for net in (model, whole):
        ids = torch.zeros(len(POSTS), 3, dtype=torch.long)
        prefixes = torch.randn(1, 2, len(POSTS), 2, 5, 4, generator=torch.Generator().manual_seed(0))
        if net is whole:
            prefixes = prefixes.repeat_interleave(2, 3)
        mask = torch.ones(len(POSTS), 1, 1, 5, dtype=torch.bool)
        weights: list[Tensor] = []
        call = _Prefixes(prefixes, mask, lambda layer, of_layer, kept=weights: kept.append(of_layer))
        states = net(input_ids=ids, attention_mask=torch.ones_like(ids), prefixes=call).last_hidden_state
        found.append((states, weights[0]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


def test_created_nodes_without_prefixes() -> None:
    """A node type whose nodes no post has makes no difference."""
    backbone = encoder("BERT")
    schema = Schema([Relation("thought", "prefixes", "token", Complete())])
    builder = GraphBuilder(schema, [Tokens(backbone.tokenizer), CreatedNodes("thought")])
    graph = GraphState.from_batch(collate(builder.build_all(POSTS)), schema)
    graph = graph.with_features("thought", torch.zeros(0, LAYERS, 2, 1, 16, dtype=torch.float64), nodes_of="thought")
    layer = PrefixTextEncoder(backbone, {("thought", "prefixes", "token"): "thought"}).eval()
    with torch.no_grad():
        assert torch.equal(layer(graph).x["token"], TextEncoder(backbone).eval()(graph).x["token"])
