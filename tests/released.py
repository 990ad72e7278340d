"""What UMT's and MGCMT's released codes have in common, as a plain reading of them: padded, batch first."""

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

#: In the codes' order, for the types MISC, PER, ORG and LOC.
TYPED = tuple(f"{prefix}-{kind}" for kind in ("MISC", "PER", "ORG", "LOC") for prefix in "BI")
TAGS = ("PAD", "O", *TYPED, "X", "[CLS]", "[SEP]")
SPANS = ("PAD", "O", "B", "I", "X", "[CLS]", "[SEP]")


class Layer(nn.Module):
    """One of BERT's layers, its queries and its keys from different places."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.dense = (nn.Linear(width, width) for _ in range(4))
        self.intermediate, self.output = nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-12), nn.LayerNorm(width, eps=1e-12)

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

    def hand_over(self, block: TransformerLayer) -> None:
        """Copies these weights into ours."""
        ours, feed = block.attention, block.feed_forward
        for own, theirs in (
            (ours.query, self.query),
            (ours.key, self.key),
            (ours.value, self.value),
            (ours.output, self.dense),
            (block.residual.norm, self.norm1),
            (feed.inner, self.intermediate),
            (feed.outer, self.output),
            (feed.residual.norm, self.norm2),
        ):
            own.load_state_dict(theirs.state_dict())


def added(mask: Tensor) -> Tensor:
    """What the codes add to scores, [batch, 1, 1, keys]: 0 where a key is, -10000 where none is."""
    return (1.0 - mask.float())[:, None, None] * -10000.0


def hand_over_head(
    model: Tagger, task: str, emit: TaggingScores, names: Sequence[str], linear: nn.Linear, crf: torchcrf.CRF
) -> None:
    """Copies a task's scores and CRF, from the order of their tags into that of ours."""
    scorer = model.heads[task].decoder
    order = [names.index(tag) for tag in scorer.tags]
    emit.linear.weight.data, emit.linear.bias.data = linear.weight.data[order], linear.bias.data[order]
    scorer.start_transitions.data = crf.start_transitions.data[order]
    scorer.end_transitions.data = crf.end_transitions.data[order]
    scorer.transitions.data = crf.transitions.data[order][:, order]


class Prepared(NamedTuple):
    """Posts as the codes read them, ``[posts, pieces]``, and the word of every piece."""

    ids: Tensor
    mask: Tensor
    gold: Tensor
    spans: Tensor
    words: list[list[int | None]]


def prepare(model: Tagger, posts: Sequence[Pair]) -> Prepared:
    """Their preparation, with the tokenizer alone."""
    ids, mask, words, tags = released_pieces(model.encoder.tokenizer.tokenizer, posts)
    assert any("X" in row for row in tags)
    gold = torch.tensor([[TAGS.index(tag) for tag in row] for row in tags])
    spans = [[SPANS.index(tag[0] if tag[1:2] == "-" else tag) for tag in row] for row in tags]
    return Prepared(ids, mask, gold, torch.tensor(spans), words)


def check(
    model: Tagger, posts: Sequence[Pair], ready: Prepared, theirs: nn.Module, tags: Tensor, spans: Tensor
) -> None:
    """That ours gives their scores of tags and spans, ``[posts, pieces, labels]``, their loss and tags."""
    graph = model(collate(model.builder.build_all(posts)))
    for task, scores, names in (("tags", tags, TAGS), ("spans", spans, SPANS)):
        order = [names.index(tag) for tag in model.heads[task].decoder.tags]
        wanted = scores[ready.mask][:, order]
        torch.testing.assert_close(graph.emissions[task], wanted, rtol=1e-4, atol=1e-4)
    loss = -theirs.crf(tags, ready.gold, ready.mask, reduction="mean")
    loss = loss - 0.5 * theirs.aux_crf(spans, ready.spans, ready.mask, reduction="mean")
    torch.testing.assert_close(model.loss(graph), loss, rtol=1e-5, atol=1e-3)
    # and the tags of the words' first pieces are theirs
    paths = theirs.crf.decode(tags, ready.mask)
    for post, owner, path, found in zip(posts, ready.words, paths, model.decode_tags(graph), strict=True):
        first = [TAGS[path[owner.index(word)]] for word in range(len(post.words))]
        assert found == [tag if tag[1:2] == "-" else "O" for tag in first]
