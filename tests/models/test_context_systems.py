"""Captions, ITA and PGIM against their equations: one sequence, what they train on and how they decode."""

from __future__ import annotations

import itertools

import pytest
import torch
from torch import Tensor

from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph import collate
from mnergraph.graph.context import Agreement, Context
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, ITA, PGIM, Captions, Tagger
from mnergraph.models.captions import EmissionDecodedCRF
from mnergraph.models.ita import WordDropout
from mnergraph.nn.heads.crf import CRF
from mnergraph.pair import ContextText, DetectedObject, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
BOX = (0.0, 0.0, 9.0, 9.0)
POSTS = [
    Pair(
        ("Bob", "saw", "Paris"),
        ("B-PER", "O", "B-LOC"),
        caption="a man in rain",
        size=(9, 9),
        objects=(DetectedObject("person", BOX), DetectedObject("tower", BOX, 0.5)),
        context=(ContextText("ocr", "SALE"), ContextText("knowledge", "Paris is a city"), ContextText("own", "never")),
    ),
    Pair(("rain",), ("O",)),
]


def model(kind: type[Tagger], **options: object) -> Tagger:
    torch.manual_seed(0)
    encoder = tiny_encoder(["bob", "saw", "paris", "man", "a"], hidden_size=16, num_layers=1, heads=2)
    return kind(encoder, LABELS, **options).eval().double()


def sequence(tagger: Tagger, pair: Pair, texts: list[str]) -> Tensor:
    """Emissions of the post's words, the texts behind it in one sequence, ``[words, labels]``."""
    tokenizer = tagger.encoder.tokenizer
    ids, firsts = [*tokenizer.start], []
    for pieces in tokenizer(pair.words):
        firsts.append(len(ids))
        ids += pieces
    ids += tokenizer.end
    after: list[int] = []
    for text in texts:
        after += [*itertools.chain.from_iterable(tokenizer(text.replace(",", " ,").split())), *tokenizer.end]
    kinds = torch.tensor([[0] * len(ids) + [1] * len(after)])
    states = tagger.encoder.model(input_ids=torch.tensor([ids + after]), token_type_ids=kinds).last_hidden_state[0]
    linear = tagger.layers[-1].linear
    return states[firsts] @ linear.weight.T + linear.bias


SOURCES = {
    Captions: ["a man in rain"],
    PGIM: ["Paris is a city"],
    ITA: ["person, tower", "a man in rain", "SALE"],
}


@pytest.mark.parametrize("kind", SOURCES)
def test_emissions_are_those_of_one_sequence(kind: type[Tagger]) -> None:
    tagger = model(kind)
    graph = tagger(collate(tagger.builder.build_all(POSTS)))
    for pair, texts, found in zip(POSTS, (SOURCES[kind], []), graph.emissions["tags"].split([3, 1]), strict=True):
        torch.testing.assert_close(found, sequence(tagger, pair, texts), atol=1e-10, rtol=1e-10)


def nll(crf: CRF, emissions: Tensor, tags: tuple[str, ...]) -> Tensor:
    gold = torch.tensor([[LABELS.index(tag) for tag in tags]])
    return -crf(emissions[None], gold, torch.ones_like(gold, dtype=torch.bool))[0]


def test_itas_loss() -> None:
    tagger = model(ITA)
    crf = tagger.tagging_head.decoder
    losses = []
    for pair, texts in zip(POSTS, (SOURCES[ITA], []), strict=True):
        views = [sequence(tagger, pair, texts), sequence(tagger, pair, [])]
        mask = torch.ones(1, len(pair.words), dtype=torch.bool)
        q, p = ((crf.log_marginals(view[None], mask)[0] / 2).log_softmax(-1) for view in views)
        divergence = (q.exp() * (q - p)).sum() if texts else 0.0
        assert pair.labels is not None
        losses.append(0.5 * nll(crf, views[0], pair.labels) + 0.5 * divergence + nll(crf, views[1], pair.labels))
    found = tagger.loss(tagger(collate(tagger.builder.build_all(POSTS))))
    torch.testing.assert_close(found, torch.stack(losses).mean(), atol=1e-9, rtol=1e-9)


def test_without_context_ita_pays_the_post_alone() -> None:
    tagger = model(ITA)
    bare = [pair.without_image().without_context() for pair in POSTS]
    graph = tagger(collate(tagger.builder.build_all(bare)))
    expected = 1.5 * tagger.tagging_head.loss(graph).mean()
    torch.testing.assert_close(tagger.loss(graph), expected)


def test_captions_decoded_from_emissions() -> None:
    plain, released = model(Captions), model(Captions, decoding="emissions")
    released.load_state_dict(plain.state_dict())
    with torch.no_grad():
        for tagger in (plain, released):
            tagger.tagging_head.decoder.transitions.copy_(-9 * torch.eye(len(LABELS)))
    graph = released(collate(released.builder.build_all(POSTS)))
    best = [LABELS.tags[label] for label in graph.emissions["tags"].argmax(-1).tolist()]
    assert [*itertools.chain.from_iterable(released.decode_tags(graph))] == best
    assert plain.decode_tags(graph) != released.decode_tags(graph)
    torch.testing.assert_close(plain.loss(graph), released.loss(graph))
    empty = EmissionDecodedCRF(LABELS.tags).decode(torch.zeros(2, 0, len(LABELS)), torch.zeros(2, 0, dtype=torch.bool))
    assert empty.shape == (2, 0)
    with pytest.raises(ValueError, match="decoding is viterbi or emissions, not 'greedy'"):
        model(Captions, decoding="greedy")


@pytest.mark.parametrize("kind", [Captions, PGIM])
def test_without_texts_they_are_bert_crf(kind: type[Tagger]) -> None:
    tagger, plain = model(kind), model(BERTCRF)
    plain.load_state_dict(tagger.state_dict())
    bare = [pair.without_image().without_context() for pair in POSTS]
    assert tagger.predict(bare) == plain.predict(bare)


def test_other_sources_and_none() -> None:
    assert model(PGIM, context=Context(sources=("own",))).predict(POSTS)
    assert model(ITA, context=Context(agreement=Agreement(text_weight=0.0))).predict(POSTS)
    assert "context" not in model(ITA, context=None).schema.nodes


def test_word_dropout() -> None:
    torch.manual_seed(0)
    layer, x = WordDropout(0.25), torch.rand(4000, 3) + 1
    dropped = layer(x)
    gone = (dropped == 0).all(1)
    assert torch.equal(dropped[~gone], x[~gone]), "not scaled"
    assert 0.22 < gone.float().mean() < 0.28
    assert torch.equal(layer.eval()(x), x)
    for wrong in (-0.1, 1.0):
        with pytest.raises(ValueError, match="right is from 0 to below 1"):
            WordDropout(wrong)
