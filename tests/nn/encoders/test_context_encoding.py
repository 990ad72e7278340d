"""Context in one sequence with the sentence, against a loop over posts and windows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import LABELS, awkward_posts
from torch import Tensor
from transformers import RobertaConfig, RobertaModel

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph import Edges, GraphBuilder, collate
from mnergraph.graph.context import CONTEXT, CONTEXT_PIECE, CONTEXT_SCHEMA, CONTEXT_TO_TOKENS, Context, ContextWords
from mnergraph.graph.node_types import Tokens
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import ContextText, Pair

KNOWLEDGE = ContextText("knowledge", "Paris is where the rain falls on the man and on the band")


def backbone(max_length: int = 512) -> TextEncoderModel:
    torch.manual_seed(0)
    return tiny_encoder(["paris", "rain"], hidden_size=8, num_layers=2, heads=2, max_length=max_length)


def posts() -> list[Pair]:
    """Awkward posts, every second one with context of one or two texts."""
    found = []
    for index, pair in enumerate(awkward_posts()):
        texts = (ContextText("caption", "a man"), KNOWLEDGE)[index % 3 :] if index % 2 else ()
        found.append(replace(pair, context=texts))
    return found


def graph_of(pairs: list[Pair], encoder: TextEncoderModel, context: Context, unit: str = "words") -> GraphState:
    labels = LABELS if unit == "words" else None
    tokens = Tokens(encoder.tokenizer, labels, unit=unit)  # type: ignore[arg-type]
    builder = GraphBuilder(CONTEXT_SCHEMA, [tokens, ContextWords(encoder.tokenizer, context)])
    return GraphState.from_batch(collate(builder.build_all(pairs)), CONTEXT_SCHEMA)


def plain(encoder: TextEncoderModel, pair: Pair, context: Context) -> tuple[Tensor, Tensor]:
    """The first pieces' states of the sentence's words and of the context's, window by window, nothing padded."""
    start, end = list(encoder.tokenizer.start), list(encoder.tokenizer.end)
    split = encoder.tokenizer(pair.words)
    ids, owner = [p for word in split for p in word], [w for w, word in enumerate(split) for _ in word]
    segments = ContextWords(encoder.tokenizer, context).segments(pair)
    after: list[int] = []
    firsts: list[int] = []
    for index, segment in enumerate(segments):
        after += encoder.tokenizer.between if index else ()
        for pieces in segment.pieces:
            firsts.append(len(after))
            after += pieces
    after += end if segments else []
    spans = windows(len(ids), encoder.max_length - len(start) - len(end) - len(after))
    encoded = []
    for span in spans:
        sentence = start + ids[span.start : span.stop] + end
        row, kinds = torch.tensor([sentence + after]), torch.tensor([[0] * len(sentence) + [1] * len(after)])
        states = encoder.model(input_ids=row, token_type_ids=kinds).last_hidden_state[0]
        encoded.append((states[len(start) : len(sentence) - len(end)], states[len(sentence) :]))
    rows = [encoded[w][0][p - spans[w].start] for p, w in enumerate(best_windows(len(ids), spans))]
    words = torch.stack([rows[owner.index(word)] for word in range(len(pair.words))])
    return words, encoded[0][1][firsts]


@pytest.mark.parametrize(("max_length", "budget"), [(512, 40), (512, 8), (40, 20), (24, 12)])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_states_against_a_loop(max_length: int, budget: int, mode: str) -> None:
    """Short and long sentences mixed, with and without context; every window carries the context."""
    encoder, context = backbone(max_length), Context(budget=budget)
    encoder.model.eval()  # no dropout within the encoder
    layer = TextEncoder(encoder)
    layer.dropout.train(mode == "train")
    pairs = posts()
    state = layer(graph_of(pairs, encoder, context))
    counts = [state.layouts[node_type].counts.tolist() for node_type in ("token", CONTEXT)]
    for pair, words, texts in zip(
        pairs, state.x["token"].split(counts[0]), state.x[CONTEXT].split(counts[1]), strict=True
    ):
        expected = plain(encoder, pair, context)
        torch.testing.assert_close(words, expected[0], atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(texts, expected[1], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("max_length", [512, 24])
def test_without_context_nothing_changes(max_length: int) -> None:
    """No text, no edges, or no node type: the same states, exactly."""
    encoder = backbone(max_length)
    encoder.model.eval()
    layer, context = TextEncoder(encoder), Context(budget=12)
    bare = [pair.without_context() for pair in posts()]
    expected = layer(graph_of(bare, encoder, context)).x["token"]
    cut = graph_of(posts(), encoder, context).without_edges(CONTEXT_TO_TOKENS)
    found = layer(cut)
    assert torch.equal(found.x["token"], expected)
    assert not found.x[CONTEXT].any()
    assert len(found.x[CONTEXT]) == found.layouts[CONTEXT].num_nodes > 0


def test_alone_as_in_a_batch_and_context_reaches_the_tokens() -> None:
    encoder, context = backbone(40), Context(budget=20)
    encoder.model.eval()
    layer, pairs = TextEncoder(encoder), posts()
    together = layer(graph_of(pairs, encoder, context)).x["token"]
    alone = torch.cat([layer(graph_of([pair], encoder, context)).x["token"] for pair in pairs])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)
    without = layer(graph_of([pair.without_context() for pair in pairs], encoder, context)).x["token"]
    layout = graph_of(pairs, encoder, context).layouts["token"]
    changed = layout.to_dense((together - without).abs().amax(-1)).amax(1) > 1e-4
    assert changed.tolist() == [bool(pair.context) for pair in pairs]


def test_pieces_as_tokens() -> None:
    """The special pieces of the sentence stay tokens, those of the context are none."""
    encoder, context = backbone(), Context(budget=20)
    encoder.model.eval()
    state = TextEncoder(encoder)(graph_of(posts(), encoder, context, unit="pieces"))
    assert len(state.x["token"]) == state.layouts["token"].num_nodes == state.layouts["piece"].num_nodes
    assert state.layouts[CONTEXT_PIECE].num_nodes > 0


def test_an_encoder_without_segments() -> None:
    """RoBERTa's: one segment, and two end tokens between the texts of a pair."""
    inner = backbone().tokenizer
    config = RobertaConfig(
        vocab_size=len(inner.tokenizer),
        type_vocab_size=1,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
    )
    torch.manual_seed(0)
    encoder = TextEncoderModel(RobertaModel(config, add_pooling_layer=False).eval(), inner, "roberta")
    assert encoder.num_segments == 1
    layer, pair = TextEncoder(encoder), replace(posts()[0], context=(KNOWLEDGE,))
    graph = graph_of([pair], encoder, Context())
    ids = torch.cat([graph.data["piece"].input_ids, graph.data[CONTEXT_PIECE].input_ids])[None]
    expected = encoder.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
    owner = graph.data["piece", "part_of", "token"].edge_index
    firsts = [owner[0][owner[1] == word][0].item() for word in range(len(pair.words))]
    torch.testing.assert_close(layer(graph).x["token"], expected[firsts], atol=1e-6, rtol=1e-6)
    # </s></s>: the sentence has one of the two
    inner.between = (inner.end[0], inner.end[0])
    data = GraphBuilder(CONTEXT_SCHEMA, [Tokens(inner), ContextWords(inner, Context())])(pair)
    assert data[CONTEXT_PIECE].input_ids[0] == inner.end[0]
    assert data["context_piece", "part_of", CONTEXT].edge_index[0, 0] == 1


def test_part_of_the_edges_is_refused() -> None:
    encoder = backbone()
    graph = graph_of(posts(), encoder, Context())
    edges = graph.edges[CONTEXT_TO_TOKENS]
    some = graph.with_edges({CONTEXT_TO_TOKENS: Edges(edges.src, edges.dst, edges.index[:, :3])})
    with pytest.raises(ValueError, match="all tokens of its post or none"):
        TextEncoder(encoder)(some)
    # all of them, as an index, are as good as a complete relation
    every = graph.with_edges({CONTEXT_TO_TOKENS: Edges(edges.src, edges.dst, edges.index)})
    layer = TextEncoder(encoder).eval()
    assert torch.equal(layer(every).x["token"], layer(graph).x["token"])
