"""What a word's spelling tells of it: its characters by convolution or by LSTM."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.features.text.word_embeddings import Alphabet
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import CHARACTERS
from mnergraph.nn.layers.lstm import PackedLSTM
from mnergraph.nn.state import GraphState


class CharacterEncoder(nn.Module):
    """Every word's characters, embedded and read by a module, as the words' feature ``spelling``.

    Args:
        alphabet: the characters that there are.
        encoder: `CharacterCNN` or `CharacterLSTM`: ``[characters, encoder.char_dim]`` and the layout of the words'
            characters to ``[words, encoder.output_size]``.
    """

    def __init__(self, alphabet: Alphabet, encoder: CharacterCNN | CharacterLSTM) -> None:
        super().__init__()
        self.embedding, self.encoder = nn.Embedding(len(alphabet), encoder.char_dim), encoder
        reach = (3 / encoder.char_dim) ** 0.5  # Ma and Hovy, 2016, section 3.1
        nn.init.uniform_(self.embedding.weight, -reach, reach)
        self.output_size = encoder.output_size

    def forward(self, graph: GraphState) -> GraphState:
        owner = graph.data[CHARACTERS].edge_index[1]
        lengths = owner.bincount(minlength=graph.layouts["token"].num_nodes)
        words = Layout(torch.cat([lengths.new_zeros(1), lengths.cumsum(0)]))
        characters = self.embedding(graph.data["character"].input_ids)
        return graph.with_features("spelling", self.encoder(characters, words), nodes_of="token")


class CharacterCNN(nn.Module):
    """A convolution over a word's characters and the maximum over places (Ma and Hovy, 2016, section 2.1).

    out = max over places t of tanh(sum over k of W_k x_t+k + b), zeros before the first and behind the last x

    Args:
        char_dim: features of a character.
        num_filters: features of the result.
        kernel_size: characters under a filter, an odd number.
        dropout: on the characters.
    """

    def __init__(
        self, char_dim: int = 30, num_filters: int = 30, *, kernel_size: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"a window has a character in its middle, so it is odd, not {kernel_size}")
        self.convolution = nn.Conv1d(char_dim, num_filters, kernel_size)
        self.dropout = nn.Dropout(dropout)
        self.char_dim, self.output_size, self.rim = char_dim, num_filters, kernel_size // 2

    def forward(self, characters: Tensor, words: Layout) -> Tensor:
        """``[characters, char_dim]`` and the layout of words' characters -> ``[words, num_filters]``."""
        # all words in one row, zeros between them: no word is padded to the longest
        place = torch.arange(words.num_nodes, device=characters.device) + self.rim * words.graph_index
        row = characters.new_zeros(words.num_nodes + self.rim * (words.num_graphs + 1), self.char_dim)
        row = row.index_copy(0, place + self.rim, self.dropout(characters))
        # [1, filters, places] -> [characters, filters]
        seen = self.convolution(row.t()[None])[0].t().index_select(0, place)
        nothing = seen.new_zeros(words.num_graphs, self.output_size)
        whose = words.graph_index[:, None].expand_as(seen)
        # tanh rises, so it may follow the maximum
        return torch.tanh(nothing.scatter_reduce(0, whose, seen, "amax", include_self=False))


class CharacterLSTM(nn.Module):
    """Both last states of an LSTM that reads a word in both directions (Lample et al., 2016, section 4.1).

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
