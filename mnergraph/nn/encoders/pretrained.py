"""Token features from a pretrained text encoder, for posts of any length."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.context import CONTEXT, CONTEXT_PIECE, CONTEXT_PIECES, CONTEXT_TO_TOKENS
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import LABEL_PIECE, PIECE, PIECES
from mnergraph.nn.bfloat16 import in_use
from mnergraph.nn.conv.attention import AttentionShare
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.encoders.context_attention import encoder_attention, word_weights
from mnergraph.nn.layers.node_types import merged_layout
from mnergraph.nn.state import GraphState

Pooling = Literal["first", "mean", "sum"]


class Sequences(NamedTuple):
    """The sequences that the encoder takes, and where each piece's state is in them.

    Attributes:
        layout: the layout of the sequences.
        rows: the piece at every position, a row of the sentences' pieces followed by those of their context,
            ``[positions]``; None where the sequences are the sentences.
        source: the position from which every piece gets its state, ``[pieces]``, in the order of those rows; None
            where the sequences are the sentences.
    """

    layout: Layout
    rows: Tensor | None = None
    source: Tensor | None = None


class TextEncoder(nn.Module):
    """Features of tokens from a Hugging Face encoder: the states of their pieces, pooled.

    Where the graph has context words (`mnergraph.graph.context`), they are encoded in one sequence with the sentence,
    after it, as the second segment of an encoder that has several. Where the relation from context to tokens has no
    edges, the sentence is encoded alone, and context words get zeros.

    A post longer than the encoder's maximum length is split into overlapping windows, all of which have the post's
    whole context, and each piece gets its state from the window with most of the sentence around it. Pieces of
    objects' labels (`LABEL_PIECE`), if any, get the encoder's input embeddings, in its hidden size where these are
    narrower (ELECTRA, ALBERT).

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
        self.has_segments = backbone.num_segments > 1
        self.context_share = AttentionShare()

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with features ``[nodes, hidden_size]``.

        They are those of ``token``, and, as far as there are such nodes, of ``sentence``, ``context`` and label pieces.
        """
        ids, layout = graph.data[PIECE].input_ids, graph.layouts[PIECE]
        label_ids = graph.data[LABEL_PIECE].input_ids if LABEL_PIECE in graph.layouts else None
        # a recorder gets an entry for every layer, also where no post of the batch has context
        has_context = CONTEXT in graph.layouts and (
            graph.layouts[CONTEXT_PIECE].num_nodes > 0 or self.context_share.is_recorded
        )
        reads_context = has_context and self._is_joined(graph)
        num_pieces = layout.num_nodes
        if reads_context:
            sequences = self._sequences(layout, graph.layouts[CONTEXT_PIECE])
            ids = torch.cat([ids, graph.data[CONTEXT_PIECE].input_ids])
        else:
            sequences = self._sequences(layout)
        segments = None
        if sequences.rows is not None:
            ids = ids[sequences.rows]
            # [positions], 1 for context
            segments = (sequences.rows >= num_pieces).long() if reads_context and self.has_segments else None
        # [positions, hidden_size], [label pieces, hidden_size]
        further = self._further_inputs(graph, sequences)
        states, label_pieces = self._encode(ids, sequences.layout, label_ids, segments, **further)
        pieces = states if sequences.source is None else states.index_select(0, sequences.source)
        graph = graph.update(token=self.dropout(self._pooled(graph, pieces, PIECES, self.pooling)))
        if CONTEXT in graph.layouts:
            context = pieces.new_zeros(graph.layouts[CONTEXT].num_nodes, pieces.shape[-1])
            if reads_context:
                context = self._pooled(graph, pieces[num_pieces:], CONTEXT_PIECES, self.pooling)
                if self.context_share.is_recorded:
                    self._record(graph, ids, sequences, segments)
            graph = graph.update(context=context)
        if self.sentence:
            graph = graph.update(sentence=self.dropout(pieces[layout.ptr[:-1]]))
        return graph if label_pieces is None else graph.update(**{LABEL_PIECE: label_pieces})

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses where the graph has them."""
        return [CONTEXT_TO_TOKENS]

    @staticmethod
    def _is_joined(graph: GraphState, relation: EdgeType = CONTEXT_TO_TOKENS) -> bool:
        """Whether the nodes of a relation within the encoder reach the tokens.

        Raises:
            ValueError: when some edges are missing and others are not: the encoder has none or all.
        """
        edges = graph.edges[relation]
        if not edges.complete and 0 < edges.index.shape[1] < edges.num_possible_edges:
            raise ValueError(f"a text encoder joins {relation[0]} with all tokens of its post or none; {relation}")
        return edges.complete or edges.index.shape[1] > 0

    @staticmethod
    def _pooled(graph: GraphState, pieces: Tensor, part_of: EdgeType, pooling: Pooling) -> Tensor:
        """Return the features of nodes from those of their pieces, ``[nodes, hidden_size]``."""
        piece, node = graph.data[part_of].edge_index
        if pooling == "first":
            # without a mask, whose number of rows depends on the data: `torch.export` has none of it
            first = piece.new_full((graph.layouts[part_of[2]].num_nodes,), pieces.shape[0])
            return pieces[first.scatter_reduce(0, node, piece, "amin")]
        return segment_sum(pieces[piece], node, graph.layouts[part_of[2]].num_nodes, mean=pooling == "mean")

    def _record(self, graph: GraphState, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> None:
        """Compute the attention of tokens to context words in every layer, for a recorder."""
        inputs = {
            "input_ids": sequences.layout.to_dense(ids, self.padding),
            **self._masks(sequences.layout, segments),
        }
        for attention in encoder_attention(self.model, inputs):
            self._record_context(graph, sequences, attention)

    def _record_context(self, graph: GraphState, sequences: Sequences, attention: Tensor) -> None:
        """Pass the attention of tokens to context words in one layer to a recorder.

        Args:
            graph: the graph.
            sequences: the sequences.
            attention: ``[sequences, heads, positions, positions]``.
        """
        assert sequences.source is not None
        piece, token = graph.data[PIECES].edge_index
        is_first = torch.ones_like(token, dtype=torch.bool)
        is_first[1:] = token[1:] != token[:-1]
        rows, edges = sequences.source[piece[is_first]], graph.edges[CONTEXT_TO_TOKENS]
        layouts, part_of = (sequences.layout, graph.layouts[CONTEXT_PIECE]), graph.data[CONTEXT_PIECES].edge_index
        self.context_share(word_weights(attention, edges, rows, *layouts, part_of), edges)

    @staticmethod
    def _masks(layout: Layout, segments: Tensor | None) -> dict[str, Tensor]:
        """Return the attention mask of sequences and, if given, their segments, padded."""
        masks = {"attention_mask": layout.mask.long()}
        return masks if segments is None else masks | {"token_type_ids": layout.to_dense(segments)}

    def _sequences(self, layout: Layout, context: Layout | None = None) -> Sequences:
        """Return the encoder's sequences of sentences and their context, in windows if a sequence is too long."""
        if context is None and layout.max_nodes <= self.max_length:
            return Sequences(layout)
        context = context or Layout(torch.zeros_like(layout.ptr))
        joined, (rows, context_rows) = merged_layout([layout, context])
        if joined.max_nodes > self.max_length:
            return self._windows(layout, context)
        source = torch.cat([rows, context_rows])
        return Sequences(joined, source.argsort(), source)

    def _further_inputs(self, graph: GraphState, sequences: Sequences) -> dict[str, Any]:
        """Return what the model is called with besides pieces, mask and segments; for subclasses."""
        return {}

    def _encode(
        self, ids: Tensor, layout: Layout, label_ids: Tensor | None, segments: Tensor | None = None, **further: Any
    ) -> tuple[Tensor, Tensor | None]:
        """Return the states of the pieces and the embeddings of the labels' pieces, ``[pieces, hidden_size]``."""
        padded = layout.to_dense(ids, self.padding)
        given, model = {**self._masks(layout, segments), **further}, in_use(self.model)
        if label_ids is None:
            return layout.to_flat(model(input_ids=padded, **given).last_hidden_state), None
        # one look-up for both, as the gradient of each is as large as the embedding table
        both = model.get_input_embeddings()(torch.cat([padded.flatten(), label_ids]))
        embedded, label_pieces = both.split([padded.numel(), label_ids.numel()])
        projection = self.backbone.embedding_projection
        if projection is not None:
            label_pieces = projection(label_pieces)
        states = model(inputs_embeds=embedded.view(*padded.shape, -1), **given).last_hidden_state
        return layout.to_flat(states), label_pieces.to(states.dtype)

    def _windows(self, layout: Layout, context: Layout) -> Sequences:
        """Return overlapping windows over the posts' pieces, each between its special pieces and before its context."""
        before, after = self.num_special
        rows: list[list[int]] = []
        # (window, position in it) of every piece of sentences, and of context
        sources: list[tuple[int, int]] = []
        context_sources: list[tuple[int, int]] = []
        bounds = zip(layout.ptr[:-1].tolist(), layout.ptr[1:].tolist(), strict=True)
        contexts = zip(context.ptr[:-1].tolist(), context.counts.tolist(), strict=True)
        for (begin, end), (context_begin, num_context) in zip(bounds, contexts, strict=True):
            if begin == end:
                rows.append([])
                continue
            start_pieces, end_pieces = range(begin, begin + before), range(end - after, end)
            body = range(begin + before, end - after)
            texts = range(layout.num_nodes + context_begin, layout.num_nodes + context_begin + num_context)
            spans = windows(len(body), self.max_length - before - after - num_context)
            first, last = len(rows), len(rows) + len(spans) - 1
            rows.extend([*start_pieces, *body[span.start : span.stop], *end_pieces, *texts] for span in spans)
            sources.extend((first, position) for position in range(before))
            for piece, window in enumerate(best_windows(len(body), spans)):
                sources.append((first + window, before + piece - spans[window].start))
            sources.extend((last, before + len(spans[-1]) + position) for position in range(after))
            context_sources.extend(
                (first, before + len(spans[0]) + after + position) for position in range(num_context)
            )
        device = layout.ptr.device
        window_layout = Layout(torch.tensor([0, *map(len, rows)], device=device).cumsum(0))
        window, position = torch.tensor([*sources, *context_sources], device=device).t()
        pieces = torch.tensor([piece for row in rows for piece in row], device=device)
        return Sequences(window_layout, pieces, window_layout.ptr[window] + position)
