"""Partial matches: the cases of the task's definition, and counts of an independent pairing on random and real tags."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from mnergraph.data.formats.conll import read_conll
from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.schemes import SCHEMES, SchemeScore, score_schemes
from mnergraph.metrics.scores import score

COR, INC, PAR, MIS, SPU = "correct", "incorrect", "partial", "missed", "spurious"


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-P I-P O", "B-P I-P O", {"strict": COR, "exact": COR, "partial": COR, "type": COR}),
        ("O O O", "B-P O O", {"strict": SPU, "exact": SPU, "partial": SPU, "type": SPU}),
        ("B-P O O", "O O O", {"strict": MIS, "exact": MIS, "partial": MIS, "type": MIS}),
        ("B-P I-P O", "B-L I-L O", {"strict": INC, "exact": COR, "partial": COR, "type": INC}),
        ("O B-P I-P", "B-P I-P I-P", {"strict": INC, "exact": INC, "partial": PAR, "type": COR}),
        ("O B-P I-P", "B-L I-L I-L", {"strict": INC, "exact": INC, "partial": PAR, "type": INC}),
    ],
)
def test_cases_of_the_definition(gold: str, predicted: str, expected: dict[str, str]) -> None:
    found = score_schemes([gold.split()], [predicted.split()]).all
    for scheme, kind in expected.items():
        assert found[scheme] == SchemeScore(**{kind: 1}), scheme


def test_precision_and_recall() -> None:
    it = SchemeScore(correct=3, incorrect=1, partial=2, missed=4, spurious=2)
    assert (it.precision, it.recall) == (4 / 8, 4 / 10)
    assert it.f1 == pytest.approx(2 * 0.5 * 0.4 / 0.9)
    assert SchemeScore().f1 == 0.0


def pairing(gold: list[Span], predicted: list[Span], scheme: str) -> SchemeScore:
    """Counts by a pairing of its own: the best predictions of every scheme take their gold entity first."""

    def words(one: Span, other: Span) -> bool:
        return (one.start, one.end) == (other.start, other.end)

    def good(one: Span, other: Span) -> bool:
        return {
            "strict": one == other,
            "exact": words(one, other),
            "partial": words(one, other),
            "type": one.type == other.type,
        }[scheme]

    counts = dict.fromkeys((COR, INC, PAR, MIS, SPU), 0)
    left = list(gold)
    for span in predicted:
        shared = [other for other in left if other.start < span.end and span.start < other.end]
        best = [other for other in shared if good(span, other)]
        if best and scheme == "type":
            best.sort(key=lambda other: abs(other.start - span.start) + abs(other.end - span.end))
        if not shared:
            counts[SPU] += 1
            continue
        left.remove((best or shared)[0])
        counts[COR if best else PAR if scheme == "partial" else INC] += 1
    counts[MIS] = len(left)
    return SchemeScore(**counts)


def added(scores: list[SchemeScore]) -> SchemeScore:
    return SchemeScore(*(sum(getattr(it, kind) for it in scores) for kind in (COR, INC, PAR, MIS, SPU)))


def expected(gold: list[list[str]], predicted: list[list[str]], scheme: str, kind: str | None = None) -> SchemeScore:
    return added(
        [
            pairing(*([span for span in tags_to_spans(tags) if kind in (None, span.type)] for tags in both), scheme)
            for both in zip(gold, predicted, strict=True)
        ]
    )


def compared(gold: list[list[str]], predicted: list[list[str]]) -> None:
    found = score_schemes(gold, predicted)
    assert found.by_type.keys() == {span.type for tags in (*gold, *predicted) for span in tags_to_spans(tags)}
    for scheme in SCHEMES:
        assert found.all[scheme] == expected(gold, predicted, scheme)
        for kind, of_type in found.by_type.items():
            assert of_type[scheme] == expected(gold, predicted, scheme, kind)
    lenient = score(gold, predicted).lenient
    strict = found.all["strict"]
    assert (strict.precision, strict.recall) == pytest.approx((lenient.precision, lenient.recall))
    assert {sum((it.correct, it.incorrect, it.partial, it.missed)) for it in found.all.values()} == {lenient.gold}


def test_random_tags() -> None:
    chance = random.Random(3)
    tags = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "I-LOC"]
    for _ in range(40):
        lengths = [chance.randint(1, 9) for _ in range(5)]
        gold, predicted = ([[chance.choice(tags) for _ in range(n)] for n in lengths] for _ in range(2))
        compared(gold, predicted)


def test_real_tags_against_shifted_ones(shared: Path) -> None:
    gold = [list(pair.labels or ()) for pair in read_conll(shared / "twitter2017" / "test.txt")]
    compared(gold, [tags[-1:] + tags[:-1] for tags in gold])


def test_nothing_to_score() -> None:
    found = score_schemes([["O"], []], [["O"], []])
    assert found.all == dict.fromkeys(SCHEMES, SchemeScore())
    assert found.by_type == {}
    assert score_schemes([], []) == found
    assert found.table()
    with pytest.raises(ValueError, match="sentence 0: 1 gold tags, 2 predicted ones"):
        score_schemes([["O"]], [["O", "O"]])


def test_table_and_json() -> None:
    found = score_schemes([["B-PER", "I-PER", "O", "B-LOC"]], [["B-PER", "O", "O", "B-LOC"]])
    assert found.table().splitlines() == [
        "| scheme | P | R | F1 | COR | INC | PAR | MIS | SPU |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        "| strict | 50.00 | 50.00 | 50.00 | 1 | 1 | 0 | 0 | 0 |",
        "| exact | 50.00 | 50.00 | 50.00 | 1 | 1 | 0 | 0 | 0 |",
        "| partial | 75.00 | 75.00 | 75.00 | 1 | 0 | 1 | 0 | 0 |",
        "| type | 100.00 | 100.00 | 100.00 | 2 | 0 | 0 | 0 | 0 |",
        "",
        "| F1 of type | strict | exact | partial | type |",
        "|---|--:|--:|--:|--:|",
        "| LOC | 100.00 | 100.00 | 100.00 | 100.00 |",
        "| PER | 0.00 | 0.00 | 50.00 | 100.00 |",
    ]
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["all"]["partial"]["f1"] == 0.75
    assert plain["by_type"]["PER"]["strict"][INC] == 1
