"""LSTMs over the tokens of every post: states of tokens, or the last state as the sentence's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from mnergraph.graph.layout import Layout
from mnergraph.nn.state import GraphState


class PackedLSTM(nn.Module):
    """Long short-term memory over every sequence of a layout (Hochreiter and Schmidhuber, 1997).

    i, f, o = sigmoid(W x_t + U h_t-1 + b) each,  c_t = f * c_t-1 + i * tanh(W_c x_t + U_c h_t-1 + b_c),
    h_t = o * tanh(c_t)

    Biases are initialized to 0, those of f to 1 (Jozefowicz et al., 2015; Ma and Hovy, 2016, section 3.1).

    Args:
        input_size: features of a node.
        hidden_size: features of a state, of each direction.
        bidirectional: whether there is a backward LSTM, too, whose states are concatenated.
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

        Features of the forward direction come first; the last state of the backward direction is that of the first
        node. An empty sequence counts as a single node of zeros.
        """
        counts = layout.counts.clamp(min=1).cpu()
        packed = pack_padded_sequence(layout.to_dense(x), counts, batch_first=True, enforce_sorted=False)
        states, (last, _) = self.lstm(packed)
        # [sequences, max nodes, output_size]
        padded, _ = pad_packed_sequence(states, batch_first=True, total_length=layout.max_nodes)
        return layout.to_flat(padded), last.transpose(0, 1).flatten(1)


class WordLSTM(nn.Module):
    """Bidirectional LSTM over the tokens of every post (Huang et al., 2015).

    Args:
        input_size: features of a token, summed over ``in_keys``.
        hidden_size: features of a state, of each direction.
        in_keys: names of the tokens' features, which are concatenated.
        dropout: dropout rate of the inputs and of the states (Ma and Hovy, 2016, section 3.2).
    """

    def __init__(
        self, input_size: int, hidden_size: int, *, in_keys: Sequence[str] = ("token",), dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.lstm, self.in_keys, self.dropout = PackedLSTM(input_size, hidden_size), tuple(in_keys), nn.Dropout(dropout)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the states as ``token`` features, ``[tokens, 2 * hidden_size]``."""
        inputs = self.dropout(torch.cat([graph.x[key] for key in self.in_keys], -1))
        states, _ = self.lstm(inputs, graph.layouts["token"])
        return graph.update(token=self.dropout(states))


class SentenceLSTM(nn.Module):
    """Features of ``sentence`` nodes: the last state of a forward LSTM over the tokens.

    Args:
        input_size: features of a token.
        hidden_size: features of a state.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.lstm = PackedLSTM(input_size, hidden_size, bidirectional=False)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with ``sentence`` features, ``[posts, hidden_size]``."""
        _, last = self.lstm(graph.x["token"], graph.layouts["token"])
        return graph.update(sentence=last)


class BroadcastToTokens(nn.Module):
    """Copy the features of the ``sentence`` node to every token of its post.

    Args:
        in_key: name of the sentences' features, ``[posts, hidden_size]``.
        out_key: name of the tokens' features, ``[tokens, hidden_size]``.
    """

    def __init__(self, *, in_key: str = "sentence", out_key: str) -> None:
        super().__init__()
        self.in_key, self.out_key = in_key, out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the copies under ``out_key``."""
        copies = graph.x[self.in_key][graph.layouts["token"].graph_index]
        return graph.with_features(self.out_key, copies, nodes_of="token")
