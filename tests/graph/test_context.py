"""Context nodes: which texts, how much of them, and that the sentence is never touched."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import Complete, GraphBuilder, Relation, Schema
from mnergraph.graph.context import (
    CONTEXT,
    CONTEXT_PIECE,
    CONTEXT_PIECES,
    CONTEXT_TO_TOKENS,
    Agreement,
    Context,
    ContextWords,
    _shares,
)
from mnergraph.graph.node_types import PIECE, PIECES, Tokens
from mnergraph.pair import ContextText, DetectedObject, Pair

TOKENIZER = tiny_encoder(["paris", "rain", "a", "man"], hidden_size=8).tokenizer
SCHEMA = Schema([Relation(*CONTEXT_TO_TOKENS, Complete())])
TEXTS = st.lists(
    st.tuples(st.sampled_from(["caption", "ocr", "knowledge", "own"]), st.text(max_size=60)), max_size=4
).map(lambda texts: tuple(ContextText(*text) for text in texts))
WORDS = st.lists(st.text("ab#é😀\u200b", min_size=1, max_size=5), min_size=1, max_size=8).map(tuple)


def builder(context: Context) -> GraphBuilder:
    return GraphBuilder(SCHEMA, [Tokens(TOKENIZER), ContextWords(TOKENIZER, context)])


@settings(deadline=None, max_examples=60)
@given(words=WORDS, texts=TEXTS, budget=st.integers(8, 40))
def test_trimming_never_touches_the_sentence(
    words: tuple[str, ...], texts: tuple[ContextText, ...], budget: int
) -> None:
    make = builder(Context(budget=budget))
    with_context, alone = make(Pair(words, context=texts)), make(Pair(words))
    for store in ("token", PIECE, PIECES):
        assert list(with_context[store].keys()) == list(alone[store].keys())
        for name, values in alone[store].items():
            assert torch.equal(torch.as_tensor(with_context[store][name]), torch.as_tensor(values))
    ids = with_context[CONTEXT_PIECE].input_ids
    assert len(ids) <= budget
    assert len(ids) == make.node_types[CONTEXT].length(Pair(words, context=texts))  # type: ignore[attr-defined]
    # every word has all of its pieces, in the order of the texts
    piece, word = with_context[CONTEXT_PIECES].edge_index.tolist()
    described = make.node_types[CONTEXT].describe(with_context)
    assert sorted(set(word)) == list(range(len(described)))
    for index, entry in enumerate(described):
        own = [ids[p].item() for p, w in zip(piece, word, strict=True) if w == index]
        assert tuple(own) == TOKENIZER([entry["label"]])[0]


@settings(deadline=None, max_examples=60)
@given(lengths=st.lists(st.integers(0, 50), max_size=6), budget=st.integers(0, 120))
def test_shares_cut_the_longest_first(lengths: list[int], budget: int) -> None:
    shares = _shares(lengths, budget)
    assert all(share <= length for share, length in zip(shares, lengths, strict=True))
    assert sum(shares) == sum(lengths) if sum(lengths) <= budget else sum(shares) <= budget
    cut = [share for share, length in zip(shares, lengths, strict=True) if share < length]
    if cut:
        assert budget - sum(shares) < len(lengths)
        assert max(cut) - min(cut) <= 1
        assert max(shares) <= max(cut) + 1


def test_pieces_stand_between_the_sentences_and_an_end() -> None:
    pair = Pair(("Paris",), caption="a man", context=(ContextText("knowledge", "rain, Paris"),))
    data = builder(Context())(pair)
    start, sep = TOKENIZER.start[0], TOKENIZER.end[0]
    paris, rain, a, man, comma = (ids[0] for ids in TOKENIZER(["paris", "rain", "a", "man", ","]))
    assert data[PIECE].input_ids.tolist() == [start, paris, sep]
    assert data[CONTEXT_PIECE].input_ids.tolist() == [a, man, sep, rain, comma, paris, sep]
    assert data[CONTEXT].segment.tolist() == [0, 0, 1, 1, 1]
    assert data[CONTEXT_PIECES].edge_index.tolist() == [[0, 1, 3, 4, 5], [0, 1, 2, 3, 4]]
    words = builder(Context()).node_types[CONTEXT].describe(data)
    assert [(entry["source"], entry["label"]) for entry in words] == [
        ("caption", "a"), ("caption", "man"), ("knowledge", "rain"), ("knowledge", ","), ("knowledge", "Paris"),
    ]  # fmt: skip


def test_sources_in_their_order_and_from_other_evidence() -> None:
    objects = (DetectedObject("person", (0, 0, 1, 1)), DetectedObject("person", (0, 0, 2, 2)), DetectedObject("a hat"))
    pair = Pair(
        ("x",), caption="a man", objects=objects, context=(ContextText("ocr", "SALE"), ContextText("ocr", "now"))
    )
    texts = Context(sources=("ocr", "tags", "caption", "knowledge")).texts(pair)
    assert texts == (("ocr", "SALE now"), ("tags", "person"), ("caption", "a man"))
    assert Context().texts(pair) == (("caption", "a man"), ("ocr", "SALE now"))
    # an entry takes precedence over the caption, an empty one says that there is none
    assert Context().texts(Pair(("x",), caption="a man", context=(ContextText("caption", "rain"),)))[0].text == "rain"
    assert Context(sources=("caption", "tags")).texts(pair.without_context()) == ()
    assert pair.without_context().caption == "a man"
    assert pair.without_image().context == ()
    knowledge = (ContextText("knowledge", "rain"),)
    assert Pair(("x",), context=(*pair.context, *knowledge)).without_image().context == knowledge
    assert Pair.from_dict(pair.to_dict()) == pair


def test_an_empty_text_is_read_as_none() -> None:
    words = ContextWords(tiny_encoder().tokenizer, Context(sources=("caption", "tags", "knowledge")))
    hat = (DetectedObject("hat", (0, 0, 1, 1)),)
    pair = Pair(("hi",), caption="a man", objects=hat, context=(ContextText("knowledge", "Ann sings"),))
    builder = GraphBuilder(Schema([], nodes=["token", "context"]), [Tokens(tiny_encoder().tokenizer), words])

    def read(pair: Pair) -> list[str]:
        assert words.prepare(words.prepare(pair)) == words.prepare(pair)
        return [node["label"] for node in words.describe(builder(pair))]

    assert read(pair) == ["a", "man", "hat", "Ann", "sings"]
    assert read(pair.without_context()) == []
    assert read(replace(pair, context=(ContextText("caption", ""),))) == ["hat"]


def test_missing_sources() -> None:
    caption = Pair(("x",), caption="a man")
    named = ContextWords(TOKENIZER, Context(sources=("caption", "ocr")))
    assert named.missing(caption) == ("context (ocr)",)
    assert named.missing(Pair(("x",))) == ("context (caption)", "context (ocr)")
    assert ContextWords(TOKENIZER, Context()).missing(caption) == ()
    assert ContextWords(TOKENIZER, Context()).missing(Pair(("x",), caption=" ")) == ("context",)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"budget": 7}, "at most 7 word pieces; right is 8 or more"),
        ({"sources": ()}, "right are one or more"),
        ({"sources": ("ocr", "ocr")}, "each once"),
    ],
)
def test_wrong_settings(settings_: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Context(**settings_)


@pytest.mark.parametrize("wrong", [{"weight": -1.0}, {"text_weight": -0.1}, {"temperature": 0.0}])
def test_wrong_agreement(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="weights are 0 or more, the temperature is more than 0"):
        Agreement(**wrong)
