"""The baselines over word vectors against their papers' models, word by word and character by character."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch
from fakes import LABELS
from torch import Tensor, nn

from mnergraph.features.text.word_embeddings import WordVectors, random_vectors
from mnergraph.graph import collate
from mnergraph.models import BERTCRF, BiLSTMCRF, CNNBiLSTMCRF, HBiLSTMCRF, Tagger
from mnergraph.nn.encoders.characters import CharacterCNN, CharacterEncoder
from mnergraph.pair import Pair

POSTS = [
    Pair(("Bob", "SAW", "Paris", "in", "2017", "zzz"), ("B-PER", "O", "B-LOC", "O", "O", "O"), "a"),
    Pair(("bob", "\u200b"), ("B-PER", "O"), "b"),
    Pair(("saw",), ("O",), "c"),
    Pair(("in",) * 128, ("O",) * 128, "d"),
]
SMALL: dict[type[Tagger], dict[str, Any]] = {
    BiLSTMCRF: {},
    CNNBiLSTMCRF: {"char_dim": 4, "filters": 3},
    HBiLSTMCRF: {"char_dim": 4, "char_hidden_size": 2},
}
KINDS = pytest.mark.parametrize("kind", SMALL, ids=lambda kind: kind.__name__)


def encoder() -> WordVectors:
    torch.manual_seed(0)
    return random_vectors(["bob", "saw", "paris", "in", "0000", "B"], 6, min_count=1)


def run(lstm: nn.LSTM, x: Tensor) -> Tensor:
    """Both directions of one sequence, without padding or packing, ``[1, nodes, 2 hidden]``."""
    return lstm(x[None])[0]


def encode_characters(layer: CharacterEncoder, model: Tagger, word: str) -> Tensor:
    """Character features of a word, one window or one direction at a time."""
    alphabet = model.encoder.characters.characters
    x = layer.embedding.weight[[alphabet.find(character) + 1 for character in word]]
    if isinstance(layer.encoder, CharacterCNN):
        kernel, bias = layer.encoder.convolution.weight, layer.encoder.convolution.bias
        padded = torch.cat([torch.zeros(1, x.shape[1]), x, torch.zeros(1, x.shape[1])])
        windows = [torch.einsum("fck,kc->f", kernel, padded[t : t + 3]) for t in range(len(x))]
        return torch.stack([torch.tanh(window + bias) for window in windows]).amax(0)
    states = run(layer.encoder.lstm.lstm, x)[0]
    size = states.shape[1] // 2
    return torch.cat([states[-1, :size], states[0, size:]])


def words_of(model: Tagger, words: tuple[str, ...]) -> Tensor:
    """The word LSTM's states."""
    rows = {word: row for row, word in enumerate(model.encoder.tokenizer.words, 1)}
    table, found = model.layers[0].model.learned, []
    for word in words:
        plain = re.sub(r"\d", "0", word.lower())
        vector = table[rows.get(plain, 0)]
        if len(model.encoder.characters) and isinstance(model.layers[1], CharacterEncoder):
            vector = torch.cat([vector, encode_characters(model.layers[1], model, word)])
        found.append(vector)
    lstm = model.layers[1 if model.builder.node_types["token"].characters is None else 2].lstm.lstm
    return run(lstm, torch.stack(found))[0]


@KINDS
def test_emissions(kind: type[Tagger]) -> None:
    model = kind(encoder(), LABELS, hidden_size=5, **SMALL[kind]).eval()
    graph = model(collate(model.builder.build_all(POSTS)))
    found = graph.emissions["tags"].split([len(post.words) for post in POSTS])
    for post, scores in zip(POSTS, found, strict=True):
        states = words_of(model, post.words)
        if kind is HBiLSTMCRF:
            hidden = model.layers[3].types["token"][0]
            states = torch.tanh(states @ hidden.weight.T + hidden.bias)
        expected = states @ model.layers[-1].linear.weight.T + model.layers[-1].linear.bias
        torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


@KINDS
def test_characters_distinguish_unknown_words(kind: type[Tagger]) -> None:
    model = kind(encoder(), LABELS, hidden_size=5, **SMALL[kind]).eval()
    one, other = (model(model.builder(Pair((word,)))).emissions["tags"] for word in ("Ann", "bar"))
    assert torch.equal(one, other) == (kind is BiLSTMCRF)
    assert ("character" in model.builder(POSTS[0]).node_types) == (kind is not BiLSTMCRF)


@KINDS
def test_widths_of_the_papers(kind: type[Tagger]) -> None:
    model = kind(encoder(), LABELS)
    hidden = 100 if kind is HBiLSTMCRF else 200
    assert model.hparams()["hidden_size"] == hidden
    words = model.layers[1 if kind is BiLSTMCRF else 2].lstm
    assert words.output_size == 2 * hidden
    assert {part.p for part in model.modules() if isinstance(part, nn.Dropout)} == {0.5}
    if kind is not BiLSTMCRF:
        characters = {CNNBiLSTMCRF: (30, 30), HBiLSTMCRF: (25, 50)}[kind]
        assert (model.layers[1].encoder.char_dim, model.layers[1].output_size) == characters
        assert words.lstm.input_size == 6 + characters[1]


def test_the_word_vectors_are_the_encoders_parameters() -> None:
    model = HBiLSTMCRF(encoder(), LABELS)
    assert model.encoder_parameters() == [model.layers[0].model.learned]
    with pytest.raises(ValueError, match="this model needs a Hugging Face encoder"):
        BERTCRF(encoder(), LABELS)
