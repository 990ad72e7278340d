"""Reference implementation of what UMT's and MGCMT's released code share, on padded batches, batch first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torchcrf
from equations import released_pieces
from torch import Tensor, nn

from mnergraph.graph import collate
from mnergraph.models import Tagger
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.nn.layers.transformer import TransformerLayer
from mnergraph.pair import Pair

#: In the released code's order, for the types MISC, PER, ORG and LOC.
TYPED = tuple(f"{prefix}-{entity_type}" for entity_type in ("MISC", "PER", "ORG", "LOC") for prefix in "BI")
TAGS = ("PAD", "O", *TYPED, "X", "[CLS]", "[SEP]")
SPANS = ("PAD", "O", "B", "I", "X", "[CLS]", "[SEP]")


class Layer(nn.Module):
    """A layer of BERT with cross-attention: queries from ``s1``, keys and values from ``s2``."""

    def __init__(self, hidden_size: int, num_heads: int, intermediate_size: int) -> None:
        super().__init__()
        self.heads = num_heads
        self.query, self.key, self.value, self.dense = (nn.Linear(hidden_size, hidden_size) for _ in range(4))
        self.intermediate, self.output = (
            nn.Linear(hidden_size, intermediate_size),
            nn.Linear(intermediate_size, hidden_size),
        )
        self.norm1, self.norm2 = nn.LayerNorm(hidden_size, eps=1e-12), nn.LayerNorm(hidden_size, eps=1e-12)

    def forward(self, s1: Tensor, s2: Tensor, added_mask: Tensor) -> Tensor:
        """[batch, queries, width], [batch, keys, width], [batch, 1, 1, keys] -> [batch, queries, width]."""

        def split(t: Tensor) -> Tensor:
            return t.view(*t.shape[:2], self.heads, -1).permute(0, 2, 1, 3)

        query, key = split(self.query(s1)), split(self.key(s2))
        scores = query @ key.transpose(-1, -2) / query.shape[-1] ** 0.5
        context = (scores + added_mask).softmax(-1) @ split(self.value(s2))
        x = self.norm1(self.dense(context.permute(0, 2, 1, 3).reshape(s1.shape)) + s1)
        inner = self.intermediate(x)
        return self.norm2(self.output(inner * 0.5 * (1.0 + torch.erf(inner / 2**0.5))) + x)

    def copy_weights_to(self, block: TransformerLayer) -> None:
        """Copy these weights to the package's layer."""
        attention, feed_forward = block.attention, block.feed_forward
        for target, source in (
            (attention.query, self.query),
            (attention.key, self.key),
            (attention.value, self.value),
            (attention.output, self.dense),
            (block.residual.norm, self.norm1),
            (feed_forward.inner, self.intermediate),
            (feed_forward.outer, self.output),
            (feed_forward.residual.norm, self.norm2),
        ):
            target.load_state_dict(source.state_dict())


def added(mask: Tensor) -> Tensor:
    """Return the additive attention mask, [batch, 1, 1, keys]: 0 at keys, -10000 at padding."""
    return (1.0 - mask.float())[:, None, None] * -10000.0


def copy_head_weights(
    model: Tagger, task: str, tagging_scores: TaggingScores, names: Sequence[str], linear: nn.Linear, crf: torchcrf.CRF
) -> None:
    """Copy a task's linear layer and CRF to the package's model, reordered to its tags."""
    decoder = model.heads[task].decoder
    order = [names.index(tag) for tag in decoder.tags]
    tagging_scores.linear.weight.data = linear.weight.data[order]
    tagging_scores.linear.bias.data = linear.bias.data[order]
    decoder.start_transitions.data = crf.start_transitions.data[order]
    decoder.end_transitions.data = crf.end_transitions.data[order]
    decoder.transitions.data = crf.transitions.data[order][:, order]


class Prepared(NamedTuple):
    """Inputs of the released code, ``[posts, pieces]``, and the word index of every piece."""

    ids: Tensor
    mask: Tensor
    gold: Tensor
    spans: Tensor
    words: list[list[int | None]]


def prepare(model: Tagger, posts: Sequence[Pair]) -> Prepared:
    """Return the released code's inputs, computed with the tokenizer only."""
    ids, mask, words, tags = released_pieces(model.encoder.tokenizer.tokenizer, posts)
    assert any("X" in row for row in tags)
    gold = torch.tensor([[TAGS.index(tag) for tag in row] for row in tags])
    spans = [[SPANS.index(tag[0] if tag[1:2] == "-" else tag) for tag in row] for row in tags]
    return Prepared(ids, mask, gold, torch.tensor(spans), words)


def check(
    model: Tagger, posts: Sequence[Pair], inputs: Prepared, released: nn.Module, tags: Tensor, spans: Tensor
) -> None:
    """Check the model's scores of tags and spans, ``[posts, pieces, labels]``, loss and decoded tags."""
    graph = model(collate(model.builder.build_all(posts)))
    for task, scores, names in (("tags", tags, TAGS), ("spans", spans, SPANS)):
        order = [names.index(tag) for tag in model.heads[task].decoder.tags]
        expected = scores[inputs.mask][:, order]
        torch.testing.assert_close(graph.emissions[task], expected, rtol=1e-4, atol=1e-4)
    loss = -released.crf(tags, inputs.gold, inputs.mask, reduction="mean")
    loss = loss - 0.5 * released.aux_crf(spans, inputs.spans, inputs.mask, reduction="mean")
    torch.testing.assert_close(model.loss(graph), loss, rtol=1e-5, atol=1e-3)
    # the decoded tags are those of the words' first pieces
    paths = released.crf.decode(tags, inputs.mask)
    for post, word_ids, path, decoded in zip(posts, inputs.words, paths, model.decode_tags(graph), strict=True):
        first = [TAGS[path[word_ids.index(word)]] for word in range(len(post.words))]
        assert decoded == [tag if tag[1:2] == "-" else "O" for tag in first]
