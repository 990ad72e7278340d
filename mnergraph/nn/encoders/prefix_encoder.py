"""A pretrained text encoder whose self-attention has further keys and values: prefixes made of nodes of other types.

Transformers' encoders compute their self-attention through an exchangeable function, the attention interface. The one
registered here (`PREFIX_ATTENTION`) is PyTorch's scaled dot-product attention, with the keys and values that a call of
the encoder brings along put in front of its own; calls without any are computed as before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.modeling_utils import AttentionInterface

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges, Layout
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
        record: whether the weights of prefixes are kept.

    Attributes:
        weights: if they are kept, of every layer ``[sequences, heads, length, positions]``.
    """

    def __init__(self, states: Tensor, mask: Tensor, *, record: bool = False) -> None:
        self.states, self.mask, self.record = states, mask, record
        self.weights: list[Tensor] = []
        self._layer = 0

    def attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, **settings: Any
    ) -> tuple[Tensor, None]:
        if self._layer == len(self.states):
            raise ValueError(
                "the encoder computes more layers than it has, as gradient checkpointing does, and each would need its "
                "prefixes again; turn it off"
            )
        prefix = self.states[self._layer].to(key.dtype)
        self._layer += 1
        key, value = torch.cat([prefix[0], key], 2), torch.cat([prefix[1], value], 2)
        # [sequences, 1, length, positions + length]
        shape = (len(query), 1, query.shape[2])
        text = self.mask.new_ones(*shape, query.shape[2]) if mask is None else mask
        mask = torch.cat([self.mask.expand(*shape, -1), text.expand(*shape, -1)], 3)
        if self.record:
            self.weights.append(self._weights(query.detach(), key.detach(), mask, settings.get("scaling")))
        return _attention(module, query, key, value, mask, **settings)

    def _weights(self, query: Tensor, key: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
        """Return the weights of the prefixes in the softmax over prefixes and text."""
        key = key.repeat_interleave(query.shape[1] // key.shape[1], 1)
        scores = query @ key.transpose(2, 3) * (query.shape[-1] ** -0.5 if scaling is None else scaling)
        weights = scores.masked_fill(~mask, torch.finfo(scores.dtype).min).softmax(-1)
        return weights[..., : self.mask.shape[-1]]


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
        """The edge types that the layer uses."""
        return list(self.prefixes)

    def _run(self, graph: GraphState, sequences: Sequences, **inputs: Any) -> Tensor:
        for relation in self.prefixes:
            if relation not in graph.edges:
                raise KeyError(f"{relation} is not in the graph, which has {', '.join(map(str, graph.edges))}")
        record = any(share._forward_hooks for share in self.shares)
        attached = {relation: name for relation, name in self.prefixes.items() if _num_edges(graph.edges[relation]) > 0}
        prefixes = self._prefixes(graph, sequences, attached, record=record) if attached else None
        given = {} if prefixes is None else {"prefixes": prefixes}
        states = super()._run(graph, sequences, **inputs, **given)
        # what makes prefixes is part of the computation in a batch without any, too, which several devices need
        for name in self.prefixes.values():
            states = states + graph.x[name][:0].sum().to(states.dtype)
        if record:
            self._record(graph, sequences, attached, prefixes.weights if prefixes else [])
        return states

    def _prefixes(
        self, graph: GraphState, sequences: Sequences, names: Mapping[EdgeType, str], *, record: bool
    ) -> _Prefixes:
        """Return the prefixes of every sequence."""
        post = _posts(graph, sequences)
        states, masks = [], []
        for relation, name in names.items():
            edges, x = graph.edges[relation], graph.x[name]
            self._check_shape(x, relation, name)
            # [posts, max nodes, layers, 2, positions, prefix_size]
            dense = edges.src.to_dense(x)
            # [layers, 2, posts, positions of all nodes, heads, head_size]
            dense = dense.permute(2, 3, 0, 1, 4, 5).flatten(3, 4).unflatten(4, (self.num_key_heads, -1))
            states.append(dense if post is None else dense.index_select(2, post))
            masks.append(_mask(graph, sequences, edges, post).repeat_interleave(x.shape[3], -1))
        rows = max(mask.shape[2] for mask in masks)
        mask = torch.cat([mask.expand(-1, -1, rows, -1) for mask in masks], -1)
        return _Prefixes(torch.cat(states, 3).transpose(3, 4), mask, record=record)

    def _check_shape(self, x: Tensor, relation: EdgeType, name: str) -> None:
        right = (self.num_layers, 2, self.prefix_size)
        if x.dim() != 5 or (x.shape[1], x.shape[2], x.shape[4]) != right:
            raise ValueError(
                f"the prefixes {name!r} of {relation} are {list(x.shape)}; right is [nodes, {right[0]}, 2, positions, "
                f"{right[2]}]: for each layer of {self.backbone.name} the keys and values of its heads"
            )

    def _record(
        self, graph: GraphState, sequences: Sequences, names: Mapping[EdgeType, str], weights: Sequence[Tensor]
    ) -> None:
        """Pass the shares of attention along every relation, ``[edges, heads]``, to the modules that are recorded."""
        for layer, share in enumerate(self.shares):
            of_layer = weights[layer] if weights else None
            begin = 0
            for relation in self.prefixes:
                edges = graph.edges[relation]
                if of_layer is None or relation not in names:
                    share(graph.x[self.prefixes[relation]].new_zeros(0, self.num_heads), edges)
                    continue
                positions = graph.x[names[relation]].shape[3]
                end = begin + positions * edges.src.max_nodes
                # [tokens, heads, max nodes]
                shares = self._of_tokens(graph, sequences, of_layer[..., begin:end].unflatten(-1, (-1, positions)))
                src, dst = edges.index
                share(shares.transpose(1, 2)[dst, edges.src.position[src]], edges)
                begin = end

    def _of_tokens(self, graph: GraphState, sequences: Sequences, weights: Tensor) -> Tensor:
        """``[sequences, heads, length, max nodes, positions]`` -> ``[tokens, heads, max nodes]``."""
        # [positions of the sequences, heads, max nodes]
        flat = sequences.layout.to_flat(weights.sum(-1).transpose(1, 2))
        pieces = flat if sequences.source is None else flat.index_select(0, sequences.source)
        pooled = self._pool(graph, pieces.flatten(1), "first" if self.pooling == "first" else "mean")
        return pooled.unflatten(1, pieces.shape[1:])


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


def _num_edges(edges: Edges) -> int:
    return edges.num_possible_edges if edges.complete else edges.index.shape[1]


def _posts(graph: GraphState, sequences: Sequences) -> Tensor | None:
    """Return the post of every sequence, ``[sequences]``; None where sequences are the posts."""
    if sequences.rows is None:
        return None
    layout = sequences.layout
    post = graph.layouts[PIECE].graph_index[sequences.rows]
    return post.new_zeros(layout.num_graphs).index_copy(0, layout.graph_index, post)


def _mask(graph: GraphState, sequences: Sequences, edges: Edges, post: Tensor | None) -> Tensor:
    """Return which node each piece attends to, ``[sequences, 1, length or 1, max nodes]``, bool."""
    if edges.complete:
        mask = edges.src.mask if post is None else edges.src.mask[post]
        return mask[:, None, None]
    layout: Layout = graph.layouts[PIECE]
    # [pieces, max nodes]: any token's for special pieces
    of_piece = edges.mask.any(1)[layout.graph_index]
    piece, token = graph.data[PIECES].edge_index
    of_piece = of_piece.index_copy(0, piece, edges.dst.to_flat(edges.mask)[token])
    rows = of_piece if sequences.rows is None else of_piece[sequences.rows]
    return sequences.layout.to_dense(rows)[:, None]
