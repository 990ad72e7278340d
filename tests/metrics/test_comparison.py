"""Who corrects and harms which entities, against counting by hand."""

from __future__ import annotations

import random

import pytest

from mnergraph.labels import spans_to_tags, tags_to_spans
from mnergraph.metrics.comparison import Comparison, SystemRow, summary_table
from mnergraph.metrics.scores import counts, score
from mnergraph.metrics.significance import compare

GOLD = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "O"], ["B-ORG", "O", "O"]]
TEXT = [["B-PER", "O", "O", "B-LOC"], ["B-LOC", "O"], ["B-ORG", "O", "O"]]
BOTH = [["B-PER", "I-PER", "O", "O"], ["O", "B-PER"], ["B-LOC", "O", "O"]]


def test_counts() -> None:
    comparison = Comparison(GOLD, {"UMGF": BOTH, "BERT-CRF": TEXT}, "BERT-CRF")
    base, row = comparison.rows()
    assert base == SystemRow("BERT-CRF", score(GOLD, TEXT).lenient)
    assert (row.name, row.score) == ("UMGF", score(GOLD, BOTH).lenient)
    # corrected: Bob Ann; harmed: the place and the organization; B-PER of one word and a place are gone
    assert (row.corrected, row.harmed, row.removed, row.added, row.net) == (1, 2, 2, 2, -1)
    assert [comparison.changes("UMGF", post) for post in range(3)] == [(1, 1, 1, 0), (0, 0, 1, 1), (0, 1, 0, 1)]
    assert comparison.differing() == [0, 1, 2]
    assert row.difference == compare(counts(GOLD, BOTH), counts(GOLD, TEXT))
    table = summary_table([base, row]).splitlines()
    assert table[2].startswith(f"| BERT-CRF | {100 * base.score.precision:.2f} |")
    assert table[3].endswith("| 1 | 2 | -1 | 2 | 2 |")
    assert len({line.count("|") for line in table}) == 1


@pytest.mark.parametrize("seed", range(5))
def test_counts_of_random_tags(seed: int) -> None:
    draw = random.Random(seed)

    def tags() -> list[str]:
        spans = [(i, i + 1, draw.choice(["PER", "LOC"])) for i in range(6) if draw.random() < 0.5]
        return spans_to_tags(spans, 6)

    gold, base, own = ([tags() for _ in range(20)] for _ in range(3))
    _, row = Comparison(gold, {"a": base, "b": own}, "a").rows()
    corrected = harmed = removed = added = 0
    for g, b, o in zip(gold, base, own, strict=True):
        for span in {*tags_to_spans(g), *tags_to_spans(b), *tags_to_spans(o)}:
            there = span in tags_to_spans(g), span in tags_to_spans(b), span in tags_to_spans(o)
            corrected += there == (True, False, True)
            harmed += there == (True, True, False)
            removed += there == (False, True, False)
            added += there == (False, False, True)
    assert (row.corrected, row.harmed, row.removed, row.added) == (corrected, harmed, removed, added)
    base_right, own_right = counts(gold, base)[:, 0].sum(), counts(gold, own)[:, 0].sum()
    assert row.net == own_right - base_right


def test_the_same_system_changes_nothing() -> None:
    comparison = Comparison(GOLD, {"a": TEXT, "b": TEXT}, "a")
    assert comparison.differing() == []
    assert comparison.rows()[1].net == 0


def test_what_can_not_be_compared() -> None:
    with pytest.raises(ValueError, match="two systems or more"):
        Comparison(GOLD, {"a": TEXT}, "a")
    with pytest.raises(ValueError, match="'c' is none of a, b"):
        Comparison(GOLD, {"a": TEXT, "b": BOTH}, "c")
    with pytest.raises(ValueError, match="3 sentences of gold tags, 2 of predicted"):
        Comparison(GOLD, {"a": TEXT, "b": BOTH[:2]}, "a").rows()
