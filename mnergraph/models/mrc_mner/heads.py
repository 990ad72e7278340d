"""The two tasks beside entity spans: whether a type occurs in a post, and which regions concern it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from mnergraph.labels import LabelSet, tags_to_spans
from mnergraph.models.mrc_mner.layers import REGION_WEIGHTS
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.heads.base import Head, full_precision
from mnergraph.nn.heads.entities import gold_labels, pairs_of
from mnergraph.nn.heads.spans import GoldSpans
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

#: Name of the head, and of the scores, of existence detection.
EXISTENCE = "existence"


class ExistenceHead(Head):
    """Existence detection: whether a post has an entity of a type, for every type.

    Args:
        labels: the label set.
        weight: weight of the loss in the model's loss.
    """

    shown = False

    def __init__(self, labels: LabelSet, *, weight: float = 1.0) -> None:
        super().__init__(EXISTENCE, weight=weight)
        self.types, self.gold_spans = labels.types, GoldSpans(labels)

    def scores(self, graph: GraphState) -> Tensor:
        """Return the scores of every post's types, ``[posts, types]``."""
        return graph.emissions[self.name].view(graph.num_graphs, len(self.types))

    def loss(self, graph: GraphState) -> Tensor:
        """Return the mean cross entropy over the types of every post, ``[posts]``.

        Raises:
            ValueError: for a post without labels.
        """
        first, _, words = self.gold_spans(graph)
        scores = full_precision(self.scores(graph))
        occurs = segment_sum(first.to(scores.dtype), words.graph_index, words.num_graphs) > 0
        return F.binary_cross_entropy_with_logits(scores, occurs.to(scores.dtype), reduction="none").mean(-1)

    def decode(self, graph: GraphState) -> list[dict[str, float]]:
        """Return the probability of every type of every post, by type."""
        return [dict(zip(self.types, row, strict=True)) for row in self.scores(graph).sigmoid().tolist()]


class RegionWeightsHead(Head):
    """Region weights estimation: the regions' weights for a query against the regions of its type's entities.

    A post's data do not say which regions show an entity. Where phrases were grounded, the regions of phrases that have
    a word in common with a gold entity of a type are its targets y_tj, 1 divided by their number:

        loss = mean over types t of  - sum over objects j of  y_tj log a_tj

    A type without such regions adds nothing.

    Args:
        labels: the label set.
        weight: weight of the loss in the model's loss.
    """

    shown = False

    def __init__(self, labels: LabelSet, *, weight: float = 1.0) -> None:
        super().__init__(REGION_WEIGHTS, weight=weight)
        self.types = labels.types

    def loss(self, graph: GraphState) -> Tensor:
        """Return the cross entropy of every post's weights, ``[posts]``.

        Raises:
            ValueError: for a post without labels.
        """
        gold_labels(graph)
        weights, layout = full_precision(graph.emissions[self.name]), graph.layouts["object"]
        targets = [row for pair in pairs_of(graph) for row in self.targets(pair)]
        target = weights.new_tensor(targets).reshape(layout.num_nodes, len(self.types))
        log_weights = weights.clamp(min=torch.finfo(weights.dtype).tiny).log()
        by_object = -(target * log_weights).sum(-1, keepdim=True)
        return segment_sum(by_object, layout.graph_index, layout.num_graphs)[:, 0] / len(self.types)

    def targets(self, pair: Pair) -> list[list[float]]:
        """Return the target weight of every object of a pair for every type."""
        entities = tags_to_spans(pair.labels or ())
        concerns = [
            [
                obj.span is not None
                and any(it.type == name and it.start < obj.span[1] and obj.span[0] < it.end for it in entities)
                for name in self.types
            ]
            for obj in pair.objects
        ]
        totals = [sum(column) for column in zip(*concerns, strict=True)]
        return [[float(it) / max(1, total) for it, total in zip(row, totals, strict=True)] for row in concerns]

    def decode(self, graph: GraphState) -> list[dict[str, list[float]]]:
        """Return the weights of every post's objects, by type."""
        by_post = graph.emissions[self.name].split(graph.layouts["object"].counts.tolist())
        return [dict(zip(self.types, weights.t().tolist(), strict=True)) for weights in by_post]
