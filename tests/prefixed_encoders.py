"""Text encoders whose layers have prefixes, query by query, head by head and key by key; shares the weights alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn

#: Is passed layer, position of the query, head, and the weights of all prefixes and pieces.
Weights = Callable[[int, int, int, list[float]], None]


def attend(
    maps: tuple[nn.Module, nn.Module, nn.Module],
    heads: int,
    x: Tensor,
    prefixes: Sequence[Sequence[Tensor]],
    layer: int,
    weigh: Weights | None,
) -> Tensor:
    """softmax(Q [K_P ; K_T]^T / sqrt(d)) [V_P ; V_T] of one layer; ``prefixes``: those that each query attends to."""
    size, rows = x.shape[1] // heads, []
    query, key, value = (of(x) for of in maps)
    for place in range(len(x)):
        keys = [prefix[layer, 0] for prefix in prefixes[place]] + list(key)
        values = [prefix[layer, 1] for prefix in prefixes[place]] + list(value)
        parts = []
        for head in range(heads):
            own = slice(head * size, (head + 1) * size)
            scores = torch.stack([query[place, own] @ k[own] / math.sqrt(size) for k in keys])
            alpha = scores.exp() / scores.exp().sum()
            if weigh is not None:
                weigh(layer, place, head, alpha.tolist())
            parts.append(sum((a * v[own] for a, v in zip(alpha, values, strict=True)), torch.zeros_like(value[0, own])))
        rows.append(torch.cat(parts))
    return torch.stack(rows)


def encode_with_prefixes(
    model: Any,
    ids: list[int],
    prefixes: Sequence[Sequence[Tensor]],
    weigh: Weights | None = None,
    *,
    num_context: int = 0,
) -> Tensor:
    """States of one sequence of pieces, ``[pieces, width]``, in BERT and its kin, and in DistilBERT."""
    segments = [0] * (len(ids) - num_context) + [1] * num_context
    given = {} if isinstance(model, hf.DistilBertModel) else {"token_type_ids": torch.tensor([segments])}
    x = model.embeddings(input_ids=torch.tensor([ids]), **given)[0]
    if isinstance(model, hf.DistilBertModel):
        for number, layer in enumerate(model.transformer.layer):
            part = layer.attention
            maps = part.q_lin, part.k_lin, part.v_lin
            attended = part.out_lin(attend(maps, part.n_heads, x, prefixes, number, weigh))
            x = layer.sa_layer_norm(attended + x)
            inner = layer.ffn.lin2(nn.functional.gelu(layer.ffn.lin1(x)))
            x = layer.output_layer_norm(inner + x)
        return x
    for number, layer in enumerate(model.encoder.layer):
        part = layer.attention.self
        attended = attend((part.query, part.key, part.value), part.num_attention_heads, x, prefixes, number, weigh)
        out = layer.attention.output
        x = out.LayerNorm(out.dense(attended) + x)
        inner = layer.output.dense(nn.functional.gelu(layer.intermediate.dense(x)))
        x = layer.output.LayerNorm(inner + x)
    return x
