"""Character encoders: features of words from their characters, by a convolution or an LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.features.text.word_embeddings import Alphabet
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import CHARACTERS
from mnergraph.nn.layers.lstm import PackedLSTM
from mnergraph.nn.state import GraphState

#: Name of the tokens' features that `CharacterEncoder` computes.
CHARACTER_FEATURES = "character_features"


class CharacterEncoder(nn.Module):
    """Features of words from embeddings of their characters, kept as `CHARACTER_FEATURES`.

    Args:
        alphabet: maps characters to rows of the embedding table.
        encoder: `CharacterCNN` or `CharacterLSTM`: ``[characters, encoder.char_dim]`` and the layout of the words'
            characters to ``[words, encoder.output_size]``.
    """

    def __init__(self, alphabet: Alphabet, encoder: CharacterCNN | CharacterLSTM) -> None:
        super().__init__()
        self.embedding, self.encoder = nn.Embedding(len(alphabet), encoder.char_dim), encoder
        bound = (3 / encoder.char_dim) ** 0.5  # Ma and Hovy, 2016, section 3.1
        nn.init.uniform_(self.embedding.weight, -bound, bound)
        self.output_size = encoder.output_size

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the features, ``[tokens, output_size]``."""
        token = graph.data[CHARACTERS].edge_index[1]
        lengths = token.bincount(minlength=graph.layouts["token"].num_nodes)
        words = Layout(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        characters = self.embedding(graph.data["character"].input_ids)
        return graph.with_features(CHARACTER_FEATURES, self.encoder(characters, words), nodes_of="token")


class CharacterCNN(nn.Module):
    """Convolution over a word's characters and maximum over positions (Ma and Hovy, 2016, section 2.1).

    out = max over positions t of tanh(sum over k of W_k x_t+k + b), with zeros before the first and after the last x

    Args:
        char_dim: features of a character.
        num_filters: features of the result.
        kernel_size: number of characters in a window, odd.
        dropout: dropout rate of the characters' embeddings.

    Raises:
        ValueError: for a kernel size that is not odd and positive.
    """

    def __init__(
        self, char_dim: int = 30, num_filters: int = 30, *, kernel_size: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd and positive, not {kernel_size}")
        self.convolution = nn.Conv1d(char_dim, num_filters, kernel_size)
        self.dropout = nn.Dropout(dropout)
        self.char_dim, self.output_size, self.padding = char_dim, num_filters, kernel_size // 2

    def forward(self, characters: Tensor, words: Layout) -> Tensor:
        """``[characters, char_dim]`` and the layout of words' characters -> ``[words, num_filters]``."""
        # all words in one row with zeros between them, so that words are not padded to the longest one
        position = torch.arange(words.num_nodes, device=characters.device) + self.padding * words.graph_index
        row = characters.new_zeros(words.num_nodes + self.padding * (words.num_graphs + 1), self.char_dim)
        row = row.index_copy(0, position + self.padding, self.dropout(characters))
        # [1, num_filters, positions] -> [characters, num_filters]
        filtered = self.convolution(row.t()[None])[0].t().index_select(0, position)
        zeros = filtered.new_zeros(words.num_graphs, self.output_size)
        word = words.graph_index[:, None].expand_as(filtered)
        # tanh is monotonic, so it may follow the maximum
        return torch.tanh(zeros.scatter_reduce(0, word, filtered, "amax", include_self=False))


class CharacterLSTM(nn.Module):
    """The last states of both directions of an LSTM over a word's characters (Lample et al., 2016, section 4.1).

    Args:
        char_dim: features of a character.
        hidden_size: features of a state, of each direction.
    """

    def __init__(self, char_dim: int = 25, hidden_size: int = 25) -> None:
        super().__init__()
        self.lstm = PackedLSTM(char_dim, hidden_size)
        self.char_dim, self.output_size = char_dim, self.lstm.output_size

    def forward(self, characters: Tensor, words: Layout) -> Tensor:
        """``[characters, char_dim]`` and the layout of words' characters -> ``[words, 2 * hidden_size]``."""
        return self.lstm(characters, words)[1]
