"""Words by a pretrained encoder, sentences of any length."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import PIECES
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.state import GraphState

Pooling = Literal["first", "mean", "sum"]


class TextEncoder(nn.Module):
    """Words by a Hugging Face encoder: its pieces' states, pooled by word.

    A sentence longer than the encoder reads is split into overlapping windows, and each piece takes its state
    from the window that shows it most context; no word goes without. Where the batch holds objects' labels in
    pieces, they get the encoder's input embeddings.

    Args:
        backbone: the encoder and its tokenizer.
        pooling: which of a word's pieces speak for it: the ``first``, their ``mean`` or their ``sum``.
        dropout: on the words' states.
        sentence: whether the state of the first special piece ([CLS]) is kept, for ``sentence`` nodes; a
            sentence in several windows has it from the first.

    Raises:
        ValueError: for word vectors, which `WordEncoder` reads.
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
                f"this model reads a Hugging Face encoder, and {backbone.name!r} are word vectors; right is "
                "an encoder by name or folder (load_encoder, tiny_encoder)"
            )
        if pooling not in ("first", "mean", "sum"):
            raise ValueError(f"pooling is first, mean or sum, not {pooling!r}")
        if sentence and not backbone.tokenizer.start:
            raise ValueError(f"{backbone.name} has no special piece before the words to stand for a sentence")
        self.sentence = sentence
        self.model, self.pooling, self.dropout = backbone.model, pooling, nn.Dropout(dropout)
        self.padding, self.max_length = backbone.tokenizer.padding, backbone.max_length
        self.rims = len(backbone.tokenizer.start), len(backbone.tokenizer.end)

    def forward(self, graph: GraphState) -> GraphState:
        ids, layout = graph.data["piece"].input_ids, graph.layouts["piece"]
        labels = graph.data["label_piece"].input_ids if "label_piece" in graph.layouts else None
        # [pieces, width], [label pieces, width]
        pieces, named = self._states(ids, layout, labels)
        source, word = graph.data[PIECES].edge_index
        words = graph.layouts["token"].num_nodes
        if self.pooling == "first":
            first = torch.ones_like(word, dtype=torch.bool)
            first[1:] = word[1:] != word[:-1]
            pooled = pieces[source[first]]
        else:
            pooled = segment_sum(pieces[source], word, words, mean=self.pooling == "mean")
        graph = graph.update(token=self.dropout(pooled))
        if self.sentence:
            graph = graph.update(sentence=self.dropout(pieces[layout.ptr[:-1]]))
        return graph if named is None else graph.update(label_piece=named)

    def _states(self, ids: Tensor, layout: Layout, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """What `_encode` says, of sentences of any length."""
        if layout.max_nodes <= self.max_length:
            return self._encode(ids, layout, labels)
        rows, split, read = self._windows(layout)
        states, named = self._encode(ids[rows], split, labels)
        return states[read], named

    def _encode(self, ids: Tensor, layout: Layout, labels: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """States of the pieces and input embeddings of the labels' pieces."""
        padded, mask = layout.to_dense(ids, self.padding), layout.mask.long()
        if labels is None:
            return layout.to_flat(self.model(input_ids=padded, attention_mask=mask).last_hidden_state), None
        # one look-up for both, for each has a gradient as large as the whole table
        both = self.model.get_input_embeddings()(torch.cat([padded.flatten(), labels]))
        embedded, named = both.split([padded.numel(), labels.numel()])
        states = self.model(inputs_embeds=embedded.view(*padded.shape, -1), attention_mask=mask)
        return layout.to_flat(states.last_hidden_state), named

    def _windows(self, layout: Layout) -> tuple[Tensor, Layout, Tensor]:
        """Every window as a sentence of its own, between the special pieces of its sentence.

        Returns:
            which piece stands in every place of the windows, their layout, and where each piece is read off.
        """
        before, after = self.rims
        rows: list[list[int]] = []
        read: list[tuple[int, int]] = []
        for begin, end in zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True):
            if begin == end:
                rows.append([])
                continue
            head, tail = range(begin, begin + before), range(end - after, end)
            body = range(begin + before, end - after)
            spans = windows(len(body), self.max_length - before - after)
            first, last = len(rows), len(rows) + len(spans) - 1
            rows.extend([*head, *body[span.start : span.stop], *tail] for span in spans)
            read.extend((first, place) for place in range(before))
            for piece, w in enumerate(best_windows(len(body), spans)):
                read.append((first + w, before + piece - spans[w].start))
            read.extend((last, before + len(spans[-1]) + place) for place in range(after))
        device = layout.ptr.device
        split = Layout(torch.tensor([0, *map(len, rows)], device=device).cumsum(0))
        row, place = torch.tensor(read, device=device).t()
        return torch.tensor([i for row in rows for i in row], device=device), split, split.ptr[row] + place
