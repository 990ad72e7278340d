"""Character encoders: convolution and LSTM against loops, one word at a time."""

from __future__ import annotations

import pytest
import torch
from fakes import awkward_posts, layout, make_builder
from torch import Tensor

from mnergraph.features.text.word_embeddings import Alphabet
from mnergraph.graph import Layout, Schema, collate
from mnergraph.nn.encoders.characters import CHARACTER_FEATURES, CharacterCNN, CharacterEncoder, CharacterLSTM
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

READS, WIDTH = 4, 5
LETTERS = Alphabet("abcdefghijklmnopqrstuvwxyzPH#")
WORDS = [layout(3, 1, 60), layout(1), layout(2, 2, 2, 7)]


def graph_of(posts: list[Pair]) -> GraphState:
    return GraphState.from_batch(collate(make_builder(Schema(), characters=LETTERS).build_all(posts)), Schema())


@pytest.mark.parametrize("window", [1, 3, 5])
@pytest.mark.parametrize("words", WORDS, ids=lambda words: str(words.counts.tolist()))
def test_convolution_against_the_equation(words: Layout, window: int) -> None:
    torch.manual_seed(0)
    module = CharacterCNN(READS, WIDTH, kernel_size=window)
    characters = torch.randn(words.num_nodes, READS)
    found = module(characters, words)
    assert found.shape == (words.num_graphs, module.output_size)
    kernel, bias = module.convolution.weight, module.convolution.bias
    for row, word in zip(found, characters.split(words.counts.tolist()), strict=True):
        windows = []
        for t in range(len(word)):
            total = bias.clone()
            for k in range(-(window // 2), window // 2 + 1):
                if 0 <= t + k < len(word):
                    total = total + kernel[:, :, k + window // 2] @ word[t + k]
            windows.append(torch.tanh(total))
        torch.testing.assert_close(row, torch.stack(windows).amax(0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("words", WORDS, ids=lambda words: str(words.counts.tolist()))
def test_lstm_against_its_last_states_in_both_directions(words: Layout) -> None:
    torch.manual_seed(0)
    module = CharacterLSTM(READS, WIDTH)
    characters = torch.randn(words.num_nodes, READS)
    found = module(characters, words)
    assert found.shape == (words.num_graphs, module.output_size) == (words.num_graphs, 2 * WIDTH)
    for row, word in zip(found, characters.split(words.counts.tolist()), strict=True):
        states, _ = module.lstm.lstm(word[None])
        expected = torch.cat([states[0, -1, :WIDTH], states[0, 0, WIDTH:]])
        torch.testing.assert_close(row, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("reader", [CharacterCNN(READS, WIDTH), CharacterLSTM(READS, WIDTH)])
def test_features_of_a_word_do_not_depend_on_its_position(reader: CharacterCNN | CharacterLSTM) -> None:
    layer = CharacterEncoder(LETTERS, reader)
    posts = [*awkward_posts(), Pair(("x" * 300, "", "Paris", "\u200b"))]
    found = layer(graph_of(posts)).x[CHARACTER_FEATURES]
    words = [word for post in posts for word in post.words]
    assert found.shape == (len(words), layer.output_size)
    first: dict[str, Tensor] = {}
    for word, row in zip(words, found, strict=True):
        alone = layer(graph_of([Pair((word,))])).x[CHARACTER_FEATURES][0]
        torch.testing.assert_close(row, alone, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(row, first.setdefault(word, row), atol=1e-5, rtol=1e-5)
    assert len({tuple(row.tolist()) for row in first.values()}) > 5
    found.sin().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in layer.parameters())


def test_dropout_of_the_convolution_is_on_characters() -> None:
    module, words = CharacterCNN(READS, WIDTH, dropout=0.9), layout(3, 4)
    characters = torch.randn(7, READS)
    torch.manual_seed(0)
    found = module(characters, words)
    torch.manual_seed(0)
    dropped = torch.nn.functional.dropout(characters, 0.9)
    assert torch.equal(found, module.eval()(dropped, words))


def test_even_window_is_refused() -> None:
    with pytest.raises(ValueError, match="kernel_size must be odd and positive, not 4"):
        CharacterCNN(kernel_size=4)
