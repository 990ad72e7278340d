"""A pretrained text encoder whose self-attention has further keys and values: prefixes made of nodes of other types.

Transformers' encoders compute their self-attention through an exchangeable function, the attention interface. The one
registered here (`PREFIX_ATTENTION`) is PyTorch's scaled dot-product attention, with the keys and values that a call of
the encoder brings along put in front of its own; calls without any are computed as before.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.context import CONTEXT_PIECE, CONTEXT_TO_TOKENS
from mnergraph.graph.layout import Edges
from mnergraph.graph.node_types import PIECE, PIECES
from mnergraph.nn.conv.attention import AttentionShare
from mnergraph.nn.encoders.pretrained import Pooling, Sequences, TextEncoder
from mnergraph.nn.modes import evaluation_mode
from mnergraph.nn.state import GraphState

#: Name of the attention with prefixes in transformers' attention interface.
PREFIX_ATTENTION = "mnergraph_prefix"


class AttentionCall(Protocol):
    """What one call of an encoder brings along to the self-attention of all its layers."""

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
    ) -> tuple[Tensor, None]:
        """Return the attention of one layer, ``[sequences, length, heads, head_size]``, and None.

        Args:
            module: the layer's self-attention.
            query: ``[sequences, heads, length, head_size]``.
            key: the same, of the text.
            value: the same.
            mask: which key each query may attend to, ``[sequences, 1, length, length]``, bool; None for all.
            settings: scale, dropout and whatever else the family passes.
        """


def prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    prefixes: AttentionCall | None = None,
    **settings: Any,
) -> tuple[Tensor, None]:
    """Return scaled dot-product attention, with the prefixes of the call if it has any; see `AttentionCall.attend`."""
    if prefixes is None:
        return _attention(module, query, key, value, attention_mask, **settings)
    return prefixes.attend(module, query, key, value, attention_mask, **settings)


AttentionInterface.register(PREFIX_ATTENTION, prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)


def _attention(*args: Any, **settings: Any) -> tuple[Tensor, None]:
    states: tuple[Tensor, None] = sdpa_attention_forward(*args, **settings)
    return states


class _Probe:
    """Takes down the heads of every layer, and that they can have prefixes."""

    def __init__(self) -> None:
        #: Of every layer number of heads, number of heads of keys and values, and size of a head.
        self.heads: list[tuple[int, int, int]] = []
        self.fault = ""

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
    ) -> tuple[Tensor, None]:
        self.heads.append((query.shape[1], key.shape[1], key.shape[3]))
        if settings.get("is_causal") or getattr(module, "is_causal", False):
            self.fault = "lets a word attend to earlier ones only"
        elif settings.get("position_bias") is not None:
            self.fault = "adds a bias for the distance of a query and a key, which prefixes do not have"
        elif value.shape != key.shape or query.shape[3] != key.shape[3]:
            self.fault = "has keys and values of different sizes"
        return _attention(module, query, key, value, mask, **settings)


class _Prefixes:
    """The prefixes of a batch of sequences.

    Args:
        states: keys and values, ``[layers, 2, sequences, heads, positions, head_size]``.
        mask: which prefix each query may attend to, ``[sequences, 1, length or 1, positions]``, bool.
        record: is passed the index of every layer, and the weights of prefixes and text in it, ``[sequences, heads,
            length, positions + length]``; None where they are not needed.
    """

    def __init__(self, states: Tensor, mask: Tensor, record: Callable[[int, Tensor], None] | None = None) -> None:
        self.states, self.mask, self.record = states, mask, record
        self._layer = 0

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
    ) -> tuple[Tensor, None]:
        layer = self._layer
        if layer == len(self.states):
            raise ValueError(
                "the encoder computes more layers than it has, as gradient checkpointing does, and each would need its "
                "prefixes again; turn it off"
            )
        self._layer += 1
        prefix = self.states[layer].to(key.dtype)
        key, value = torch.cat([prefix[0], key], 2), torch.cat([prefix[1], value], 2)
        # [sequences, 1, length, positions + length]
        shape = (len(query), 1, query.shape[2])
        text = self.mask.new_ones(*shape, query.shape[2]) if mask is None else mask
        mask = torch.cat([self.mask.expand(*shape, -1), text.expand(*shape, -1)], 3)
        if self.record is not None:
            self.record(layer, self._weights(query.detach(), key.detach(), mask, settings.get("scaling")))
        return _attention(module, query, key, value, mask, **settings)

    def _weights(self, query: Tensor, key: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
        """Return the softmax over prefixes and text."""
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        return scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)


class PrefixTextEncoder(TextEncoder):
    """Token features from a Hugging Face encoder in which nodes of other types are keys and values of every layer.

    In layer l:  softmax(Q [K_P ; K_T]^T / sqrt(head_size)) [V_P ; V_T]

    Q, K_T and V_T are those of the text, K_P and V_P of the nodes that have edges to its tokens: visual prefixes
    (HVPNeT). They are features that earlier layers compute; the encoder's own maps are not applied to them, and they
    ask for nothing themselves. A piece attends to the prefixes of the nodes that have an edge to its token, and
    a special piece, or one of context, to those of nodes that have an edge to any token of its post. In a post without
    such edges the encoder computes what `TextEncoder` does. All windows of a long post have its prefixes.

    Recorded is the share of every token's attention that goes to a node, the sum over the positions of its prefix and
    the mean over the token's pieces that its features are pooled from; the rest is on the text itself.

    Args:
        backbone: the encoder and its tokenizer; BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT, XLM-R, ModernBERT and any
            other whose self-attention goes through transformers' attention interface.
        prefixes: for every relation to ``token`` the name of its source nodes' prefixes, which are
            ``[nodes, num_layers, 2, positions, prefix_size]``: for every layer the keys and the values of one or more
            positions.
        pooling: see `TextEncoder`.
        dropout: see `TextEncoder`.
        sentence: see `TextEncoder`.

    Attributes:
        num_layers: layers of the encoder.
        prefix_size: features of a key of all heads, and of a value.

    Raises:
        ValueError: as `TextEncoder`; for a relation to another node type than ``token``; and for an encoder to whose
            self-attention prefixes can't be added, such as DeBERTa.
    """

    def __init__(
        self,
        backbone: TextEncoderModel,
        prefixes: Mapping[EdgeType, str],
        *,
        pooling: Pooling = "first",
        dropout: float = 0.0,
        sentence: bool = False,
    ) -> None:
        super().__init__(backbone, pooling=pooling, dropout=dropout, sentence=sentence)
        wrong = [relation for relation in prefixes if relation[2] != "token"]
        if wrong:
            raise ValueError(f"prefixes are of relations to token, not {', '.join(map(str, wrong))}")
        self.prefixes = dict(prefixes)
        heads = use_prefix_attention(self.model, backbone.name)
        self.num_layers, (self.num_heads, self.num_key_heads, head_size) = len(heads), heads[0]
        self.prefix_size = self.num_key_heads * head_size
        self.shares = nn.ModuleList(AttentionShare() for _ in heads)

    @property
    def relations(self) -> list[EdgeType]:
        """The edge types that the layer uses; that of context where the graph has it."""
        return [*self.prefixes, *super().relations]

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with features ``[nodes, hidden_size]``; see `TextEncoder.forward`.

        Raises:
            KeyError: when the graph lacks a relation of prefixes.
            ValueError: for prefixes of another shape.
        """
        for relation, name in self.prefixes.items():
            if relation not in graph.edges:
                raise KeyError(f"{relation} is not in the graph, which has {', '.join(map(str, graph.edges))}")
            self._check_shape(graph.x[name], relation, name)
        encoded = super().forward(graph)
        # what makes prefixes is part of the computation in a batch without any, too, which several devices need
        nothing = torch.stack([graph.x[name][:0].sum() for name in self.prefixes.values()]).sum()
        tokens = encoded.x["token"]
        return encoded.update(token=tokens + nothing.to(tokens.dtype))

    def _check_shape(self, x: Tensor, relation: EdgeType, name: str) -> None:
        right = (self.num_layers, 2, self.prefix_size)
        if x.dim() != 5 or (x.shape[1], x.shape[2], x.shape[4]) != right:
            raise ValueError(
                f"the prefixes {name!r} of {relation} are {list(x.shape)}; right is [nodes, {right[0]}, 2, positions, "
                f"{right[2]}]: for each layer of {self.backbone.name} the keys and values of its heads"
            )

    def _further_inputs(self, graph: GraphState, sequences: Sequences) -> dict[str, Any]:
        """Return the prefixes of the sequences, where there are any."""
        recorded = any(share.is_recorded for share in self.modules() if isinstance(share, AttentionShare))
        used = self._used(graph)
        if not used:
            for share in self.shares if recorded else ():
                for relation, name in self.prefixes.items():
                    share(graph.x[name].new_zeros(0, self.num_heads), graph.edges[relation])
            return {}
        post = _posts(graph, sequences)
        states, masks = [], []
        for relation in used:
            edges, x = graph.edges[relation], graph.x[self.prefixes[relation]]
            # [posts, max nodes, layers, 2, positions, prefix_size]
            dense = edges.src.to_dense(x)
            # [layers, 2, posts, positions of all nodes, heads, head_size]
            dense = dense.permute(2, 3, 0, 1, 4, 5).flatten(3, 4).unflatten(4, (self.num_key_heads, -1))
            states.append(dense if post is None else dense.index_select(2, post))
            masks.append(_mask(graph, sequences, edges, post).repeat_interleave(x.shape[3], -1))
        rows = max(mask.shape[2] for mask in masks)
        mask = torch.cat([mask.expand(-1, -1, rows, -1) for mask in masks], -1)
        record = partial(self._record_layer, graph, sequences) if recorded else None
        return {"prefixes": _Prefixes(torch.cat(states, 3).transpose(3, 4), mask, record)}

    def _used(self, graph: GraphState) -> list[EdgeType]:
        """Return the relations of prefixes that have edges."""
        return [relation for relation in self.prefixes if _num_edges(graph.edges[relation])]

    def _record(self, graph: GraphState, ids: Tensor, sequences: Sequences, segments: Tensor | None) -> None:
        if not self._used(graph):  # otherwise each layer has recorded it, with prefixes
            super()._record(graph, ids, sequences, segments)

    def _record_layer(self, graph: GraphState, sequences: Sequences, layer: int, weights: Tensor) -> None:
        """Pass the shares of attention along every relation, ``[edges, heads]``, to the modules that are recorded."""
        begin, used = 0, self._used(graph)
        for relation, name in self.prefixes.items():
            edges, x = graph.edges[relation], graph.x[name]
            if relation not in used:
                self.shares[layer](weights.new_zeros(0, self.num_heads), edges)
                continue
            end = begin + x.shape[3] * edges.src.max_nodes
            # [positions of the sequences, heads, max nodes]
            flat = weights[..., begin:end].unflatten(-1, (-1, x.shape[3])).sum(-1).transpose(1, 2)
            flat = sequences.layout.to_flat(flat)
            pieces = flat if sequences.source is None else flat.index_select(0, sequences.source)
            pooled = self._pooled(graph, pieces.flatten(1), PIECES, "first" if self.pooling == "first" else "mean")
            # [tokens, max nodes, heads]
            shares = pooled.unflatten(1, pieces.shape[1:]).transpose(1, 2)
            src, dst = edges.index
            self.shares[layer](shares[dst, edges.src.position[src]], edges)
            begin = end
        if self.context_share.is_recorded and _num_edges(graph.edges.get(CONTEXT_TO_TOKENS)):
            self._record_context(graph, sequences, weights[..., begin:])


def use_prefix_attention(model: PreTrainedModel, name: str) -> list[tuple[int, int, int]]:
    """Let an encoder compute its self-attention by `prefix_attention`, and return the heads of every layer.

    Nothing else changes: calls without prefixes compute what they did.

    Args:
        model: the encoder.
        name: its name, for messages.

    Returns:
        number of heads, number of heads of keys and values (fewer in grouped attention), and size of a head, in the
            order of the layers.

    Raises:
        ValueError: when it computes its attention in another way; it is left as it was.
    """
    before, probe = model.config._attn_implementation, _Probe()
    fault = "computes its self-attention in a way of its own"
    if getattr(model, "_supports_sdpa", False):
        model.config._attn_implementation = PREFIX_ATTENTION
        ids = torch.zeros(1, 2, dtype=torch.long, device=model.device)
        try:
            with torch.no_grad(), evaluation_mode(model):
                model(input_ids=ids, attention_mask=torch.ones_like(ids), prefixes=probe)
        except TypeError as error:  # an argument that it does not take
            fault = f"does not pass prefixes on to its self-attention ({error})"
            probe.heads.clear()
        if probe.heads and not probe.fault and len(set(probe.heads)) == 1:
            return probe.heads
        model.config._attn_implementation = before
        fault = probe.fault or ("has layers with heads of different sizes" if probe.heads else fault)
    raise ValueError(
        f"{name}: {type(model).__name__} {fault}, so prefixes can't be added; take BERT, RoBERTa, DistilBERT, ELECTRA, "
        "ALBERT, XLM-R or ModernBERT"
    )


def _num_edges(edges: Edges | None) -> int:
    if edges is None:
        return 0
    return edges.num_possible_edges if edges.complete else edges.index.shape[1]


def _posts(graph: GraphState, sequences: Sequences) -> Tensor | None:
    """Return the post of every sequence, ``[sequences]``; None where sequences are the posts."""
    layout = sequences.layout
    if sequences.rows is None or layout.num_graphs == graph.num_graphs:
        return None
    post = _posts_of_pieces(graph)[sequences.rows]
    return post.new_zeros(layout.num_graphs).index_copy(0, layout.graph_index, post)


def _posts_of_pieces(graph: GraphState) -> Tensor:
    """Return the post of every piece of the sentences and, behind them, of their context, ``[pieces]``."""
    return torch.cat([graph.layouts[name].graph_index for name in (PIECE, CONTEXT_PIECE) if name in graph.layouts])


def _mask(graph: GraphState, sequences: Sequences, edges: Edges, post: Tensor | None) -> Tensor:
    """Return which node each piece attends to, ``[sequences, 1, length or 1, max nodes]``, bool."""
    if edges.complete:
        mask = edges.src.mask if post is None else edges.src.mask[post]
        return mask[:, None, None]
    # [pieces, max nodes]: any token's for special pieces, and for those of context
    of_piece = edges.mask.any(1)[_posts_of_pieces(graph)]
    piece, token = graph.data[PIECES].edge_index
    of_piece = of_piece.index_copy(0, piece, edges.dst.to_flat(edges.mask)[token])
    rows = of_piece[: sequences.layout.num_nodes] if sequences.rows is None else of_piece[sequences.rows]
    return sequences.layout.to_dense(rows)[:, None]
