"""Reading tags off the last graph: a task owns a label set and a scorer; a side task may hint at another."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnergraph.graph.collate import EdgeType
from mnergraph.labels import LabelSet, span_label
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.layers.transformer import TransformerConfig
from mnergraph.nn.state import GraphState


class TaggingScores(nn.Module):
    """Linear scores of a task's labels from the tokens' features; several features are concatenated first.

    Args:
        task: under which name the scores go into the graph.
        width: of the features, all together.
        labels: how many labels.
        read: names of the features.
    """

    def __init__(self, task: str, hidden_size: int, num_labels: int, *, in_keys: Sequence[str] = ("token",)) -> None:
        super().__init__()
        self.task, self.in_keys = task, tuple(in_keys)
        self.linear = nn.Linear(hidden_size, num_labels)

    def forward(self, graph: GraphState) -> GraphState:
        features = torch.cat([graph.x[name] for name in self.in_keys], -1)
        return graph.with_scores(self.task, self.linear(features))


class LabelTransfer(nn.Module):
    """One task's scores help another's, through a conversion matrix (UMT, eq. 7).

    scores of target = own * scores of target + share * scores of source @ W

    Args:
        source: the task that hints.
        target: the task that is told.
        matrix: W to begin with, ``[labels of the first, labels of the second]``.
        learned: whether W is trained.
        target_weight: what the second task's own scores count for; the papers' 1, UMT's released code has 0.5.
        source_weight: what the hint counts for; the same.
    """

    matrix: Tensor

    def __init__(
        self,
        source: str,
        target: str,
        matrix: Tensor,
        *,
        learned: bool = True,
        target_weight: float = 1.0,
        source_weight: float = 1.0,
    ) -> None:
        super().__init__()
        self.source, self.target, self.target_weight, self.source_weight = source, target, target_weight, source_weight
        if learned:
            self.matrix = nn.Parameter(matrix.clone())
        else:
            self.register_buffer("matrix", matrix.clone())

    def forward(self, graph: GraphState) -> GraphState:
        hint = graph.emissions[self.source] @ self.matrix
        return graph.with_scores(
            self.target, self.target_weight * graph.emissions[self.target] + self.source_weight * hint
        )


def conversion_matrix(labels: LabelSet) -> Tensor:
    """Which tags a span label can become, each with the same share (UMT, section 2.4).

    Returns:
        ``[labels.boundaries, labels]``; row ``B`` holds 1 / types at every ``B-T`` and 0 elsewhere.
    """
    becomes = torch.zeros(len(labels.span_labels), len(labels))
    becomes[span_label_ids(labels), torch.arange(len(labels))] = 1.0
    return becomes / becomes.sum(1, keepdim=True)


def span_label_ids(labels: LabelSet) -> Tensor:
    """The place in ``labels.boundaries`` of every tag's span label, ``[labels]``."""
    return torch.tensor([labels.span_labels.index(span_label(tag)) for tag in labels])


class Task(nn.Module):
    """What a model is trained to tell of every token: a label set, a scorer and a weight in the loss.

    Args:
        name: the emissions it reads.
        scorer: a CRF or a softmax over the label set ``scorer.tags``.
        weight: of its loss in the model's.
        reads: for a side task, its own label of each of the tags, ``[tags]``; None where it reads the tags
            themselves.
    """

    reads: Tensor | None

    def __init__(
        self, name: str, scorer: CRF | IndependentTags, *, weight: float = 1.0, reads: Tensor | None = None
    ) -> None:
        super().__init__()
        self.name, self.scorer, self.weight = name, scorer, weight
        self.register_buffer("reads", reads, persistent=False)

    def loss(self, graph: GraphState, gold: Tensor) -> Tensor:
        """Negative log-likelihood of every sentence, ``[sentences]``; ``gold`` is the tags, ``[tokens]``."""
        layout = graph.layouts["token"]
        if self.reads is not None:
            gold = self.reads[gold]
        emissions, mask = self.scores(graph)
        return -self.scorer(emissions, layout.to_dense(gold), mask)

    def decode(self, graph: GraphState) -> Tensor:
        """The best label of every token, ``[tokens]``."""
        return graph.layouts["token"].to_flat(self.scorer.decode(*self.scores(graph)))

    def scores(self, graph: GraphState) -> tuple[Tensor, Tensor]:
        """Padded emissions ``[sentences, slots, labels]`` and their mask ``[sentences, slots]``."""
        layout = graph.layouts["token"]
        return layout.to_dense(graph.emissions[self.name]), layout.mask


def span_scores(relation: EdgeType, labels: LabelSet, transformers: TransformerConfig) -> list[nn.Module]:
    """Layers to the scores of `span_task` (UMT, section 2.4; GEI, eqs. 2-3; MGCMT, section 3.4).

    A transformer layer of its own over the words as they are so far, which stay as they are, and a linear map
    to B, I and O.

    Args:
        relation: among words.
        labels: the tags' label set.
        transformers: makes the layer.
    """
    block = transformers.layer(relation, out_key="spans")
    return [block, TaggingScores("spans", transformers.hidden_size, len(labels.span_labels), in_keys=("spans",))]


def span_task(labels: LabelSet, weight: float, *, name: str = "spans") -> Task:
    """The side task itself: a CRF over B, I and O (UMT, section 2.4)."""
    return Task(name, CRF(labels.span_labels.tags), weight=weight, reads=span_label_ids(labels))
