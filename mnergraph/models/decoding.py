"""What a model answers: the words' tags, and how sure it is of an entity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from mnergraph.labels import OUTSIDE, SPECIAL_TAGS, LabelSet, Span
from mnergraph.nn.heads.tagging import Task
from mnergraph.nn.state import GraphState


@dataclass(frozen=True)
class Entity:
    """Words ``start`` to ``end`` (not included) form an entity; ``score`` is its probability, 0 to 1."""

    start: int
    end: int
    type: str
    score: float


def decode_word_tags(graph: GraphState, task: Task, labels: LabelSet) -> list[list[str]]:
    """One tag for every word of every post, its first token's; what stands for no word counts as outside."""
    token, layout = graph.data["token"], graph.layouts["token"]
    best = task.decode(graph)[token.starts_word].tolist()
    counts = torch.zeros_like(layout.counts).index_add(0, layout.graph_index, token.starts_word.long())
    tags = (labels.tags[label] for label in best)
    names = (OUTSIDE if tag in SPECIAL_TAGS else tag for tag in tags)
    return [[next(names) for _ in range(count)] for count in counts.tolist()]


def span_marginal_product(
    graph: GraphState,
    task: Task,
    labels: LabelSet,
    found: Sequence[Sequence[Span]],
    tags: Sequence[Sequence[str]],
) -> list[list[float]]:
    """The product of the marginal probabilities of each span's words' tags, 0 to 1.

    Args:
        graph: the last graph.
        task: the one whose scorer tells the probabilities.
        labels: the label set that it counts in.
        found: the spans of every post.
        tags: one tag for every word of every post.
    """
    chances = graph.layouts["token"].to_flat(task.scorer.marginals(*task.scores(graph)))
    told = [labels.index(tag) for of_post in tags for tag in of_post]
    # [words]
    chosen = chances[graph.data["token"].starts_word].gather(-1, torch.tensor(told, device=chances.device)[:, None])[
        :, 0
    ]
    return [
        [words[span.start : span.end].prod().item() for span in post]
        for words, post in zip(chosen.split(list(map(len, tags))), found, strict=True)
    ]
