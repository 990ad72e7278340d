"""LSTMs over the nodes of every sentence: their states, or the last one as what the sentence says."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mnergraph.graph.layout import Layout
from mnergraph.nn.state import GraphState


class PackedLSTM(nn.Module):
    """A long short-term memory over every sequence of a layout (Hochreiter and Schmidhuber, 1997).

    i, f, o = sigmoid(W x_t + U h_t-1 + b) each,  c_t = f * c_t-1 + i * tanh(W_c x_t + U_c h_t-1 + b_c),
    h_t = o * tanh(c_t)

    Biases begin as 0 and those of f as 1 (Jozefowicz et al., 2015; Ma and Hovy, 2016, section 3.1).

    Args:
        input_size: of the nodes.
        hidden_size: of the states, of each direction.
        bidirectional: whether another one reads backwards; their states are concatenated.
    """

    def __init__(self, input_size: int, hidden_size: int, *, bidirectional: bool = True) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, hidden_size, batch_first=True, bidirectional=bidirectional)
        self.output_size = 2 * hidden_size if bidirectional else hidden_size
        for name, weight in self.lstm.named_parameters():
            if name.startswith("bias"):
                nn.init.zeros_(weight)
                if name.startswith("bias_ih"):
                    nn.init.ones_(weight.data[hidden_size : 2 * hidden_size])

    def forward(self, x: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """``[nodes, input_size]`` -> states ``[nodes, output_size]`` and last states ``[sequences, output_size]``.

        The backward reading stands behind the forward one; its last state is that of the first node. A
        sequence without nodes counts as a single zero.
        """
        counts = layout.counts.clamp(min=1).cpu()
        packed = pack_padded_sequence(layout.to_dense(x), counts, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        # [sequences, slots, hidden]
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=layout.max_nodes)
        return layout.to_flat(padded), last.transpose(0, 1).flatten(1)


class WordLSTM(nn.Module):
    """The words' states by an LSTM in both directions over their sentence (Huang et al., 2015).

    Args:
        input_size: of what it reads of a word, all together.
        hidden_size: of the states, of each direction.
        in_keys: names of the words' features that are concatenated.
        dropout: on what it reads and on the states (Ma and Hovy, 2016, section 3.2).
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, in_keys: Sequence[str] = ("token",), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm, self.in_keys, self.dropout = PackedLSTM(input_size, hidden_size), tuple(in_keys), nn.Dropout(dropout)

    def forward(self, graph: GraphState) -> GraphState:
        words = self.dropout(torch.cat([graph.x[name] for name in self.in_keys], -1))
        states, _ = self.lstm(words, graph.layouts["token"])
        return graph.update(token=self.dropout(states))


class SentenceLSTM(nn.Module):
    """The ``sentence`` node: the last state of an LSTM that reads the words from left to right.

    Args:
        input_size: of the words.
        hidden_size: of the states, and so of the node.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = PackedLSTM(input_size, hidden_size, bidirectional=False)

    def forward(self, graph: GraphState) -> GraphState:
        _, last = self.lstm(graph.x["token"], graph.layouts["token"])
        return graph.update(sentence=last)


class BroadcastToTokens(nn.Module):
    """Gives every word what its ``sentence`` node holds.

    Args:
        in_key: name of the sentences' features.
        out_key: under which name the words' are kept.
    """

    def __init__(self, *, in_key: str = "sentence", out_key: str) -> None:
        super().__init__()
        self.in_key, self.out_key = in_key, out_key

    def forward(self, graph: GraphState) -> GraphState:
        told = graph.x[self.in_key][graph.layouts["token"].graph_index]
        return graph.with_features(self.out_key, told, nodes_of="token")
