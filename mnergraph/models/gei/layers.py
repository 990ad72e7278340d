"""The layer in which entities stand between words and picture."""

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
    """What an operator brings a receiver is mixed with what the receiver was (GEI, eqs. 8-10 and 11-12).

    R = operator(src, dst),  out = alpha * R + (1 - alpha) * dst,  alpha = sigmoid(W_1 R + W_2 dst)

    A receiver that hears nobody stays what it was.

    Args:
        operator: of the message, ``(x_src, x_dst, edges) -> x_dst``.
        width: of receivers and messages.
    """

    def __init__(self, operator: nn.Module, width: int) -> None:
        super().__init__()
        self.operator, self.highway = operator, GatedMix(width)

    def forward(self, x_src: Tensor, x_dst: Tensor, edges: Edges) -> Tensor:
        """``[src nodes, width]``, ``[dst nodes, width]`` -> ``[dst nodes, width]``."""
        hearers = edges.receivers
        message = self.operator(x_src, x_dst, edges).index_select(0, hearers)
        mixed = self.highway(message, x_dst.index_select(0, hearers))
        return x_dst.index_copy(0, hearers, mixed.to(x_dst.dtype))


def interacting_layer(
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    within: tuple[EdgeType, EdgeType],
    between: tuple[EdgeType, EdgeType],
    members: tuple[EdgeType, EdgeType] | None,
    last: bool,
) -> Iterator[nn.Module]:
    """One layer of the heterogeneous graph interacting network (GEI, section 2.3).

    D_T, D_V = self-attention within each modality (eq. 7);  M_E, M_V = gated attention between entities and
    visual nodes (eqs. 8-10);  M_T = words told by their entity through a gate (eqs. 11-12);  H_T, H_V =
    feed-forwards of these;  H_E = the maximum over an entity's words. M_V is made of D_V and H_E as M_E is of
    H_E and D_V. Attention (eq. 7) and feed-forwards have residual and norm, and weights of their own in each
    modality; gates have no bias.

    Args:
        width: of all nodes.
        heads: of the attentions.
        hidden: inside the feed-forwards.
        dropout: of attention weights and residuals.
        within: among words, among visual nodes.
        between: from visual nodes to entities and back; to words and back where there are no entities.
        members: from words to their entity and back; None where there are no entities.
        last: whether no layer follows; then nothing is computed that visual nodes or entities receive after
            the words have heard them, as it can reach no tag, and its parameters do not exist.
    """
    attention = partial(RelationAttention, width, heads, dropout=dropout)
    norm = partial(AddNorm, width, dropout)
    # eq. 7
    yield HeteroLayer({key: attention() for key in within}, residual=norm)
    # eqs. 8-10, and M_V unless nobody will hear it
    yield HeteroLayer({key: GatedMessage(attention(), width) for key in between[: 1 if last else 2]})
    # eqs. 11-12; no word has more than one entity to sum
    if members:
        yield HeteroLayer({members[1]: GatedMessage(SpanPooling("sum"), width)})
    words, visuals = (key[2] for key in within)
    kinds = (words,) if last else (words, visuals)
    yield NodeTypeModule({kind: FeedForward(width, hidden, dropout) for kind in kinds})
    # H_E of the next layer
    if members and not last:
        yield HeteroLayer({members[0]: SpanPooling("max")})
