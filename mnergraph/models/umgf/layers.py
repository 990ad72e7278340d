"""The layer in which words and objects meet: within each modality, between them, then node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import nn

from mnergraph.graph.collate import EdgeType
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.layers.hetero import AddNorm, FeedForward, HeteroLayer, NodeTypeModule


def fusion_layer(
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    within: Sequence[EdgeType],
    between: tuple[EdgeType, EdgeType],
    maps: bool,
    bias: bool,
    combine: Callable[[], nn.Module],
    independent: bool,
    last: bool,
) -> Iterator[nn.Module]:
    """One multi-modal fusion layer (UMGF, eqs. 1-8).

    C_x, C_o = self-attention within each modality (eqs. 1-2);  R_x_i = C_x_i + sum over j of alpha_ij * C_o_j
    and R_o likewise (eqs. 3-6);  H_x, H_o = feed-forwards of these (eqs. 7-8).

    Where the paper is silent: residual and norm follow attention and feed-forward, which has a ReLU inside;
    nothing but the sum follows the gates; dropout is on attention weights and residuals.

    Args:
        width: of all nodes.
        heads: of the attentions.
        hidden: inside the feed-forwards.
        dropout: of attention weights and residuals.
        within: among words and, unless objects do not meet each other, among objects.
        between: from objects to words and back.
        maps: whether objects' attention has a value and an output map; not in the authors' code.
        bias: whether gates have one, as in the authors' code.
        combine: makes what joins nodes and gated sums: `Add`, or residual and norm as in the authors' code.
        independent: whether each modality has parameters of its own.
        last: whether no layer follows; then nothing is computed that objects receive after the words have
            heard them, as it can reach no tag, and its parameters do not exist (`Schema.idle`).
    """
    # eqs. 1-2
    words, *objects = within
    attention = {words: RelationAttention(width, heads, dropout=dropout)}
    for key in objects:
        own = partial(RelationAttention, width, heads, dropout=dropout, value=maps, output=maps)
        attention[key] = own() if independent else attention[words]
    yield HeteroLayer(attention, residual=partial(AddNorm, width, dropout))
    # eqs. 3-4 and, unless nobody will hear it, 5-6
    to_words, to_objects = between
    gates = {to_words: GatedSum(width, bias=bias)}
    if not last:
        gates[to_objects] = GatedSum(width, bias=bias) if independent else gates[to_words]
    yield HeteroLayer(gates, residual=combine)
    # eqs. 7-8
    alone = {to_words[2]: FeedForward(width, hidden, dropout)}
    if not last:
        alone[to_words[0]] = FeedForward(width, hidden, dropout) if independent else alone[to_words[2]]
    yield NodeTypeModule(alone)
