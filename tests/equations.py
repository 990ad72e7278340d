"""What several papers compute, node by node and head by head; shares nothing with ours but the weights."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.pair import Pair


def attention(part: RelationAttention, receiver: Tensor, senders: Sequence[Tensor]) -> Tensor:
    """What one receiver hears, ``[width]`` (Vaswani et al., 2017, section 3.2)."""
    size = len(receiver) // part.num_heads
    heads = []
    for h in range(part.num_heads):
        own = slice(h * size, (h + 1) * size)
        query, heard = part.query(receiver)[own], torch.zeros(size)
        if len(senders):
            scores = torch.stack([query @ part.key(sender)[own] / math.sqrt(size) for sender in senders])
            alpha = scores.exp() / scores.exp().sum()
            heard = sum((a * part.value(s)[own] for a, s in zip(alpha, senders, strict=True)), heard)
        heads.append(heard)
    return part.output(torch.cat(heads))


def norm(part: nn.LayerNorm, x: Tensor) -> Tensor:
    """One node's features, ``[width]``, normed (Ba et al., 2016)."""
    centred = x - x.sum() / len(x)
    variance = (centred * centred).sum() / len(x)
    return part.weight * centred / torch.sqrt(variance + part.eps) + part.bias


def transformer(
    block: TransformerLayer,
    receivers: Sequence[Tensor],
    senders: Callable[[int], Sequence[Tensor]] | Sequence[Tensor],
    activation: Callable[[Tensor], Tensor] = torch.relu,
) -> list[Tensor]:
    """A transformer layer without dropout: all senders for every receiver, or those of the i-th."""
    out = []
    for place, receiver in enumerate(receivers):
        heard = senders(place) if callable(senders) else senders
        middle = norm(block.residual.norm, receiver + attention(block.attention, receiver, heard))
        feed = block.feed_forward
        out.append(norm(feed.residual.norm, middle + feed.outer(activation(feed.inner(middle)))))
    return out


def scatter(module: nn.Module, seed: int = 0, std: float = 0.3) -> None:
    """Random weights everywhere, biases and norms included, so that none can be forgotten unseen."""
    generator = torch.Generator().manual_seed(seed)
    for name, weight in module.named_parameters():
        mean = 1.0 if name.endswith("norm.weight") else 0.0
        with torch.no_grad():
            weight.copy_(mean + std * torch.randn(weight.shape, generator=generator))


def released_pieces(
    tokenizer: PreTrainedTokenizerBase, posts: Sequence[Pair]
) -> tuple[Tensor, Tensor, list[list[int | None]], list[list[str]]]:
    """What the released codes make of posts, with the tokenizer alone.

    Returns:
        ids and mask ``[posts, pieces]``, the word of every piece (None for [CLS], [SEP] and padding), and its
        tag: the word's for its first piece, X for the others.
    """
    words = [list(post.words) for post in posts]
    encoded = tokenizer(words, is_split_into_words=True, padding=True, return_tensors="pt")
    mask = encoded["attention_mask"].bool()
    owners = [encoded.word_ids(row) for row in range(len(posts))]
    tags = []
    for post, owner, length in zip(posts, owners, mask.sum(1).tolist(), strict=True):
        row = ["PAD"] * len(owner)
        for place in range(length):
            word, again = owner[place], place and owner[place] == owner[place - 1]
            special = "[SEP]" if place else "[CLS]"
            row[place] = special if word is None else "X" if again else (post.labels or ())[word]
        tags.append(row)
    return encoded["input_ids"], mask, owners, tags
