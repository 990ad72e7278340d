"""Base class of the heads that give a model's entities, and what they share: gold labels, words, metrics of tags."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from mnergraph.graph.layout import Layout
from mnergraph.graph.node_types import NO_LABEL
from mnergraph.labels import Entity, LabelSet, Span
from mnergraph.metrics.scores import score
from mnergraph.nn.heads.base import Head
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair
from mnergraph.quoting import listed

#: Name of the head, and of the scores, of entities.
TAGS = "tags"
#: What a special tag on a word counts as, see `EntityHead.decode_tags`.
SpecialTags = Literal["outside", "entities"]


class EntityHead(Head):
    """Base class of heads that give the entities of posts, in whatever way: `TaggingHead`, `SpanHead`.

    Evaluation, prediction, reports and occlusion use these methods alone.

    Args:
        labels: the label set.
        weight: weight of the loss in the model's loss.

    Attributes:
        gives_types: whether its entities' types are the result, and learned; not where a `GroundingHead` gives them.
    """

    gives_types = True
    shown = False  # its predictions are the post's entities, shown anyway

    def __init__(self, labels: LabelSet, *, weight: float = 1.0) -> None:
        super().__init__(TAGS, weight=weight)
        self.labels = labels

    @abstractmethod
    def decode(self, graph: GraphState) -> list[list[Entity]]:
        """Return the entities of every post, which do not overlap, in order, each with its probability."""

    @abstractmethod
    def decode_tags(self, graph: GraphState, *, special_tags: SpecialTags = "outside") -> list[list[str]]:
        """Return one tag for every word of every post.

        Args:
            graph: the last graph.
            special_tags: what a special tag (X, [CLS]) on a word counts as, for heads that predict any.
        """

    @abstractmethod
    def span_probabilities(
        self, graph: GraphState, spans: Sequence[Sequence[Span]], tags: Sequence[Sequence[str]]
    ) -> list[list[float]]:
        """Return the probability of any spans, decoded or not, 0 to 1.

        Args:
            graph: the last graph.
            spans: the spans of every post.
            tags: one tag for every word of every post, which mark the spans.
        """

    def gold(self, pair: Pair) -> tuple[str, ...] | None:
        """Return the pair's tags."""
        return pair.labels

    def metrics(self, gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]) -> Mapping[str, float]:
        """Return lenient and strict F1, precision and recall of tags, 0 to 1."""
        scores = score(gold, predicted)
        return {
            "f1": scores.lenient.f1,
            "precision": scores.lenient.precision,
            "recall": scores.lenient.recall,
            "strict_f1": scores.strict.f1,
        }


def pairs_of(graph: GraphState) -> list[Pair]:
    """Return the pairs of a batch, or the one of a single graph."""
    pairs = graph.data.pair
    return [pairs] if isinstance(pairs, Pair) else pairs


def gold_labels(graph: GraphState) -> Tensor:
    """Return the gold label index of every token, ``[tokens]``.

    Raises:
        ValueError: for posts without labels, by their ids.
    """
    gold: Tensor = graph.data["token"].y
    if gold.numel() and int(gold.min()) == NO_LABEL:
        unlabelled = [pair.id for pair in pairs_of(graph) if pair.labels is None]
        raise ValueError(f"posts without labels can't be trained on or scored: {listed(unlabelled)}")
    return gold


def word_layout(graph: GraphState) -> Layout:
    """Return the layout of the words that have a token: those of tokens where tokens are words."""
    tokens, starts = graph.layouts["token"], graph.data["token"].starts_word
    counts = torch.zeros_like(tokens.counts).index_add(0, tokens.graph_index, starts.long())
    return Layout(F.pad(counts.cumsum(0), (1, 0)))
