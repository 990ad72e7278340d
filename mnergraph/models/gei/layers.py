"""The layer in which entities connect words and image."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.pooling import SpanPooling
from mnergraph.nn.layers.gates import GatedMix
from mnergraph.nn.layers.hetero import AddNorm, FeedForward, HeteroLayer, NodeTypeModule


class GatedMessage(nn.Module):
    """An operator whose message is mixed with the target's features by a gate (GEI, eqs. 8-10 and 11-12).

    R = operator(src, dst),  out = alpha * R + (1 - alpha) * dst,  alpha = sigmoid(W_1 R + W_2 dst)

    A target without incoming edges keeps its features.

    Args:
        operator: of the message, ``(x_src, x_dst, edges) -> x_dst``.
        hidden_size: of targets and messages.
    """

    def __init__(self, operator: nn.Module, hidden_size: int) -> None:
        super().__init__()
        self.operator, self.highway = operator, GatedMix(hidden_size)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, hidden size]``, ``[dst nodes, hidden size]`` -> ``[dst nodes, hidden size]``."""
        receivers = edges.receivers
        message = self.operator(x_src, x_dst, edges).index_select(0, receivers)
        mixed = self.highway(message, x_dst.index_select(0, receivers))
        return x_dst.index_copy(0, receivers, mixed.to(x_dst.dtype))


def interacting_layer(
    hidden_size: int,
    num_heads: int,
    intermediate_size: int,
    dropout: float,
    *,
    intra: tuple[EdgeType, EdgeType],
    inter: tuple[EdgeType, EdgeType],
    membership: tuple[EdgeType, EdgeType] | None,
    is_last: bool,
) -> Iterator[nn.Module]:
    """Yield the modules of one layer of the heterogeneous graph interacting network (GEI, section 2.3).

    D_T, D_V = self-attention within each modality (eq. 7);  M_E, M_V = gated attention between entities and
    visual nodes (eqs. 8-10);  M_T = words updated by their entity through a gate (eqs. 11-12);  H_T, H_V =
    feed-forward layers of these;  H_E = the maximum over an entity's words. M_V is computed from D_V and H_E as
    M_E is from H_E and D_V. Attention (eq. 7) and feed-forward layers have residual and layer norm, and
    parameters of their own in each modality; gates have no bias.

    Args:
        hidden_size: of all nodes.
        num_heads: attention heads.
        intermediate_size: of the feed-forward layers.
        dropout: on attention weights and residuals.
        intra: edge types among words, among visual nodes.
        inter: edge types from visual nodes to entities and back; to words and back where there are no entities.
        membership: edge types from words to their entity and back; None where there are no entities.
        is_last: no layer follows. Updates of visual nodes and entities after the words have received from them
            cannot reach the tags then, so they are left out with their parameters.
    """
    attention = partial(RelationAttention, hidden_size, num_heads, dropout=dropout)
    residual = partial(AddNorm, hidden_size, dropout)
    # eq. 7
    yield HeteroLayer({edge_type: attention() for edge_type in intra}, residual=residual)
    # eqs. 8-10, and M_V unless this is the last layer
    updated = inter[:1] if is_last else inter
    yield HeteroLayer({edge_type: GatedMessage(attention(), hidden_size) for edge_type in updated})
    # eqs. 11-12; a word has at most one entity to sum
    if membership:
        yield HeteroLayer({membership[1]: GatedMessage(SpanPooling("sum"), hidden_size)})
    words, visuals = (dst for _, _, dst in intra)
    node_types = (words,) if is_last else (words, visuals)
    yield NodeTypeModule({name: FeedForward(hidden_size, intermediate_size, dropout) for name in node_types})
    # H_E of the next layer
    if membership and not is_last:
        yield HeteroLayer({membership[0]: SpanPooling("max")})
