"""Systems side by side on the same posts: which entities each corrects and harms against a baseline.

An entity is right in a system's tags when its words and its type are. Against a baseline a gold entity is *corrected*
when the baseline does not have it and the system has, *harmed* when it is the other way round (UMT, figures 3 and 4).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.scores import Score, counts, score
from mnergraph.metrics.significance import Difference, compare

Tags = Sequence[Sequence[str]]


@dataclass(frozen=True)
class SystemRow:
    """One system's scores, and its gold entities against those of the baseline.

    Attributes:
        name: of the system.
        score: lenient precision, recall and F1.
        corrected: gold entities that the baseline does not have and the system has; 0 of the baseline itself.
        harmed: gold entities that the baseline has and the system does not have.
        removed: entities that the baseline has, the system does not have and that are not gold.
        added: entities that the system has, the baseline does not have and that are not gold.
        difference: in F1 to the baseline, with its interval and p; None of the baseline itself.
    """

    name: str
    score: Score
    corrected: int = 0
    harmed: int = 0
    removed: int = 0
    added: int = 0
    difference: Difference | None = None

    @property
    def net(self) -> int:
        """Corrected less harmed gold entities."""
        return self.corrected - self.harmed


@dataclass(frozen=True)
class Comparison:
    """Systems on the same posts.

    Args:
        gold: tags of every post.
        predicted: tags of every post by the systems' names, in the order of the rows.
        baseline: name of the system that the others are compared with.

    Raises:
        ValueError: when there are fewer than two systems, the baseline is none of them, or their posts differ.
    """

    gold: Tags
    predicted: Mapping[str, Tags]
    baseline: str

    def __post_init__(self) -> None:
        if len(self.predicted) < 2:
            raise ValueError("a comparison needs two systems or more")
        if self.baseline not in self.predicted:
            raise ValueError(f"the baseline {self.baseline!r} is none of {', '.join(self.predicted)}")

    def rows(self) -> list[SystemRow]:
        """Return a row per system, the baseline first.

        Raises:
            ValueError: when the posts of two systems differ in number or in length.
        """
        base = self.predicted[self.baseline]
        base_counts = counts(self.gold, base)
        rows = [SystemRow(self.baseline, score(self.gold, base).lenient)]
        for name, tags in self.predicted.items():
            if name == self.baseline:
                continue
            own = score(self.gold, tags).lenient
            changes = np.array([self.changes(name, post) for post in range(len(self.gold))], dtype=np.int64)
            corrected, harmed, removed, added = changes.reshape(-1, 4).sum(0).tolist()
            difference = compare(counts(self.gold, tags), base_counts)
            rows.append(SystemRow(name, own, corrected, harmed, removed, added, difference))
        return rows

    def changes(self, name: str, post: int) -> tuple[int, int, int, int]:
        """Return the numbers of corrected, harmed, removed and added entities of one post, see `SystemRow`."""
        gold, base, own = (set(spans) for spans in self.spans(name, post))
        return (
            len((gold - base) & own),
            len((gold & base) - own),
            len(base - gold - own),
            len(own - gold - base),
        )

    def spans(self, name: str, post: int) -> tuple[list[Span], list[Span], list[Span]]:
        """Return the entities of one post: gold, the baseline's and a system's."""
        tags = self.gold[post], self.predicted[self.baseline][post], self.predicted[name][post]
        gold, base, own = map(tags_to_spans, tags)
        return gold, base, own

    def differing(self) -> list[int]:
        """Return the indices of the posts of which a system has other entities than the baseline."""
        names = [name for name in self.predicted if name != self.baseline]
        return [post for post in range(len(self.gold)) if any(any(self.changes(name, post)) for name in names)]


def summary_table(rows: Sequence[SystemRow]) -> str:
    """Return the rows as a Markdown table, scores in percent."""
    lines = [
        "| system | P | R | F1 | against baseline | p | corrected | harmed | net | wrong ones removed | added |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in rows:
        scores = " | ".join(f"{100 * value:.2f}" for value in (row.score.precision, row.score.recall, row.score.f1))
        rest = " | | | | | | "
        if (d := row.difference) is not None:
            interval = f"{100 * d.f1:+.2f} [{100 * d.low:+.2f}, {100 * d.high:+.2f}]"
            changed = f"{row.corrected} | {row.harmed} | {row.net:+d} | {row.removed} | {row.added}"
            rest = f"{interval} | {d.p:.4f} | {changed}"
        lines.append(f"| {row.name} | {scores} | {rest} |")
    return "\n".join(lines)
