"""Scores against counts by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnergraph.data.formats.conll import read_conll
from mnergraph.labels import tags_to_spans
from mnergraph.metrics.scores import Score, Scores, score


def by_hand(gold: list[list[str]], predicted: list[list[str]], *, strict: bool, kind: str | None = None) -> Score:
    """Precision, recall and F1 of sets of spans."""
    gold_spans, predicted_spans = (
        {
            (index, *span)
            for index, tags in enumerate(some)
            for span in tags_to_spans(tags, strict=strict)
            if kind in (None, span.type)
        }
        for some in (gold, predicted)
    )
    right = len(gold_spans & predicted_spans)
    precision, recall = (
        right / len(predicted_spans) if predicted_spans else 0.0,
        right / len(gold_spans) if gold_spans else 0.0,
    )
    f1 = 2 * precision * recall / (precision + recall) if right else 0.0
    return Score(precision, recall, f1, len(gold_spans))


def near(one: Score, other: Score) -> bool:
    return [one.precision, one.recall, one.f1, one.gold] == pytest.approx(
        [other.precision, other.recall, other.f1, other.gold]
    )


def test_counted_by_hand() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["O", "B-ORG", "I-ORG"], ["B-PER", "B-PER"]]
    #           right               wrong type      too short              right   missed
    predicted = [["B-PER", "I-PER", "O", "B-PER"], ["O", "B-ORG", "O"], ["B-PER", "O"]]
    found = score(gold, predicted)
    # 2 right of 4 predicted, of 5 gold
    assert near(found.lenient, Score(2 / 4, 2 / 5, 4 / 9, 5))
    assert near(found.strict, Score(2 / 4, 2 / 5, 4 / 9, 5))
    assert near(found.lenient_by_type["PER"], Score(2 / 3, 2 / 3, 2 / 3, 3))
    assert near(found.lenient_by_type["LOC"], Score(0, 0, 0, 1))
    assert near(found.lenient_by_type["ORG"], Score(0, 0, 0, 1))
    assert set(found.lenient_by_type) == set(found.strict_by_type) == {"PER", "LOC", "ORG"}


def test_invalid_inside_tags_count_only_leniently() -> None:
    gold = [["B-PER", "I-PER", "O"], ["I-LOC", "O", "B-LOC"]]
    predicted = [["I-PER", "I-PER", "O"], ["I-LOC", "O", "B-LOC"]]
    found = score(gold, predicted)
    assert near(found.lenient, Score(1.0, 1.0, 1.0, 3))
    # strictly gold holds the first PER and the last LOC; of the predicted ones only that LOC opens with a B
    assert near(found.strict, Score(1.0, 1 / 2, 2 / 3, 2))
    assert near(found.strict_by_type["LOC"], Score(1.0, 1.0, 1.0, 1))
    assert near(found.strict_by_type["PER"], Score(0.0, 0.0, 0.0, 1))


@pytest.mark.parametrize("strict", [False, True])
def test_against_sets_of_spans(strict: bool) -> None:
    import random

    chance = random.Random(5)
    tags = ["O", "O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    for _ in range(30):
        lengths = [chance.randint(1, 6) for _ in range(4)]
        gold, predicted = ([[chance.choice(tags) for _ in range(n)] for n in lengths] for _ in range(2))
        found = score(gold, predicted)
        of_type = found.strict_by_type if strict else found.lenient_by_type
        assert near(found.strict if strict else found.lenient, by_hand(gold, predicted, strict=strict))
        for kind, value in of_type.items():
            assert near(value, by_hand(gold, predicted, strict=strict, kind=kind))


NOTHING = Score(0.0, 0.0, 0.0, 0)


@pytest.mark.parametrize(
    ("gold", "predicted", "lenient", "strict"),
    [
        ([], [], NOTHING, NOTHING),
        ([["O", "O"]], [["O", "O"]], NOTHING, NOTHING),
        ([["B-PER", "O"]], [["O", "O"]], Score(0.0, 0.0, 0.0, 1), Score(0.0, 0.0, 0.0, 1)),
        ([["O", "O"]], [["B-PER", "O"]], NOTHING, NOTHING),
        # only invalid I- tags: strictly there is no entity
        ([["I-PER", "O"]], [["I-PER", "O"]], Score(1.0, 1.0, 1.0, 1), NOTHING),
        ([["I-PER", "O"]], [["O", "O"]], Score(0.0, 0.0, 0.0, 1), NOTHING),
        ([["B-PER", "O"]], [["O", "I-PER"]], Score(0.0, 0.0, 0.0, 1), Score(0.0, 0.0, 0.0, 1)),
    ],
)
def test_few_or_no_entities(gold: list, predicted: list, lenient: Score, strict: Score) -> None:
    found = score(gold, predicted)
    assert found.lenient == lenient
    assert found.strict == strict
    assert found.table()


def test_types_that_only_predictions_have() -> None:
    found = score([["B-PER", "O"]], [["B-PER", "B-LOC"]])
    assert found.lenient_by_type["LOC"] == NOTHING
    assert near(found.lenient, Score(1 / 2, 1.0, 2 / 3, 1))
    assert near(found.lenient_by_type["PER"], Score(1.0, 1.0, 1.0, 1))


def test_entities_do_not_cross_sentences() -> None:
    """UMGF's released scorer reads a whole file as one sequence."""
    found = score([["O", "B-PER"], ["I-PER", "O"]], [["O", "B-PER"], ["I-PER", "O"]])
    assert found.lenient.gold == 2


def test_unequal_lengths() -> None:
    with pytest.raises(ValueError, match="2 sentences of gold tags, 1 of predicted ones"):
        score([["O"], ["O"]], [["O"]])
    with pytest.raises(ValueError, match="sentence 1: 2 gold tags, 1 predicted ones"):
        score([["O"], ["O", "O"]], [["O"], ["O"]])


def test_tuples_and_lists_are_equivalent() -> None:
    assert score([("B-PER", "O")], (["B-PER", "O"],)) == score([["B-PER", "O"]], [["B-PER", "O"]])


def test_table_and_json() -> None:
    found = score([["B-PER", "I-LOC"]], [["B-PER", "I-LOC"]])
    assert found.table().splitlines() == [
        "| type | P | R | F1 | gold | strict P | R | F1 | gold |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        "| all | 100.00 | 100.00 | 100.00 | 2 | 100.00 | 100.00 | 100.00 | 1 |",
        "| LOC | 100.00 | 100.00 | 100.00 | 1 | 0.00 | 0.00 | 0.00 | 0 |",
        "| PER | 100.00 | 100.00 | 100.00 | 1 | 100.00 | 100.00 | 100.00 | 1 |",
    ]
    plain = json.loads(json.dumps(found.to_dict()))
    assert plain["lenient"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "gold": 2}
    assert isinstance(found, Scores)


@pytest.mark.parametrize("name", ["twitter2015", "twitter2017"])
def test_real_gold_against_itself(shared: Path, name: str) -> None:
    gold = [list(pair.labels or ()) for pair in read_conll(shared / name / "test.txt")]
    found = score(gold, gold)
    assert found.lenient == Score(1.0, 1.0, 1.0, sum(len(tags_to_spans(tags)) for tags in gold))
    assert found.strict == Score(1.0, 1.0, 1.0, sum(len(tags_to_spans(tags, strict=True)) for tags in gold))
    # every tag shifted by one: few entities are right, as counted by hand
    moved = [tags[-1:] + tags[:-1] for tags in gold]
    assert near(score(gold, moved).lenient, by_hand(gold, moved, strict=False))
