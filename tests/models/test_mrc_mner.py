"""MRC-MNER against a plain reading of its docstring, one type, word and region at a time, that shares the weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from equations import norm, scatter
from torch import Tensor, nn

from benchmarks.encoder_families import encoder_of
from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.predict import predict
from mnergraph.explain import attention_graph, occlusion, record_attention
from mnergraph.explain.occlusion import without_relations
from mnergraph.explain.pyg_explainer import PyGExplainerModel
from mnergraph.explain.report.data import report_data
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import Edges, collate
from mnergraph.graph.context import CONTEXT_TO_TOKENS, Agreement, Context
from mnergraph.labels import LabelSet, tags_to_spans
from mnergraph.models import MRCMNER, Tagger
from mnergraph.models.mrc_mner.encoder import CLS_STATE, TOKEN_BY_QUERY, QueryEncoder
from mnergraph.models.mrc_mner.heads import RegionWeightsHead
from mnergraph.models.mrc_mner.layers import QueryTransformerLayer, RegionWeights
from mnergraph.models.mrc_mner.model import TO_QUERIES, TO_TOKENS, TOKENS
from mnergraph.models.mrc_mner.queries import DESCRIPTIONS, QUERY_TO_TOKENS, query_texts
from mnergraph.nn.state import GraphState
from mnergraph.pair import ContextText, DetectedObject, Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, evaluate, fit

TYPES = ("PER", "LOC", "CREATIVE_WORK")
LABELS = LabelSet.from_types(TYPES)
QUERIES = {"PER": "who is it", "LOC": "where", "CREATIVE_WORK": "which film or song"}
WORDS = ("bob", "saw", "paris", "who", "where", "film")
REGION, SIZE, HEADS = 6, 12, 3


def mrc(encoder: TextEncoderModel | None = None, **options: Any) -> MRCMNER:
    """A small model in float64 and evaluation mode, all weights random."""
    torch.manual_seed(2)
    encoder = encoder or tiny_encoder(WORDS, hidden_size=SIZE, num_layers=1, heads=2)
    given = {"queries": QUERIES, "region_dim": REGION, "num_heads": HEADS, "intermediate_size": 20} | options
    model = MRCMNER(encoder, LABELS, **given).double().eval()
    scatter(model)
    return model


def shown(label: str = "", span: tuple[int, int] | None = None, *, region: bool = True) -> DetectedObject:
    return DetectedObject(label, span=span, region=torch.randn(REGION) if region else None)


@pytest.fixture
def posts() -> list[Pair]:
    torch.manual_seed(3)
    words = ("Bob", "and", "Ann", "Lee", "saw", "Paris", "!")
    tags = ("B-PER", "O", "I-PER", "I-PER", "O", "B-LOC", "O")
    return [
        Pair(words, tags, "a", objects=(shown("a man", (0, 1)), shown("woman", (2, 5)), shown(), shown("x", (5, 6)))),
        Pair(words[3:], tags[3:], "b", objects=(shown("film", region=False), shown(region=False))),
        Pair(words[::-1], ("O", "B-LOC", "O", "I-PER", "B-PER", "O", "I-LOC"), "c"),
        Pair(words[:1], ("B-CREATIVE_WORK",), "d", objects=(shown("man", (0, 1)),) * 7),
        Pair(words * 9, tags * 9, "e", objects=(shown("man", (6, 8)), shown())),
    ]


def run(model: Tagger, posts: list[Pair]) -> GraphState:
    return model(collate(model.builder.build_all(posts)))


# --- a plain reading --------------------------------------------------------------------------------------


def encoded(model: MRCMNER, post: Pair, query: str) -> tuple[Tensor, Tensor, list[Tensor]]:
    """The states of [CLS], the query's words (their mean) and every word, from the tokenizer's own pair of texts."""
    ids = model.encoder.tokenizer.tokenizer(
        query.split(), list(post.words), is_split_into_words=True, return_token_type_ids=True, return_tensors="pt"
    )
    states = model.encoder.model(**ids).last_hidden_state[0]
    sequence, owner = ids.sequence_ids(0), ids.word_ids(0)
    asked = [state for state, part in zip(states, sequence, strict=True) if part == 0]
    words = [
        next(s for s, part, it in zip(states, sequence, owner, strict=True) if (part, it) == (1, word))
        for word in range(len(post.words))
    ]
    return states[0], sum(asked) / len(asked), words


def regions_of(model: MRCMNER, post: Pair) -> list[Tensor]:
    """v_j: L f + W LN(mean of the label's embeddings)."""
    layer, table = model.layers[1], model.encoder.model.get_input_embeddings().weight
    found = []
    for item in post.objects:
        v = torch.zeros(SIZE, dtype=torch.float64)
        if item.region is not None:
            v = v + layer.region(item.region.double())
        if item.label:
            pieces = [piece for word in model.encoder.tokenizer(item.label.split()) for piece in word]
            v = v + layer.label(norm(layer.norm, table[pieces].mean(0)))
        found.append(v)
    return found


def transformer(
    layer: QueryTransformerLayer, x: list[Tensor], sources: list[Tensor], prior: list[float]
) -> list[Tensor]:
    """A transformer layer whose attention has a prior over its sources."""
    attention, size = layer.attention, SIZE // HEADS
    out = []
    for receiver in x:
        heads = []
        for head in range(HEADS):
            own = slice(head * size, (head + 1) * size)
            scores = [
                p * math.exp(float(attention.query(receiver)[own] @ attention.key(v)[own]) / math.sqrt(size))
                for p, v in zip(prior, sources, strict=True)
            ]
            heads.append(
                sum(
                    (s / sum(scores) * attention.value(v)[own] for s, v in zip(scores, sources, strict=True)),
                    torch.zeros(size, dtype=torch.float64),
                )
            )
        middle = norm(layer.residual.norm, receiver + attention.output(torch.cat(heads)))
        feed = layer.feed_forward
        out.append(norm(feed.residual.norm, middle + feed.outer(torch.relu(feed.inner(middle)))))
    return out


def plain(model: MRCMNER, post: Pair, query: str) -> tuple[Tensor, Tensor, list[float]]:
    """Scores ``[words, 2]`` of spans, of existence, and the region weights, for one query."""
    _, _, weigh, to_words, among_words, spans, existence = model.layers
    cls, asked, words = encoded(model, post, query)
    regions = regions_of(model, post)
    scores = [math.exp(float(weigh.query(asked) @ weigh.key(v)) / math.sqrt(SIZE // HEADS)) for v in regions]
    weights = [score / sum(scores) for score in scores]
    u = transformer(to_words, words, regions, weights)
    z = transformer(among_words, u, u, [1.0] * len(u))
    match = spans.match.weight.unflatten(0, (2, SIZE))
    rows = [
        spans.linear(word) + torch.stack([(match[side] @ word) @ asked for side in (0, 1)]) / math.sqrt(SIZE)
        for word in z
    ]
    return torch.stack(rows), existence.linear(cls), weights


@torch.no_grad()
def test_against_the_docstring(posts: list[Pair]) -> None:
    model = mrc()
    graph = run(model, posts)
    tokens, objects = (graph.layouts[node_type].counts.tolist() for node_type in ("token", "object"))
    per_post = zip(
        posts,
        graph.emissions["tags"].unflatten(-1, (len(TYPES), 2)).split(tokens),
        graph.emissions["existence"].split(len(TYPES)),
        graph.emissions["region_weights"].split(objects),
        strict=True,
    )
    for post, scores, existence, weights in per_post:
        for kind, query in enumerate(QUERIES.values()):
            expected, occurs, regions = plain(model, post, query)
            torch.testing.assert_close(scores[:, kind], expected, rtol=0, atol=1e-10)
            torch.testing.assert_close(existence[kind], occurs, rtol=0, atol=1e-10)
            assert weights[:, kind].tolist() == pytest.approx(regions, abs=1e-10)


@torch.no_grad()
def test_losses_against_the_docstring(posts: list[Pair]) -> None:
    model = mrc(existence_weight=0.3, region_weight=0.7)
    graph = run(model, posts)
    losses = []
    for post in posts:
        gold = tags_to_spans(post.labels or ())
        spans = existence = regions = 0.0
        for name, query in QUERIES.items():
            rows, occurs, weights = plain(model, post, query)
            mine = [span for span in gold if span.type == name]
            for word, (first, last) in enumerate(rows.sigmoid().tolist()):
                spans -= math.log(first if any(it.start == word for it in mine) else 1 - first) / len(post.words)
                spans -= math.log(last if any(it.end - 1 == word for it in mine) else 1 - last) / len(post.words)
            chance = occurs.sigmoid().item()
            existence -= math.log(chance if mine else 1 - chance)
            targets = [
                weight
                for item, weight in zip(post.objects, weights, strict=True)
                if item.span and any(set(range(*item.span)) & set(range(it.start, it.end)) for it in mine)
            ]
            regions -= sum(map(math.log, targets)) / max(1, len(targets))
        losses.append([value / len(TYPES) for value in (spans, existence, regions)])
    expected = torch.tensor(losses, dtype=torch.float64)
    found = torch.stack([head.loss(graph) for head in model.heads.values()], 1)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-10)
    assert (expected[:, 2] > 0).tolist() == [True, False, False, True, True]
    weights = torch.tensor([1.0, 0.3, 0.7], dtype=torch.float64)
    torch.testing.assert_close(model.loss(graph), (expected @ weights).mean(), rtol=0, atol=1e-10)


def test_targets_of_region_weights(posts: list[Pair]) -> None:
    head = RegionWeightsHead(LABELS)
    assert head.targets(posts[0]) == [[0.5, 0, 0], [0.5, 0, 0], [0, 0, 0], [0, 1, 0]]
    assert head.targets(posts[2]) == []
    assert head.targets(posts[3]) == [[0, 0, 1 / 7]] * 7


@torch.no_grad()
def test_predictions_of_the_other_tasks(posts: list[Pair]) -> None:
    model = mrc()
    graph = run(model, posts)
    existence, regions = (model.heads[name].decode(graph) for name in ("existence", "region_weights"))
    for post, occurs, weights in zip(posts, existence, regions, strict=True):
        assert list(occurs) == list(weights) == list(TYPES)
        assert all(0 < chance < 1 for chance in occurs.values())
        assert all(sum(row) == pytest.approx(float(bool(post.objects))) for row in weights.values())
    assert not model.shown_heads()


# --- sequences of query and post --------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["BERT", "RoBERTa", "ELECTRA", "XLM-R", "ModernBERT", "DeBERTa-v3"])
@torch.no_grad()
def test_sequences_are_the_tokenizers_own(family: str, posts: list[Pair]) -> None:
    encoder = encoder_of(family)
    model = MRCMNER(encoder, LABELS, queries=QUERIES, num_heads=2, label_features=False, region_dim=REGION).eval()
    layer, some = model.layers[0], posts[:4]
    graph = layer(GraphState.from_batch(collate(model.builder.build_all(some)), model.schema))
    tokenizer, begin = encoder.tokenizer, 0
    for number, post in enumerate(some):
        for kind, query in enumerate(QUERIES.values()):
            asked = [piece for word in tokenizer(query.split()) for piece in word]
            split = tokenizer(post.words)
            head = [*tokenizer.start, *asked, *tokenizer.between]
            ids = torch.tensor([[*head, *(piece for word in split for piece in word), *tokenizer.end]])
            if family in ("BERT", "ELECTRA"):
                assert ids[0].tolist() == tokenizer.tokenizer(query, " ".join(post.words))["input_ids"]
            kinds = {}
            if encoder.num_segments > 1:
                kinds["token_type_ids"] = torch.tensor([[0] * len(head) + [1] * (ids.shape[1] - len(head))])
            states = encoder.model(input_ids=ids, **kinds).last_hidden_state[0]
            places = [len(head) + sum(map(len, split[:word])) for word in range(len(split))]
            found = graph.x[TOKEN_BY_QUERY][begin : begin + len(split), kind]
            torch.testing.assert_close(found, states[places], atol=1e-5, rtol=1e-4)
            index = number * len(TYPES) + kind
            torch.testing.assert_close(graph.x[CLS_STATE][index], states[0], atol=1e-5, rtol=1e-4)
            inner = states[len(tokenizer.start) : len(head) - len(tokenizer.between)].mean(0)
            torch.testing.assert_close(graph.x["query"][index], inner, atol=1e-5, rtol=1e-4)
        begin += len(post.words)


@torch.no_grad()
@pytest.mark.parametrize("budget", [None, 8])
def test_every_window_of_a_long_post_has_the_query(budget: int | None, posts: list[Pair]) -> None:
    encoder = tiny_encoder(
        [*WORDS, "is", "it", "or", "which", "song"], hidden_size=SIZE, num_layers=1, heads=2, max_length=24
    )
    context = None if budget is None else Context(budget=budget)
    model = MRCMNER(encoder, LABELS, queries=QUERIES, num_heads=HEADS, region_dim=REGION, context=context).eval()
    posts = [replace(post, context=(ContextText("caption", "bob saw paris"),)) for post in posts]
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    hook = encoder.model.register_forward_pre_hook(
        lambda _, args, given: seen.append((given["inputs_embeds"], given["attention_mask"], given["token_type_ids"])),
        with_kwargs=True,
    )
    graph = run(model, posts)
    hook.remove()
    ((embedded, mask, kinds),) = seen
    table = encoder.model.get_input_embeddings().weight
    tokenizer = encoder.tokenizer
    assert mask.sum(1).max() <= 24
    assert len(mask) > len(posts) * len(TYPES)
    after = [*tokenizer(["bob", "saw", "paris"]), tokenizer.end] if budget else []
    for row, (states, length) in enumerate(zip(embedded, mask.sum(1).tolist(), strict=True)):
        ids = [int((table == state).all(-1).nonzero()) for state in states[:length]]
        asked = [piece for word in tokenizer(list(QUERIES.values())[row % 3].split()) for piece in word]
        head = [*tokenizer.start, *asked, *tokenizer.between]
        assert ids[: len(head)] == head
        tail = [*tokenizer.end, *(piece for word in after for piece in word)]
        assert ids[length - len(tail) :] == tail
        assert kinds[row, :length].tolist() == [0] * len(head) + [1] * (length - len(head))
    assert graph.x[TOKEN_BY_QUERY].isfinite().all()
    # short posts have the states that they have beside short posts alone
    alone = run(model, posts[1:2]).x[TOKEN_BY_QUERY]
    begin = len(posts[0].words)
    torch.testing.assert_close(graph.x[TOKEN_BY_QUERY][begin : begin + len(alone)], alone, atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_attention_to_context_is_recorded_by_query() -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder(WORDS, hidden_size=SIZE, num_layers=2, heads=2)
    context = Context()
    model = MRCMNER(encoder, LABELS, queries=QUERIES, num_heads=HEADS, region_dim=REGION, context=context).eval()
    posts = [
        Pair(("bob", "saw", "Paris"), context=(ContextText("caption", "a man saw bob"),)),
        Pair(("bob", "and", "who")),
    ]
    with record_attention(model) as record:
        scores = run(model, posts).emissions["tags"]
    assert torch.equal(scores, run(model, posts).emissions["tags"])
    tokenizer = encoder.tokenizer
    first, second = record.posts
    assert [it.index.shape[1] for it in second.select(CONTEXT_TO_TOKENS)] == [0, 0]
    for layer, weights in enumerate(first.select(CONTEXT_TO_TOKENS)):
        assert weights.nodes == (4, 3)
        for kind, query in enumerate(QUERIES.values()):
            text = " ".join((query, "[SEP] bob saw Paris [SEP] a man saw bob"))
            ids = tokenizer.tokenizer(text, return_tensors="pt")["input_ids"]
            length = 1 + sum(map(len, tokenizer(query.split()))) + 1
            kinds = (torch.arange(ids.shape[1]) >= length).long()[None]
            attention = eager(encoder)(input_ids=ids, token_type_ids=kinds, output_attentions=True).attentions[layer][0]
            pieces = tokenizer(["bob", "saw", "Paris"])
            rows = [length + sum(map(len, pieces[:word])) for word in range(3)]
            columns, begin = [], length + sum(map(len, pieces)) + 1
            for word in tokenizer(["a", "man", "saw", "bob"]):
                columns.append(slice(begin, begin := begin + len(word)))
            expected = torch.stack([attention[:, rows, column].sum(-1) for column in columns], -1)
            torch.testing.assert_close(weights.matrix()[2 * kind : 2 * kind + 2], expected, atol=1e-5, rtol=1e-4)


def eager(encoder: TextEncoderModel) -> nn.Module:
    """A copy of an encoder that returns its attention."""
    copied = deepcopy(encoder.model)
    copied.set_attn_implementation("eager")
    return copied


@torch.no_grad()
def test_types_differ_by_their_query_alone(posts: list[Pair]) -> None:
    model, other = mrc(), mrc(queries={**QUERIES, "LOC": "who is it"})
    one, two = (run(it, posts).emissions for it in (model, other))
    assert torch.equal(one["region_weights"][:, [0, 2]], two["region_weights"][:, [0, 2]])
    first, second = (it["tags"].unflatten(-1, (3, 2)) for it in (one, two))
    assert torch.equal(first[:, [0, 2]], second[:, [0, 2]])
    torch.testing.assert_close(second[:, 1], second[:, 0])
    assert (first[:, 1] - second[:, 1]).abs().max() > 1e-3


@torch.no_grad()
def test_without_the_relation_to_tokens_no_query_is_put(posts: list[Pair]) -> None:
    model = mrc()
    with without_relations(model, QUERY_TO_TOKENS):
        graph = run(model, posts)
    scores = graph.emissions["tags"].unflatten(-1, (3, 2))
    torch.testing.assert_close(scores, scores[:, :1].expand(-1, 3, -1))
    ids = model.encoder.tokenizer.tokenizer([list(posts[2].words)], is_split_into_words=True, return_tensors="pt")
    states = model.encoder.model(**ids).last_hidden_state[0]
    torch.testing.assert_close(graph.x[CLS_STATE][6], states[0], rtol=0, atol=1e-10)
    assert not graph.x["query"].any()
    edges = graph.edges[QUERY_TO_TOKENS]
    some = GraphState.from_batch(collate(model.builder.build_all(posts)), model.schema)
    some = some.with_edges({QUERY_TO_TOKENS: Edges(edges.src, edges.dst, torch.tensor([[0], [0]]))})
    with pytest.raises(ValueError, match="joins query with all tokens of its post or none"):
        model.layers[0](some)


# --- regions ----------------------------------------------------------------------------------------------


@torch.no_grad()
def test_objects_change_scores_and_their_order_does_not_matter(posts: list[Pair]) -> None:
    model, post = mrc(), posts[0]
    scores = run(model, [post]).emissions["tags"]
    turned = run(model, [replace(post, objects=post.objects[::-1])]).emissions["tags"]
    torch.testing.assert_close(scores, turned, rtol=0, atol=1e-10)
    bare = run(model, [replace(post, objects=())]).emissions["tags"]
    assert (scores - bare).abs().max() > 1e-3
    with without_relations(model, TO_TOKENS):
        torch.testing.assert_close(run(model, [post]).emissions["tags"], bare, rtol=0, atol=1e-10)


@torch.no_grad()
def test_region_weights_are_a_prior_of_attention(posts: list[Pair]) -> None:
    """alpha is proportional to the weights times what it is without their relation."""
    model = mrc()
    with record_attention(model) as record:
        run(model, posts)
        with without_relations(model, TO_QUERIES):
            graph = run(model, posts)
    assert not graph.emissions["region_weights"].any()
    number = len(posts)
    for with_prior, uniform in zip(record.posts[:number], record.posts[number:], strict=True):
        (weights,), (alpha,), (among,) = (with_prior.select(key) for key in (TO_QUERIES, TO_TOKENS, TOKENS))
        (plain_alpha,) = uniform.select(TO_TOKENS)
        objects, words = alpha.nodes
        assert weights.nodes == (objects, len(TYPES))
        assert among.weights.shape[1] == alpha.weights.shape[1] == len(TYPES) * HEADS
        prior = weights.matrix()[0].repeat_interleave(HEADS, 0)[:, None]
        expected = plain_alpha.matrix() * prior
        expected = expected / expected.sum(-1, keepdim=True)
        assert expected.shape == (len(TYPES) * HEADS, words, objects)
        torch.testing.assert_close(alpha.matrix(), expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layout", ["dense", "sparse"])
@torch.no_grad()
def test_dense_and_sparse_weights(layout: str, posts: list[Pair]) -> None:
    model = mrc()
    graph = GraphState.from_batch(collate(model.builder.build_all(posts)), model.schema)
    forced = graph.with_edges({key: edges.with_layout(layout) for key, edges in graph.edges.items()})
    one, two = (nn.Sequential(*model.layers)(it).emissions for it in (graph, forced))
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=0, atol=1e-10)


# --- the model --------------------------------------------------------------------------------------------


def test_default_queries() -> None:
    texts = query_texts(["PER", "LOC", "ORG", "MISC", "OTHER", "CREATIVE_WORK"])
    assert len(set(texts.values())) == 5, "MISC and OTHER are the same"
    assert all(text.startswith("Which ") and text.endswith("?") for text in texts.values())
    assert all(what in texts[name] for name, what in DESCRIPTIONS.items())
    assert texts["CREATIVE_WORK"] == "Which entities of the type creative work are named in the text?"
    assert query_texts(["ORG", "PER"], {"PER": "who"}) == {"ORG": texts["ORG"], "PER": "who"}
    labels = LabelSet.from_types(["PER", "LOC", "ORG", "MISC"])
    model = MRCMNER(tiny_encoder(hidden_size=16, num_layers=1, heads=2), labels, num_heads=2)
    assert model.hparams()["queries"] is None
    assert list(model.builder.node_types["query"].queries.values()) == list(texts.values())[:4]


def small() -> TextEncoderModel:
    return tiny_encoder(hidden_size=16, num_layers=1, heads=2, max_length=30)


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        ({"ORG": "which"}, "queries are for the types PER, LOC, CREATIVE_WORK, not for 'ORG'"),
        ({"PER": " "}, "the query of 'PER' has no words"),
        ({"PER": "who are all these people"}, r"the query of PER has 22 word pieces, .*: at most 10 fit"),
    ],
)
def test_queries_that_do_not_fit(queries: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MRCMNER(small(), LABELS, num_heads=2, queries={**dict.fromkeys(TYPES, "what"), **queries})


def test_what_the_model_cannot_do_without() -> None:
    with pytest.raises(ValueError, match="a question is put for every entity type, and O has none"):
        MRCMNER(small(), LabelSet(("O",)))
    with pytest.raises(ValueError, match="an object needs a region vector, a label, or both"):
        MRCMNER(small(), LABELS, num_heads=2, label_features=False)
    with pytest.raises(ValueError, match="3 heads do not divide a hidden size of 16"):
        MRCMNER(small(), LABELS, num_heads=3)
    bare = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    bare.tokenizer.start = ()
    with pytest.raises(ValueError, match="has no special piece before the words"):
        MRCMNER(bare, LABELS, num_heads=2)


def test_tasks_of_weight_zero_are_left_out(posts: list[Pair]) -> None:
    model = mrc(existence_weight=0.0, region_weight=0.0)
    assert list(model.heads) == ["tags"]
    model.loss(run(model, posts)).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert next(part for part in model.layers if isinstance(part, RegionWeights)).query.weight.grad.any()


def test_agreement_needs_tags() -> None:
    with pytest.raises(ValueError, match="the agreement with and without context is that of tags"):
        MRCMNER(tiny_encoder(hidden_size=16), LABELS, num_heads=2, context=Context(agreement=Agreement()))


def test_networkx_graph_and_occlusion(posts: list[Pair]) -> None:
    model = mrc().float()
    graph = attention_graph(model, posts[0])
    queries = [values for _, values in graph.nodes(data=True) if values["type"] == "query"]
    assert [(it["label"], it["text"]) for it in queries] == list(QUERIES.items())
    assert graph.number_of_edges() == 7 * 7 + 4 * 7 + 3 * 7 + 4 * 3 + sum(
        key == "part_of" for *_, key in graph.edges(keys=True)
    )
    assert len(graph.edges["object 0", "query 1", "shows"]["attention"]["2"]) == 1
    assert len(graph.edges["object 0", "token 1", "shows"]["attention"]["3"]) == 3 * HEADS
    found = occlusion(model, posts[0])
    assert [it.removed for it in found.effects if it.what == "relation"] == [
        QUERY_TO_TOKENS,
        TO_QUERIES,
        TO_TOKENS,
        TOKENS,
    ]
    assert all(len(it.change) == len(found.entities) for it in found.effects)


def test_pyg_explainer(posts: list[Pair]) -> None:
    model = mrc().float()
    explained = PyGExplainerModel(model, posts[0])
    expected = model.forward_examples([posts[0]]).emissions["tags"]
    torch.testing.assert_close(explained(explained.x_dict, explained.edge_index_dict), expected, atol=1e-5, rtol=1e-4)
    assert set(explained.edge_index_dict) == {TO_TOKENS, TOKENS}
    assert set(explained.x_dict) == {"query", "object"}


def test_report(posts: list[Pair]) -> None:
    content = report_data(mrc().float(), posts)
    first = content["posts"][0]
    assert first["nodes"] == [["query", list(TYPES)]]
    assert [(part["relation"], part["heads"], part["count"]) for part in first["parts"]] == [("shows", 3 * HEADS, 4)]
    assert first["tasks"] == []


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision(dtype: torch.dtype, posts: list[Pair]) -> None:
    model = mrc().float()
    expected = model.loss(run(model, posts)).item()
    with torch.autocast("cpu", dtype=dtype):
        graph = run(model, posts)
        loss = model.loss(graph)
        assert len(model.decode_entities(graph)) == len(posts)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(expected, rel=0.05)
    loss.backward()
    assert all(weight.grad.isfinite().all() for weight in model.parameters())


def test_training_prediction_and_command_line(tmp_path: Path, make_posts: Callable[[int, int], list[Pair]]) -> None:
    train, valid = make_posts(48, 0), make_posts(8, 1)
    torch.manual_seed(0)
    words = sorted({word for post in train for word in post.words})
    encoder = tiny_encoder([*words, "who", "where"], hidden_size=16, num_layers=1, heads=2)
    labels = LabelSet.from_types(["PER", "LOC"])
    model = MRCMNER(encoder, labels, queries={"PER": "who", "LOC": "where"}, num_heads=2, dropout=0.0)
    fast = OptimizerConfig(encoder_lr=1e-2, lr=1e-2, warmup=0.0)
    loop = TrainerConfig(epochs=12, batch_size=8, accelerator="cpu", logger="none", progress=False, save_every=0)
    fitted = fit(model, train, valid, tmp_path / "run", optimizer=fast, trainer=loop)
    scores, _ = evaluate(fitted, valid, progress=False)
    assert scores.lenient.f1 > 0.9
    fitted.save_pretrained(tmp_path / "model")
    loaded = Tagger.from_pretrained(tmp_path / "model")
    assert isinstance(loaded, MRCMNER)
    assert loaded.predict(valid) == fitted.predict(valid)
    out = tmp_path / "out.jsonl"
    kinds = ("detected objects", "region features")
    predict(
        tmp_path / "model", Inputs(text="bob saw paris"), StoreOptions(allow_missing=kinds), out=out, progress=False
    )
    line = json.loads(out.read_text(encoding="utf-8"))
    assert [(it["type"], it["word_start"], it["word_end"]) for it in line["entities"]] == [("PER", 0, 1), ("LOC", 2, 3)]
    assert all(0.25 < it["score"] <= 1 for it in line["entities"])


@pytest.fixture
def make_posts() -> Callable[[int, int], list[Pair]]:
    """Posts whose tags depend on the word alone, every third with objects, one of them grounded."""
    names = {"bob": "PER", "ann": "PER", "lee": "PER", "paris": "LOC", "rome": "LOC", "oslo": "LOC"}

    def make(many: int, seed: int) -> list[Pair]:
        generator = torch.Generator().manual_seed(seed)
        choices, found = [*names, "saw", "in", "the", "today"], []
        for index in range(many):
            picked = torch.randint(len(choices), (5,), generator=generator).tolist()
            words = tuple(choices[place] for place in picked)
            tags = tuple(f"B-{names[word]}" if word in names else "O" for word in words)
            objects = (DetectedObject("hat"), DetectedObject("dog", span=(0, 2))) if index % 3 == 0 else ()
            found.append(Pair(words, tags, f"{seed}-{index}", objects=objects))
        return found

    return make


def test_layers_and_their_relations() -> None:
    model = mrc()
    assert {key for part in model.layers for key in getattr(part, "relations", ())} >= set(model.schema.relations)
    assert sum(isinstance(part, QueryEncoder) for part in model.layers) == 1
