"""Attention to context within the encoder: recorded, in networkx, and by occlusion."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mnergraph.explain import attention_graph, occlusion, record_attention
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.graph.context import CONTEXT, CONTEXT_TO_TOKENS, Context
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, UMGF
from mnergraph.pair import ContextText, DetectedObject, Pair

LAYERS, HEADS = 2, 4
TEXTS = (ContextText("caption", "a man"), ContextText("knowledge", "Bob is a singer from Paris"))
POSTS = [
    Pair(("Bob", "saw", "unheard-of", "Paris"), context=TEXTS, objects=(DetectedObject("hat"),)),
    Pair(("rain",), objects=(DetectedObject("hat"),)),
    Pair(("Bob", "saw", "Ann") * 5, context=TEXTS[1:]),
]


def model(kind: type = BERTCRF, max_length: int = 512):  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    encoder = tiny_encoder(["bob", "saw", "man"], hidden_size=16, num_layers=LAYERS, heads=HEADS, max_length=max_length)
    options = {} if kind is BERTCRF else {"hidden_size": 16, "num_heads": 2}
    found = kind(encoder, LabelSet.from_types(["PER", "LOC"]), context=Context(budget=24), **options).eval()
    with torch.no_grad():
        for weight in encoder.model.parameters():
            weight.mul_(4 if weight.dim() > 1 else 1)
    return found


def plain(tagger, pair: Pair) -> torch.Tensor:  # type: ignore[no-untyped-def]
    """Attention of every token's first piece to every context word, ``[layers, heads, tokens, words]``, of one post."""
    data = tagger.builder(pair)
    ids = torch.cat([data["piece"].input_ids, data["context_piece"].input_ids])[None]
    kinds = torch.tensor([[0] * data["piece"].num_nodes + [1] * data["context_piece"].num_nodes])
    backbone = tagger.encoder.model
    backbone.set_attn_implementation("eager")
    attention = backbone(input_ids=ids, token_type_ids=kinds, output_attentions=True).attentions
    backbone.set_attn_implementation("sdpa")
    piece, token = data["piece", "part_of", "token"].edge_index.tolist()
    part, word = data["context_piece", "part_of", CONTEXT].edge_index.tolist()
    found = torch.zeros(LAYERS, HEADS, len(pair.words), data[CONTEXT].num_nodes)
    for layer in range(LAYERS):
        for t in range(len(pair.words)):
            row = piece[token.index(t)]
            for p, w in zip(part, word, strict=True):
                found[layer, :, t, w] += attention[layer][0, :, row, data["piece"].num_nodes + p]
    return found


def test_weights_against_a_loop() -> None:
    tagger = model()
    with record_attention(tagger) as record:
        recorded = tagger.predict(POSTS)
    assert recorded == tagger.predict(POSTS), "recording changes no prediction"
    assert tagger.encoder.model.config._attn_implementation == "sdpa"
    for pair, post in zip(POSTS, record.posts, strict=True):
        weights = [entry for entry in post.weights if entry.relation == CONTEXT_TO_TOKENS]
        assert len(weights) == LAYERS
        expected = plain(tagger, pair) if pair.context else None
        for layer, entry in enumerate(weights):
            if expected is None:
                assert entry.weights.numel() == 0
                continue
            found = torch.zeros_like(expected[layer])
            word, token = entry.index
            found[:, token, word] = entry.weights.T
            torch.testing.assert_close(found, expected[layer], atol=1e-5, rtol=1e-4)


def test_windows_each_with_their_context() -> None:
    """A long sentence's tokens attend to the context of their own window; shares stay below 1."""
    tagger = model(max_length=50)
    long = Pair(("Bob", "saw", "Ann") * 20, context=TEXTS)
    with record_attention(tagger) as record:
        tagger.predict([long, POSTS[1]])
    entry = next(entry for entry in record.posts[0].weights if entry.relation == CONTEXT_TO_TOKENS)
    sums = torch.zeros(60, HEADS).index_add(0, entry.index[1], entry.weights)
    assert ((sums > 0) & (sums < 1)).all()


@pytest.mark.parametrize("kind", [BERTCRF, UMGF])
def test_networkx(kind: type) -> None:
    graph = attention_graph(model(kind), POSTS[0])
    words = [data for _, data in graph.nodes(data=True) if data["type"] == CONTEXT]
    assert [word["label"] for word in words] == ["a", "man", "Bob", "is", "a", "singer", "from", "Paris"]
    assert [word["source"] for word in words] == ["caption"] * 2 + ["knowledge"] * 6
    edge = graph.edges["context 2", "token 0", "informs"]
    assert len(edge["attention"]) == LAYERS
    assert all(len(heads) == HEADS for heads in edge["attention"].values())


def test_without_recording_nothing_is_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: object) -> None:
        raise AssertionError("weights are computed though nothing records them")

    monkeypatch.setattr("mnergraph.nn.encoders.pretrained.encoder_attention", fail)
    model().predict(POSTS)


def test_occlusion_of_the_relation_and_of_each_text() -> None:
    tagger = model()
    found = occlusion(tagger, POSTS[0])
    effects = {(effect.what, effect.removed): effect.change for effect in found.effects}
    spans = [[(entity.start, entity.end, entity.type) for entity in found.entities]]
    for what, removed, changed in (
        ("relation", CONTEXT_TO_TOKENS, POSTS[0].without_context()),
        ("context", 0, replace(POSTS[0], context=(ContextText("caption", ""), TEXTS[1]))),
        ("context", 1, replace(POSTS[0], context=(TEXTS[0], ContextText("knowledge", "")))),
    ):
        graph = tagger.forward_examples([changed])
        scores = tagger.span_probabilities(graph, spans, tagger.decode_tags(graph))[0]
        expected = [score - entity.score for score, entity in zip(scores, found.entities, strict=True)]
        assert effects[what, removed] == pytest.approx(expected, abs=1e-6)
    assert "| the knowledge |" in found.table()
    assert "context" not in {effect.what for effect in occlusion(tagger, POSTS[1]).effects}
    captioned = occlusion(tagger, replace(POSTS[1], caption="a man"), what=["context"])
    assert [effect.removed for effect in captioned.effects] == [0], "the caption is context, too"
