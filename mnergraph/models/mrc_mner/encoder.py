"""The text encoder over queries and posts: one sequence for each entity type and post."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_pieces import best_windows, windows
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.context import CONTEXT, CONTEXT_PIECE, CONTEXT_PIECES, CONTEXT_TO_TOKENS
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import LABEL_PIECE, PIECE, PIECES
from mnergraph.models.mrc_mner.queries import QUERY, QUERY_PIECE, QUERY_PIECES, QUERY_TO_TOKENS
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.encoders.context_attention import encoder_attention, word_weights
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.layers.node_types import merged_layout
from mnergraph.nn.state import GraphState

#: Name of the tokens' features by query, ``[tokens, queries of a post, hidden_size]``.
TOKEN_BY_QUERY = "token by query"
#: Name of the states of [CLS], features of queries.
CLS_STATE = "[CLS] state"


class Windows(NamedTuple):
    """Windows over the posts' words, at least one of each post, posts in order.

    Attributes:
        post: the post of every window, ``[windows]``.
        begin: its first piece, counted from the first piece of the post's words, ``[windows]``.
        length: its number of pieces, ``[windows]``.
        of_piece: the window from which every piece of the posts gets its state, ``[pieces]``.
        first: the first window of every post, ``[posts]``.
    """

    post: Tensor
    begin: Tensor
    length: Tensor
    of_piece: Tensor
    first: Tensor


class QuerySequences(NamedTuple):
    """The encoder's sequences, and where states are in them.

    Attributes:
        layout: the layout of the sequences.
        ids: the piece at every position, ``[positions]``.
        segments: its segment, ``[positions]``; None for an encoder without.
        of_tokens: the position of every token's first piece for every query, ``[tokens, queries of a post]``.
        of_queries: the position of every query's [CLS], ``[queries]``.
        query_words: the layout of the pieces of the queries' words, by query.
        of_query_words: their positions.
        reads_context: whether the posts' context is in the sequences.
    """

    layout: Layout
    ids: Tensor
    segments: Tensor | None
    of_tokens: Tensor
    of_queries: Tensor
    query_words: Layout
    of_query_words: Tensor
    reads_context: bool


class QueryEncoder(TextEncoder):
    """Features of tokens for every query, and of queries, from sequences [CLS] query [SEP] post [SEP].

    All sequences of a batch, one per query and post, are encoded at once. A token's feature for a query is the state of
    its first piece. A query's feature is the mean of its words' pieces, and under `CLS_STATE` the state of [CLS]. Where
    the graph has context words (`mnergraph.graph.context`), they follow the post. Of an encoder that has several
    segments, the query is the first and the rest the second. Where the relation from queries to tokens has no edges,
    sequences have no query, and the mean is zeros.

    A post too long for the encoder beside the longest query is split into windows, as `TextEncoder` does; each follows
    the query, whose features are those of the first. Tokens are words.

    Args:
        backbone: the encoder and its tokenizer.
        dropout: dropout rate of the features.

    Raises:
        ValueError: for word vectors, or an encoder that has no special piece before the words.
    """

    def __init__(self, backbone: TextEncoderModel, *, dropout: float = 0.0) -> None:
        super().__init__(backbone, dropout=dropout, sentence=True)

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses where the graph has them."""
        return [*super().relations, QUERY_TO_TOKENS]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with features of tokens by query, ``[tokens, queries of a post, hidden_size]``.

        And with those of ``query`` nodes, twice, and label pieces, ``[nodes, hidden_size]``.
        """
        label_ids = graph.data[LABEL_PIECE].input_ids if LABEL_PIECE in graph.layouts else None
        sequences = self._query_sequences(graph)
        states, label_pieces = self._encode(sequences.ids, sequences.layout, label_ids, sequences.segments)
        if sequences.reads_context and self.context_share.is_recorded:
            self._record_by_query(graph, sequences)
        words = sequences.query_words
        mean = segment_sum(states[sequences.of_query_words], words.graph_index, words.num_graphs, mean=True)
        graph = graph.update(**{QUERY: self.dropout(mean)})
        graph = graph.with_features(CLS_STATE, self.dropout(states[sequences.of_queries]), nodes_of=QUERY)
        graph = graph.with_features(TOKEN_BY_QUERY, self.dropout(states[sequences.of_tokens]), nodes_of="token")
        return graph if label_pieces is None else graph.update(**{LABEL_PIECE: label_pieces})

    def _query_sequences(self, graph: GraphState) -> QuerySequences:
        """Return one sequence per window and query, those of a window one after another."""
        pieces = graph.layouts[PIECE]
        # a recorder gets an entry for every layer, also where no post of the batch has context
        has_context = CONTEXT in graph.layouts and (
            graph.layouts[CONTEXT_PIECE].num_nodes > 0 or self.context_share.is_recorded
        )
        reads_context = has_context and self._is_joined(graph)
        context = graph.layouts[CONTEXT_PIECE] if reads_context else Layout(torch.zeros_like(pieces.ptr))
        queries, query_rows = self._query_pieces(graph)
        spans = self._windows_of_posts(pieces, context, queries.max_nodes)

        each = torch.arange(queries.num_graphs // graph.num_graphs, device=pieces.ptr.device)
        post = spans.post.repeat_interleave(len(each))
        query = (spans.post[:, None] * len(each) + each).flatten()
        begin, length = (x.repeat_interleave(len(each)) for x in (spans.begin, spans.length))
        before, after = self.num_special
        parts = [
            _ranges(queries.ptr[query], queries.counts[query]),
            _ranges(pieces.ptr[post] + before + begin, length),
            _ranges(pieces.ptr[post + 1] - after, torch.full_like(post, after)),
            _ranges(context.ptr[post], context.counts[post]),
        ]
        layout, places = merged_layout([part for part, _ in parts])
        sources = [graph.data[QUERY_PIECE].input_ids[query_rows], *[graph.data[PIECE].input_ids] * 2]
        sources.append(graph.data[CONTEXT_PIECE].input_ids if reads_context else sources[-1])
        ids = _merged([ids[rows] for ids, (_, rows) in zip(sources, parts, strict=True)], places)
        segments = None
        if self.has_segments:
            of_part = (0, 1, 1, 1) if self._is_joined(graph, QUERY_TO_TOKENS) else (0, 0, 0, 1)
            segments = _merged([torch.full_like(rows, s) for s, (_, rows) in zip(of_part, parts, strict=True)], places)

        # the first piece of every token, its window, and its place in the window
        piece, token = graph.data[PIECES].edge_index
        piece = piece[F.pad(token[1:] != token[:-1], (1, 0), value=True)]
        window = spans.of_piece[piece]
        place = pieces.position[piece] - before - spans.begin[window]
        sequence = window[:, None] * len(each) + each
        # every query in the first window of its post
        of_queries = layout.ptr[(spans.first[:, None] * len(each) + each).flatten()]
        special = before + len(self.backbone.tokenizer.between)
        return QuerySequences(
            layout,
            ids,
            segments,
            layout.ptr[sequence] + queries.counts[query[sequence]] + place[:, None],
            of_queries,
            *_ranges(of_queries + before, (queries.counts - special).clamp(min=0)),
            reads_context,
        )

    def _record_by_query(self, graph: GraphState, sequences: QuerySequences) -> None:
        """Pass the attention of tokens to context words in every layer to a recorder, with heads for every query."""
        inputs = {
            "input_ids": sequences.layout.to_dense(sequences.ids, self.padding),
            **self._masks(sequences.layout, sequences.segments),
        }
        edges, pieces = graph.edges[CONTEXT_TO_TOKENS], graph.layouts[CONTEXT_PIECE]
        part_of = graph.data[CONTEXT_PIECES].edge_index
        for attention in encoder_attention(self.model, inputs):
            by_query = [
                word_weights(attention, edges, rows, sequences.layout, pieces, part_of)
                for rows in sequences.of_tokens.t()
            ]
            self.context_share(torch.cat(by_query, -1), edges)

    def _query_pieces(self, graph: GraphState) -> tuple[Layout, Tensor]:
        """Return the layout of the queries' pieces, by query, and their rows; without relation to tokens, of [CLS]."""
        owner = graph.data[QUERY_PIECES].edge_index[1]
        counts = owner.bincount(minlength=graph.layouts[QUERY].num_nodes)
        first = counts.cumsum(0) - counts
        return _ranges(
            first, counts if self._is_joined(graph, QUERY_TO_TOKENS) else torch.full_like(counts, self.num_special[0])
        )

    def _windows_of_posts(self, pieces: Layout, context: Layout, query_length: int) -> Windows:
        """Return one window per post, or several for posts that are too long beside the longest query."""
        before, after = self.num_special
        lengths = pieces.counts - before - after
        posts = torch.arange(pieces.num_graphs, device=lengths.device)
        if int((lengths + context.counts).max()) + after + query_length <= self.max_length:
            return Windows(posts, torch.zeros_like(lengths), lengths, pieces.graph_index, posts)
        post: list[int] = []
        begin: list[int] = []
        sizes: list[int] = []
        of_piece: list[int] = []
        first: list[int] = []
        for index, (length, more) in enumerate(zip(lengths.tolist(), context.counts.tolist(), strict=True)):
            spans = windows(length, self.max_length - query_length - after - more)
            first.append(len(post))
            of_piece += [first[-1]] * before
            of_piece += [first[-1] + window for window in best_windows(length, spans)]
            of_piece += [first[-1] + len(spans) - 1] * after
            post += [index] * len(spans)
            begin += [span.start for span in spans]
            sizes += [len(span) for span in spans]
        return Windows(*(torch.tensor(x, device=lengths.device) for x in (post, begin, sizes, of_piece, first)))


def _ranges(first: Tensor, counts: Tensor) -> tuple[Layout, Tensor]:
    """Return the layout of ranges of rows, one per sequence, and the rows, one range after another."""
    layout = Layout(F.pad(counts.cumsum(0), (1, 0)))
    return layout, first[layout.graph_index] + layout.position


def _merged(parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Return the values of all parts, each at its place."""
    values = torch.cat(list(parts))
    return torch.empty_like(values).index_copy(0, torch.cat(list(places)), values)
