"""Entities as spans: for every type the probability of each word to be the first, and to be the last, of an entity."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.graph.layout import Layout
from mnergraph.labels import OUTSIDE, Entity, LabelSet, Span, spans_to_tags
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.heads.base import full_precision
from mnergraph.nn.heads.entities import EntityHead, SpecialTags, gold_labels, pairs_of, word_layout
from mnergraph.nn.state import GraphState


class GoldSpans(nn.Module):
    """The first and last words of the gold entities, by type, as `mnergraph.labels.tags_to_spans` reads them.

    An ``I-T`` that continues no entity begins one. Has no parameters.

    Args:
        labels: the label set.
    """

    type_of: Tensor
    is_begin: Tensor

    def __init__(self, labels: LabelSet) -> None:
        super().__init__()
        self.num_types = len(labels.types)
        types = [labels.types.index(tag[2:]) if tag[:2] in ("B-", "I-") else self.num_types for tag in labels]
        self.register_buffer("type_of", torch.tensor(types), persistent=False)
        self.register_buffer("is_begin", torch.tensor([tag[:2] == "B-" for tag in labels]), persistent=False)

    def forward(self, graph: GraphState) -> tuple[Tensor, Tensor, Layout]:
        """Return which words are first, and which are last, in an entity of a type, and the layout of the words.

        Returns:
            ``[words, types]`` twice, bool; words without a token are not among them.

        Raises:
            ValueError: for a post without labels.
        """
        words = word_layout(graph)
        labels = gold_labels(graph)[graph.data["token"].starts_word]
        types, outside = self.type_of[labels], self.num_types
        previous = F.pad(types[:-1], (1, 0), value=outside)
        continues = (types == previous) & (types < outside) & ~self.is_begin[labels] & (words.position > 0)
        is_last = ~F.pad(continues[1:], (0, 1))
        has_type = F.one_hot(types, outside + 1)[:, :outside].bool()
        return has_type & ~continues[:, None], has_type & is_last[:, None], words


class SpanHead(EntityHead):
    """Entities by the first and the last word of their spans, for each type on its own.

    The graph's scores under ``"tags"`` are ``[tokens, 2 * types]``, or ``[tokens, types, 2]``: of every type, in the
    order of ``labels.types``, the score b_it of word i to be the first of an entity and e_it to be the last, such as
    ``TaggingScores("tags", hidden_size, 2 * len(labels.types))`` computes. Where tokens are pieces, those of a word's
    first piece count.

    loss = mean over types t and words i of  CE(sigmoid(b_it), is first) + CE(sigmoid(e_it), is last)

    Decoding: a word of first-word probability ``threshold`` or more begins an entity, which ends at the nearest word,
    itself or a later one, of last-word probability ``threshold`` or more, and is dropped if there is none. Of entities
    that overlap, of one type or of several, that of the highest probability is kept, and so on (greedily).

    The probability of a span from word i to j is that of exactly these ends where all words are independent: i begins,
    j ends, no word between them does either.

        p = B_i E_j  prod over i < k <= j of (1 - B_k)  prod over i <= k < j of (1 - E_k),  B = sigmoid(b), E likewise

    Args:
        labels: the label set.
        weight: weight of the loss in the model's loss.
        threshold: of first and last words, more than 0 and at most 1.

    Raises:
        ValueError: for another threshold.
    """

    def __init__(self, labels: LabelSet, *, weight: float = 1.0, threshold: float = 0.5) -> None:
        super().__init__(labels, weight=weight)
        if not 0 < threshold <= 1:
            raise ValueError(f"the threshold is a probability, more than 0, not {threshold}")
        self.threshold, self.gold_spans = threshold, GoldSpans(labels)

    def scores(self, graph: GraphState) -> Tensor:
        """Return the scores of every word that has a token, ``[words, types, 2]``: to be first, to be last."""
        scores = graph.emissions[self.name][graph.data["token"].starts_word]
        return scores.reshape(len(scores), len(self.labels.types), 2)

    def loss(self, graph: GraphState) -> Tensor:
        """Return the cross entropy of first and last words of every post, ``[posts]``.

        Raises:
            ValueError: for a post without labels.
        """
        first, last, words = self.gold_spans(graph)
        scores = full_precision(self.scores(graph))
        targets = torch.stack([first, last], -1).to(scores.dtype)
        by_word = F.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum((1, 2))
        by_post = segment_sum(by_word[:, None], words.graph_index, words.num_graphs, mean=True)[:, 0]
        return by_post / max(1, len(self.labels.types))

    def decode(self, graph: GraphState) -> list[list[Entity]]:
        """Return the entities of every post, in order, each with its probability; see the class."""
        return [self._entities(first, last) for first, last in self._probabilities(graph)]

    def decode_tags(self, graph: GraphState, *, special_tags: SpecialTags = "outside") -> list[list[str]]:
        """Return the BIO2 tags of the decoded entities; ``special_tags`` has no effect, as none is predicted."""
        return [
            spans_to_tags([(entity.start, entity.end, entity.type) for entity in entities], len(pair.words))
            for pair, entities in zip(pairs_of(graph), self.decode(graph), strict=True)
        ]

    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of any spans, see the class; 0 for those of words without a token.

        Args:
            graph: the last graph.
            spans: the spans of every post.
            tags: not used.

        Raises:
            ValueError: for a span of a type that is not in the label set.
        """
        types = self.labels.types
        if unknown := sorted({span.type for post in spans for span in post} - set(types)):
            raise ValueError(f"there is no type {', '.join(unknown)}; there is {', '.join(types) or OUTSIDE}")
        return [
            [
                span_probability(first[kind], last[kind], span.start, span.end) if span.end <= len(first[kind]) else 0.0
                for span in post
                for kind in [types.index(span.type)]
            ]
            for post, (first, last) in zip(spans, self._probabilities(graph), strict=True)
        ]

    def _probabilities(self, graph: GraphState) -> list[tuple[list[list[float]], list[list[float]]]]:
        """Return for every post the words' probabilities to be first, and to be last, a list for each type."""
        counts = word_layout(graph).counts.tolist()
        # [2, types, words]
        probabilities = self.scores(graph).detach().cpu().double().sigmoid().permute(2, 1, 0)
        return [(first.tolist(), last.tolist()) for first, last in probabilities.split(counts, -1)]

    def _entities(self, first: Sequence[Sequence[float]], last: Sequence[Sequence[float]]) -> list[Entity]:
        found = []
        for entity_type, begins, ends in zip(self.labels.types, first, last, strict=True):
            for start, end in paired_ends(begins, ends, self.threshold):
                found.append(Entity(start, end, entity_type, span_probability(begins, ends, start, end)))
        return best_disjoint(found)


def paired_ends(first: Sequence[float], last: Sequence[float], threshold: float) -> list[tuple[int, int]]:
    """Return the spans of one type, half-open: each word that begins one, and the nearest that ends one.

    Args:
        first: every word's probability to be the first of an entity.
        last: every word's probability to be the last of an entity.
        threshold: the least of both.
    """
    spans, end = [], 0
    for start in range(len(first) - 1, -1, -1):
        end = start + 1 if last[start] >= threshold else end
        if first[start] >= threshold and end:
            spans.append((start, end))
    return spans[::-1]


def span_probability(first: Sequence[float], last: Sequence[float], start: int, end: int) -> float:
    """Return the probability that a span's first word begins an entity that its last word ends; see `SpanHead`."""
    begins = first[start] * math.prod(1.0 - p for p in first[start + 1 : end])
    return begins * last[end - 1] * math.prod(1.0 - p for p in last[start : end - 1])


def best_disjoint(entities: Sequence[Entity]) -> list[Entity]:
    """Return entities that do not overlap, in order: the one of the highest score, then the next best, and so on.

    Of equal scores the earlier one comes first, then the shorter one, then the order given.
    """
    kept: list[Entity] = []
    for entity in sorted(entities, key=lambda it: (-it.score, it.start, it.end)):
        if all(entity.end <= other.start or other.end <= entity.start for other in kept):
            kept.append(entity)
    return sorted(kept, key=lambda it: it.start)
