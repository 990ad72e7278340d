"""Attention of tokens to context words within a text encoder, for recording."""

from __future__ import annotations

from copy import deepcopy
from itertools import chain

import torch
from torch import Tensor
from transformers import PreTrainedModel

from mnergraph.graph.layout import Edges, Layout


@torch.no_grad()
def encoder_attention(model: PreTrainedModel, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
    """Return the attention weights of every layer, ``[sequences, heads, positions, positions]``, without dropout.

    They are computed by a copy of the model with the same parameters, as the fast attention of transformers returns no
    weights and setting another would change the model for other threads.

    Raises:
        ValueError: for a model that returns none.
    """
    shared = {id(part): part for part in chain(model.parameters(), model.buffers())}
    copied = deepcopy(model, shared).eval()
    copied.set_attn_implementation("eager")
    weights: tuple[Tensor, ...] | None = copied(**inputs, output_attentions=True).attentions
    if not weights:
        raise ValueError(f"{type(model).__name__} returns no attention weights, so that they can't be recorded")
    return weights


def word_weights(
    attention: Tensor, edges: Edges, token_rows: Tensor, sequences: Layout, pieces: Layout, part_of: Tensor
) -> Tensor:
    """Return the attention of tokens to words, the sum over the words' pieces, ``[edges, heads]``.

    Args:
        attention: ``[sequences, heads, positions, positions]``.
        edges: all pairs of a context word and a token of its post.
        token_rows: the row of every token's first piece among all positions of the sequences, ``[tokens]``.
        sequences: layout of the sequences, each of which ends with the context of its post.
        pieces: layout of the pieces of context.
        part_of: piece above word, ``[2, pieces of words]``.
    """
    piece, word = part_of
    # pairs of a piece of a word and a token
    pairs = Edges(pieces, edges.dst).index
    words = edges.src.ptr.new_full((pieces.num_nodes,), -1).index_copy(0, piece, word)
    pairs = pairs[:, words[pairs[0]] >= 0]
    rows = token_rows[pairs[1]]
    sequence, post = sequences.graph_index[rows], pieces.graph_index[pairs[0]]
    column = sequences.counts[sequence] - pieces.counts[post] + pieces.position[pairs[0]]
    # [pairs, heads]
    values = attention[sequence, :, sequences.position[rows], column]
    graph, token = edges.dst.graph_index[pairs[1]], edges.dst.position[pairs[1]]
    shape = (edges.dst.num_graphs, edges.dst.max_nodes, edges.src.max_nodes, values.shape[-1])
    dense = values.new_zeros(shape)
    dense.index_put_((graph, token, edges.src.position[words[pairs[0]]]), values, accumulate=True)
    return dense[edges.dense_index]
