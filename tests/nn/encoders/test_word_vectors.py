"""Word states by either encoder, and errors for the wrong one."""

from __future__ import annotations

import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, make_builder

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.word_embeddings import WordVectors, random_vectors
from mnergraph.graph import Schema, collate
from mnergraph.graph.node_types import LABEL_PIECE
from mnergraph.models import BERTCRF, GVATT, BiLSTMCRF
from mnergraph.nn.encoders.characters import CharacterCNN
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.encoders.word_vectors import WordEncoder, bilstm_encoder, word_encoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


def vectors() -> WordVectors:
    torch.manual_seed(0)
    return random_vectors(["Paris", "in", "rain", "person", "é"], 6, min_count=1)


def graph_of(posts: list[Pair], encoder: WordVectors, schema: Schema = SCHEMA) -> GraphState:
    builder = make_builder(schema, tokenizer=encoder.tokenizer, characters=encoder.characters, region_dim=6)
    return GraphState.from_batch(collate(builder.build_all(posts)), schema)


def test_words_are_rows_of_the_table() -> None:
    encoder, posts = vectors(), awkward_posts()
    graph = WordEncoder(encoder)(graph_of(posts, encoder))
    rows = [row for post in posts for (row,) in encoder.tokenizer(post.words)]
    assert torch.equal(graph.x["token"], encoder.model.learned[rows])
    named = [row for post in posts for o in post.objects for (row,) in encoder.tokenizer(o.label.split())]
    assert torch.equal(graph.x[LABEL_PIECE], encoder.model.learned[named])
    objects = ObjectEncoder(5, region_dim=6, label_dim=encoder.hidden_size)(graph).x["object"]
    assert objects.shape == (sum(len(post.objects) for post in posts), 5)
    text = graph_of(posts, encoder, Schema())
    assert WordEncoder(encoder)(text).x.keys() == {"token"}


def test_word_states_by_lstm_or_pretrained_encoder() -> None:
    encoder = vectors()
    layers, width = word_encoder(encoder, 4, character_encoder=CharacterCNN(3, 5))
    graph = torch.nn.Sequential(*layers)(graph_of(awkward_posts(), encoder))
    assert graph.x["token"].shape[1] == width == 8
    assert layers[-1].dropout.p == 0.5
    backbone = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    layers, width = word_encoder(backbone, 4, character_encoder=CharacterCNN(3, 5))
    assert [type(layer) for layer in layers] == [TextEncoder]
    assert width == 16
    assert layers[0].dropout.p == 0.1
    assert word_encoder(backbone, 4, character_encoder=CharacterCNN(), dropout=0.3)[0][0].dropout.p == 0.3
    assert len(bilstm_encoder(encoder, 4)) == 2


def test_wrong_encoder_is_refused() -> None:
    backbone: TextEncoderModel = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    with pytest.raises(ValueError, match="this model needs word vectors, and 'tiny-random' is another text encoder"):
        BiLSTMCRF(backbone, LABELS)
    with pytest.raises(ValueError, match="needs a Hugging Face encoder, and 'random:6' are word vectors"):
        BERTCRF(vectors(), LABELS)
    assert GVATT(vectors(), LABELS, image_dim=5).encoder.name == "random:6"
    assert GVATT(backbone, LABELS, image_dim=5).encoder.name == "tiny-random"
