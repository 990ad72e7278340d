"""The multi-modal fusion layer: within each modality, between the two, then node by node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial

from torch import nn

from mnergraph.graph.collate import EdgeType
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.gated_sum import GatedSum
from mnergraph.nn.layers.hetero import AddNorm, FeedForward, HeteroLayer, NodeTypeModule


def fusion_layer(
    hidden_size: int,
    num_heads: int,
    intermediate_size: int,
    dropout: float,
    *,
    intra: Sequence[EdgeType],
    inter: tuple[EdgeType, EdgeType],
    object_projections: bool,
    gate_bias: bool,
    residual: Callable[[], nn.Module],
    shared: bool,
    is_last: bool,
) -> Iterator[nn.Module]:
    """Yield the modules of one multi-modal fusion layer (UMGF, eqs. 1-8).

    C_x, C_o = self-attention within each modality (eqs. 1-2);  R_x_i = C_x_i + sum over j of alpha_ij * C_o_j
    and R_o likewise (eqs. 3-6);  H_x, H_o = feed-forward layers of these (eqs. 7-8).

    Where the paper is silent we choose: residual and layer norm after attention and feed-forward layers, which
    have a ReLU; nothing but the sum after the gates; dropout on attention weights and residuals.

    Args:
        hidden_size: of all nodes.
        num_heads: attention heads.
        intermediate_size: of the feed-forward layers.
        dropout: on attention weights and residuals.
        intra: edge types among tokens and, unless objects are not connected to one another, among objects.
        inter: edge types from objects to tokens and back.
        object_projections: value and output projections in the attention among objects.
        gate_bias: a bias in the gates.
        residual: makes the module that combines nodes and gated sums.
        shared: both modalities use the same parameters.
        is_last: no layer follows. Updates of the objects after the tokens have received from them cannot reach
            the tags then, so they are left out with their parameters (`Schema.unreachable_relations`).
    """
    # eqs. 1-2
    tokens, *objects = intra
    attention = {tokens: RelationAttention(hidden_size, num_heads, dropout=dropout)}
    for edge_type in objects:
        project = object_projections
        own = partial(RelationAttention, hidden_size, num_heads, dropout=dropout, value=project, output=project)
        attention[edge_type] = attention[tokens] if shared else own()
    yield HeteroLayer(attention, residual=partial(AddNorm, hidden_size, dropout))
    # eqs. 3-4 and, unless this is the last layer, 5-6
    to_tokens, to_objects = inter
    gates = {to_tokens: GatedSum(hidden_size, bias=gate_bias)}
    if not is_last:
        gates[to_objects] = gates[to_tokens] if shared else GatedSum(hidden_size, bias=gate_bias)
    yield HeteroLayer(gates, residual=residual)
    # eqs. 7-8
    token, _, visual = to_objects
    feed_forward = {token: FeedForward(hidden_size, intermediate_size, dropout)}
    if not is_last:
        own_feed_forward = partial(FeedForward, hidden_size, intermediate_size, dropout)
        feed_forward[visual] = feed_forward[token] if shared else own_feed_forward()
    yield NodeTypeModule(feed_forward)
