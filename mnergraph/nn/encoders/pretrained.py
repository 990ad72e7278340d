"""Token features from a pretrained text encoder, for posts of any length."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import LABEL_PIECE, PIECE, PIECES
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.state import GraphState

Pooling = Literal["first", "mean", "sum"]


class Sequences(NamedTuple):
    """The sequences that the encoder takes, and where each piece's state is in them.

    Attributes:
        layout: the layout of the sequences.
        rows: the piece at every position, ``[positions]``; None where the sequences are the posts.
        source: the position from which every piece gets its state, ``[pieces]``; None where the sequences are the
            posts.
    """

    layout: Layout
    rows: Tensor | None = None
    source: Tensor | None = None


class TextEncoder(nn.Module):
    """Features of tokens from a Hugging Face encoder: the states of their pieces, pooled.

    A post longer than the encoder's maximum length is split into overlapping windows, and each piece gets its state
    from the window with most context around it. Pieces of objects' labels (`LABEL_PIECE`), if any, get the encoder's
    input embeddings, in its hidden size where these are narrower (ELECTRA, ALBERT).

    Args:
        backbone: the encoder and its tokenizer.
        pooling: how a token's features are computed from its pieces: ``"first"``, ``"mean"`` or ``"sum"``.
        dropout: dropout rate of the features.
        sentence: whether ``sentence`` nodes get the state of the first special piece ([CLS]), that of the first
            window for a long post.

    Raises:
        ValueError: for word vectors (see `WordEncoder`), an unknown pooling, ``sentence`` with an encoder that has no
            special piece before the words.
    """

    def __init__(
        self,
        backbone: TextEncoderModel,
        *,
        pooling: Pooling = "first",
        dropout: float = 0.0,
        sentence: bool = False,
    ) -> None:
        super().__init__()
        if not isinstance(backbone, TextEncoderModel):
            raise ValueError(
                f"this model needs a Hugging Face encoder, and {backbone.name!r} are word vectors; give "
                "an encoder by name or folder (load_encoder, tiny_encoder)"
            )
        if pooling not in ("first", "mean", "sum"):
            raise ValueError(f"pooling is first, mean or sum, not {pooling!r}")
        if sentence and not backbone.tokenizer.start:
            raise ValueError(f"{backbone.name} has no special piece before the words, whose state sentence=True needs")
        self.sentence, self.backbone = sentence, backbone
        self.model, self.pooling, self.dropout = backbone.model, pooling, nn.Dropout(dropout)
        self.padding, self.max_length = backbone.tokenizer.padding, backbone.max_length
        self.num_special = len(backbone.tokenizer.start), len(backbone.tokenizer.end)

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with ``token`` (and ``sentence``, label piece) features, ``[nodes, hidden_size]``."""
        ids, layout = graph.data[PIECE].input_ids, graph.layouts[PIECE]
        label_ids = graph.data[LABEL_PIECE].input_ids if LABEL_PIECE in graph.layouts else None
        # [pieces, hidden_size], [label pieces, hidden_size]
        pieces, label_pieces = self._states(graph, ids, label_ids)
        pooled = self._pool(graph, pieces, self.pooling)
        graph = graph.update(token=self.dropout(pooled))
        if self.sentence:
            graph = graph.update(sentence=self.dropout(pieces[layout.ptr[:-1]]))
        return graph if label_pieces is None else graph.update(**{LABEL_PIECE: label_pieces})

    @staticmethod
    def _pool(graph: GraphState, pieces: Tensor, pooling: Pooling) -> Tensor:
        """``[pieces, features]`` -> ``[tokens, features]``."""
        piece, token = graph.data[PIECES].edge_index
        if pooling == "first":
            is_first = torch.ones_like(token, dtype=torch.bool)
            is_first[1:] = token[1:] != token[:-1]
            return pieces[piece[is_first]]
        return segment_sum(pieces[piece], token, graph.layouts["token"].num_nodes, mean=pooling == "mean")

    def _states(self, graph: GraphState, ids: Tensor, label_ids: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Return the states of the pieces and the embeddings of the labels' pieces, ``[pieces, hidden_size]``."""
        layout = graph.layouts[PIECE]
        if layout.max_nodes <= self.max_length:
            return self._encode(graph, ids, Sequences(layout), label_ids)
        rows, window_layout, source = self._windows(layout)
        sequences = Sequences(window_layout, rows, source)
        states, label_pieces = self._encode(graph, ids[rows], sequences, label_ids)
        return states[source], label_pieces

    def _encode(
        self, graph: GraphState, ids: Tensor, sequences: Sequences, label_ids: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Return the states at the positions of the sequences, and the embeddings of the labels' pieces."""
        layout = sequences.layout
        padded, mask = layout.to_dense(ids, self.padding), layout.mask.long()
        if label_ids is None:
            return self._run(graph, sequences, input_ids=padded, attention_mask=mask), None
        # one look-up for both, as the gradient of each is as large as the embedding table
        both = self.model.get_input_embeddings()(torch.cat([padded.flatten(), label_ids]))
        embedded, label_pieces = both.split([padded.numel(), label_ids.numel()])
        projection = self.backbone.embedding_projection
        if projection is not None:
            label_pieces = projection(label_pieces)
        embedded = embedded.view(*padded.shape, -1)
        return self._run(graph, sequences, inputs_embeds=embedded, attention_mask=mask), label_pieces

    def _run(self, graph: GraphState, sequences: Sequences, **inputs: Any) -> Tensor:
        """Return the model's states at the positions of the sequences, ``[positions, hidden_size]``."""
        return sequences.layout.to_flat(self.model(**inputs).last_hidden_state)

    def _windows(self, layout: Layout) -> tuple[Tensor, Layout, Tensor]:
        """Return overlapping windows over the posts' pieces, each between the special pieces of its post.

        Returns:
            the row of the piece at every position of the windows, ``[window pieces]``; the layout of the windows; and
            the row in the windows from which each piece gets its state, ``[pieces]``.
        """
        before, after = self.num_special
        rows: list[list[int]] = []
        # (window, position in it) of every piece
        sources: list[tuple[int, int]] = []
        for begin, end in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
            if begin == end:
                rows.append([])
                continue
            start_pieces, end_pieces = range(begin, begin + before), range(end - after, end)
            body = range(begin + before, end - after)
            spans = windows(len(body), self.max_length - before - after)
            first, last = len(rows), len(rows) + len(spans) - 1
            rows.extend([*start_pieces, *body[span.start : span.stop], *end_pieces] for span in spans)
            sources.extend((first, position) for position in range(before))
            for piece, window in enumerate(best_windows(len(body), spans)):
                sources.append((first + window, before + piece - spans[window].start))
            sources.extend((last, before + len(spans[-1]) + position) for position in range(after))
        device = layout.ptr.device
        window_layout = Layout(torch.tensor([0, *map(len, rows)], device=device).cumsum(0))
        window, position = torch.tensor(sources, device=device).t()
        pieces = torch.tensor([piece for row in rows for piece in row], device=device)
        return pieces, window_layout, window_layout.ptr[window] + position
