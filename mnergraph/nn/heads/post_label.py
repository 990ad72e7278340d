"""A head with one label per post, such as whether the image matters to the text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.nn.heads.base import Head
from mnergraph.nn.post_means import post_means
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair


class PostLabelHead(Head):
    """One label per post, by a softmax over the mean of node features.

    scores = W [mean of x_1, mean of x_2, ...] + b; a post without nodes of a type has a mean of zeros. The gold label
    is ``pair.extra[name]``; posts without one add nothing to the loss.

    Args:
        name: name of the task and of the gold label in ``pair.extra``.
        labels: the labels' names.
        hidden_size: features of a node, summed over ``in_keys``.
        in_keys: names of features in the last graph, of any node types.
        weight: weight of the loss in the model's loss.
    """

    def __init__(
        self,
        name: str,
        labels: Sequence[str],
        hidden_size: int,
        *,
        in_keys: Sequence[str] = ("token",),
        weight: float = 1.0,
    ) -> None:
        super().__init__(name, weight=weight)
        self.labels, self.in_keys = tuple(labels), tuple(in_keys)
        self.linear = nn.Linear(hidden_size, len(self.labels))

    def loss(self, graph: GraphState) -> Tensor:
        """Return the cross entropy of every post, ``[posts]``, 0 without a gold label.

        Raises:
            ValueError: for a gold label that is not among the labels.
        """
        scores = self.scores(graph)
        gold = torch.tensor([self._label_id(pair) for pair in graph.data.pair], device=scores.device)
        return F.cross_entropy(scores, gold, ignore_index=_NO_LABEL, reduction="none")

    def scores(self, graph: GraphState) -> Tensor:
        """Return the scores of every post's labels, ``[posts, labels]``.

        Raises:
            KeyError: for features whose node type no layer declared.
        """
        scores: Tensor = self.linear(torch.cat([post_means(graph, key) for key in self.in_keys], -1))
        return scores

    def decode(self, graph: GraphState) -> list[dict[str, str | float]]:
        """Return ``label`` and ``score``, its probability, of every post."""
        best = self.scores(graph).softmax(-1).max(-1)
        return [
            {"label": self.labels[label], "score": round(score, 6)}
            for score, label in zip(best.values.tolist(), best.indices.tolist(), strict=True)
        ]

    def gold(self, pair: Pair) -> str | None:
        """Return the pair's label."""
        return pair.extra.get(self.name)

    def metrics(self, gold: Sequence[str], predicted: Sequence[Mapping[str, str]]) -> Mapping[str, float]:
        """Return accuracy and macro-averaged F1, 0 to 1."""
        from sklearn.metrics import f1_score  # slow to import and not needed for training

        labels = [prediction["label"] for prediction in predicted]
        correct = sum(expected == label for expected, label in zip(gold, labels, strict=True))
        macro = f1_score(gold, labels, labels=self.labels, average="macro", zero_division=0.0)
        return {"accuracy": correct / len(gold) if gold else 0.0, "macro_f1": float(macro)}

    def _label_id(self, pair: Pair) -> int:
        label = self.gold(pair)
        if label is None:
            return _NO_LABEL
        if label not in self.labels:
            raise ValueError(f"post {pair.id!r}: {self.name} {label!r} is not among {', '.join(self.labels)}")
        return self.labels.index(label)


_NO_LABEL = -100
