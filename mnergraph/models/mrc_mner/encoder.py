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
from mnergraph.graph.context import CONTEXT, CONTEXT_PIECE
from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import LABEL_PIECE, PIECE, PIECES
from mnergraph.models.mrc_mner.queries import QUERY, QUERY_PIECE, QUERY_PIECES, QUERY_TO_TOKENS
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.layers.node_types import merged_layout
from mnergraph.nn.state import GraphState

#: Name of the tokens' features by query, ``[tokens, queries of a post, hidden_size]``.
TOKEN_BY_QUERY = "token by query"


class Windows(NamedTuple):
    """Windows over the posts' words, at least one of each post, posts in order.

    Attributes:
        post: the post of every window, ``[windows]``.
        begin: its first piece, counted from the first piece of the post's words, ``[windows]``.
        count: its number of pieces, ``[windows]``.
        of_piece: the window from which every piece of the posts gets its state, ``[pieces]``.
        first: the first window of every post, ``[posts]``.
    """

    post: Tensor
    begin: Tensor
    count: Tensor
    of_piece: Tensor
    first: Tensor


class QueryEncoder(TextEncoder):
    """Features of tokens for every query, and of queries, from sequences [CLS] query [SEP] post [SEP].

    All sequences of a batch, one per query and post, are encoded at once. A token's feature for a query is the state of
    its first piece; a query's feature is the state of [CLS]. Where the graph has context words
    (`mnergraph.graph.context`), they follow the post. Of an encoder that has several segments, the query is the first
    and the rest the second. Where the relation from queries to tokens has no edges, sequences have no query.

    A post too long for the encoder beside the longest query is split into windows, as `TextEncoder` does; each follows
    the query, and the query's feature is that of the first. Tokens are words.

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
        """Return the graph with features of tokens by query, of ``query`` nodes and of label pieces.

        They are ``[tokens, queries of a post, hidden_size]``, ``[queries, hidden_size]`` and ``[label pieces,
        hidden_size]``.
        """
        pieces = graph.layouts[PIECE]
        has_context = CONTEXT in graph.layouts and graph.layouts[CONTEXT_PIECE].num_nodes > 0
        reads_context = has_context and self._is_joined(graph)
        context = graph.layouts[CONTEXT_PIECE] if reads_context else Layout(torch.zeros_like(pieces.ptr))
        query_rows, queries = self._query_pieces(graph)
        num_queries = queries.num_graphs // max(1, graph.num_graphs)
        spans = self._windows_of_posts(pieces, context, queries.max_nodes)

        # one sequence per window and query, the queries of a window one after another
        post = spans.post.repeat_interleave(num_queries)
        query = post * num_queries + torch.arange(num_queries, device=post.device).repeat(len(spans.post))
        begin, count = (x.repeat_interleave(num_queries) for x in (spans.begin, spans.count))
        before, after = self.num_special
        end = torch.full_like(post, after)
        parts = [
            _rows(queries.ptr[query], queries.counts[query]),
            _rows(pieces.ptr[post] + before + begin, count),
            _rows(pieces.ptr[post + 1] - after, end),
            _rows(context.ptr[post], context.counts[post]),
        ]
        layout, places = merged_layout([part for part, _ in parts])
        sources = [graph.data[QUERY_PIECE].input_ids[query_rows], *[graph.data[PIECE].input_ids] * 2]
        sources.append(graph.data[CONTEXT_PIECE].input_ids if reads_context else sources[-1][:0])
        ids = _merged([ids[rows] for ids, (_, rows) in zip(sources, parts, strict=True)], places)
        label_ids = graph.data[LABEL_PIECE].input_ids if LABEL_PIECE in graph.layouts else None
        states, label_pieces = self._encode(ids, layout, label_ids, self._segments(graph, parts, places))

        # [tokens]: the first piece of every token, its window and its place among the window's pieces
        piece, token = graph.data[PIECES].edge_index
        first_piece = piece[F.pad(token[1:] != token[:-1], (1, 0), value=True)] if len(token) else piece
        window = spans.of_piece[first_piece]
        place = pieces.position[first_piece] - before - spans.begin[window]
        sequence = window[:, None] * num_queries + torch.arange(num_queries, device=window.device)
        of_tokens = layout.ptr[sequence] + queries.counts[query[sequence]] + place[:, None]
        starts = spans.first[:, None] * num_queries + torch.arange(num_queries, device=window.device)
        graph = graph.update(**{QUERY: self.dropout(states[layout.ptr[starts.flatten()]])})
        graph = graph.with_features(TOKEN_BY_QUERY, self.dropout(states[of_tokens]), nodes_of="token")
        return graph if label_pieces is None else graph.update(**{LABEL_PIECE: label_pieces})

    def _query_pieces(self, graph: GraphState) -> tuple[Tensor, Layout]:
        """Return the rows of the queries' pieces and their layout by query; without a relation to tokens, of [CLS]."""
        owner = graph.data[QUERY_PIECES].edge_index[1]
        layout = Layout(F.pad(owner.bincount(minlength=graph.layouts[QUERY].num_nodes).cumsum(0), (1, 0)))
        if self._asks(graph):
            return torch.arange(layout.num_nodes, device=owner.device), layout
        counts = torch.full_like(layout.counts, self.num_special[0])
        starts, rows = _rows(layout.ptr[:-1], counts)
        return rows, starts

    @staticmethod
    def _asks(graph: GraphState) -> bool:
        """Whether queries reach the tokens.

        Raises:
            ValueError: when some edges are missing and others are not: the encoder has none or all.
        """
        edges = graph.edges[QUERY_TO_TOKENS]
        if not edges.complete and 0 < edges.index.shape[1] < edges.num_possible_edges:
            raise ValueError(f"a query is joined with all tokens of its post, or none is; {QUERY_TO_TOKENS}")
        return edges.complete or edges.index.shape[1] > 0

    def _segments(self, graph: GraphState, parts: Sequence[tuple[Layout, Tensor]], places: list[Tensor]) -> Tensor | None:
        if not self.has_segments:
            return None
        of_part = (0, 1, 1, 1) if self._asks(graph) else (0, 0, 0, 1)
        return _merged([torch.full_like(rows, s) for s, (_, rows) in zip(of_part, parts, strict=True)], places)

    def _windows_of_posts(self, pieces: Layout, context: Layout, query_length: int) -> Windows:
        """Return one window per post, or several for posts that are too long beside the longest query."""
        before, after = self.num_special
        lengths = pieces.counts - before - after
        posts = torch.arange(pieces.num_graphs, device=lengths.device)
        if int((lengths + context.counts).max()) + after + query_length <= self.max_length:
            return Windows(posts, torch.zeros_like(lengths), lengths, pieces.graph_index, posts)
        post: list[int] = []
        begin: list[int] = []
        count: list[int] = []
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
            count += [len(span) for span in spans]
        return Windows(*(torch.tensor(x, device=lengths.device) for x in (post, begin, count, of_piece, first)))


def _rows(first: Tensor, counts: Tensor) -> tuple[Layout, Tensor]:
    """Return the layout of ranges of rows, one per sequence, and the rows, one range after another."""
    layout = Layout(F.pad(counts.cumsum(0), (1, 0)))
    return layout, first[layout.graph_index] + layout.position


def _merged(parts: Sequence[Tensor], places: Sequence[Tensor]) -> Tensor:
    """Return the values of all parts, each at its place."""
    values = torch.cat(list(parts))
    return torch.empty_like(values).index_copy(0, torch.cat(list(places)), values)
