"""Scores of grounded entities against plain loops, by every convention."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mnergraph.data import read_conll
from mnergraph.labels import tags_to_spans
from mnergraph.metrics.grounding import (
    Convention,
    grounding_counts,
    proposal_ceiling,
    score_grounding,
)
from mnergraph.pair import Box, GroundedEntity

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data" / "grounded"
PERSON: Box = (0, 0, 100, 100)
#: IoU with PERSON: exactly one half.
HALF: Box = (0, 0, 100, 50)


def one(start: int, end: int, kind: str = "PER", *boxes: Box) -> GroundedEntity:
    return GroundedEntity(start, end, kind, boxes)


# --- cases by hand -----------------------------------------------------------------------------------------


def f1s(gold: Sequence[GroundedEntity], predicted: Sequence[GroundedEntity], **options: object) -> list[float]:
    found = score_grounding([gold], [predicted], **options)  # type: ignore[arg-type]
    return [found.gmner.f1, found.mner.f1, found.eeg.f1]


def test_what_is_right() -> None:
    in_image, outside = one(0, 2, "PER", PERSON), one(0, 2)
    assert f1s([in_image], [in_image]) == [1, 1, 1]
    assert f1s([outside], [outside]) == [1, 1, 1]
    assert f1s([in_image], [outside]) == f1s([outside], [in_image]) == [0, 1, 0]
    assert f1s([in_image], [one(0, 2, "LOC", PERSON)]) == [0, 0, 1]
    assert f1s([in_image], [one(0, 1, "PER", PERSON)]) == [0, 0, 0]
    assert f1s([in_image], [one(0, 2, "PER", (0, 0, 10, 10))]) == [0, 1, 0]
    assert f1s([one(0, 2, "PER", (500, 0, 600, 9), PERSON)], [in_image]) == [1, 1, 1], "any box of the entity"
    assert f1s([], []) == [0, 0, 0]


def test_an_iou_of_one_half() -> None:
    gold, predicted = [one(0, 1, "PER", PERSON)], [one(0, 1, "PER", HALF)]
    assert f1s(gold, predicted) == [1, 1, 1]
    assert f1s(gold, predicted, convention="h-index") == [0, 1, 0]
    assert f1s(gold, predicted, convention="e2e-gmner", words=[["Ann"]]) == [1, 1, 1]


def test_several_mentions() -> None:
    words = [["Ann", "met", "Ann", "and", "ann"]]
    gold = [one(0, 1, "PER", PERSON), one(2, 3, "PER", PERSON)]
    assert f1s(gold, [one(2, 3, "PER", PERSON)]) == pytest.approx([2 / 3] * 3)
    # the same words elsewhere: right by text, wrong by position
    elsewhere = [one(4, 5, "PER", PERSON)]
    assert f1s(gold, elsewhere, convention="e2e-gmner", words=words) == [0, 0, 0], "upper and lower case differ"
    swapped = [one(2, 3), one(0, 1, "PER", PERSON)]
    mixed = [one(0, 1), one(2, 3, "PER", PERSON)]
    assert f1s(mixed, swapped) == [0, 1, 0]
    assert f1s(mixed, swapped, convention="e2e-gmner", words=words) == [1, 1, 1]
    # the second prediction of one entity is wrong
    assert f1s(gold[:1], [gold[0], gold[0]]) == pytest.approx([2 / 3] * 3)


def test_further_figures() -> None:
    gold = [one(0, 1, "PER", PERSON), one(1, 2, "PER", PERSON), one(2, 3, "LOC"), one(3, 4, "LOC")]
    predicted = [gold[0], one(1, 2, "PER", (0, 0, 9, 9)), gold[2], one(3, 4, "LOC", PERSON), one(4, 5, "ORG")]
    found = score_grounding([gold], [predicted], proposals=[[HALF]])
    assert (found.gmner.precision, found.gmner.recall) == (2 / 5, 2 / 4)
    assert found.groundability == 3 / 4
    assert found.localization == 1 / 2
    assert found.ceiling == 1.0
    assert {name: (score.precision, score.recall) for name, score in found.gmner_by_type.items()} == {
        "PER": (1 / 2, 1 / 2),
        "LOC": (1 / 2, 1 / 2),
        "ORG": (0, 0),
    }
    assert (found.gmner_grounded.precision, found.gmner_grounded.recall) == (1 / 3, 1 / 2)
    assert (found.gmner_ungrounded.precision, found.gmner_ungrounded.recall) == (1 / 2, 1 / 2)
    assert "| GMNER | 40.00 | 50.00 | 44.44 | 4 |" in found.table()
    assert found.table().endswith("groundability 75.00, localization 50.00; with these proposals 100.00 can be right")
    assert json.loads(json.dumps(found.to_dict()))["eeg"]["gold"] == 4
    assert proposal_ceiling([gold], [[]]) == 1 / 2
    assert proposal_ceiling([[]], [[]]) == 1


def test_faults() -> None:
    with pytest.raises(ValueError, match="span 2:2 has no words"):
        one(2, 2)
    for box in ((0, 0, 0, 1), (0, 0, float("nan"), 1), (5, 0, 1, 1)):
        with pytest.raises(ValueError, match="right is left < right and top < bottom"):
            one(0, 1, "PER", box)
    with pytest.raises(ValueError, match="1 posts with gold entities, 0 with predicted ones"):
        score_grounding([[]], [])
    with pytest.raises(ValueError, match="2 boxes are predicted for span 0:1, not one"):
        score_grounding([[]], [[one(0, 1, "PER", PERSON, HALF)]])
    with pytest.raises(ValueError, match="convention 'mqspn' is not among positions, h-index, e2e-gmner"):
        score_grounding([[]], [[]], convention="mqspn")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="give those of every post"):
        score_grounding([[]], [[]], convention="e2e-gmner")
    with pytest.raises(ValueError, match="1 posts with entities, 2 with proposals"):
        proposal_ceiling([[]], [[], []])


# --- against plain loops -----------------------------------------------------------------------------------


def plain_counts(
    gold: Sequence[GroundedEntity], predicted: Sequence[GroundedEntity], convention: str, words: Sequence[str]
) -> list[list[int]]:
    """The counts by trying every way of pairing entities."""

    def iou(a: Box, b: Box) -> float:
        grid = {(x, y) for x in range(int(a[0]), int(a[2])) for y in range(int(a[1]), int(a[3]))}
        other = {(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))}
        return len(grid & other) / len(grid | other)

    def right(metric: str, g: GroundedEntity, p: GroundedEntity) -> bool:
        if convention == "e2e-gmner":
            same = " ".join(words[g.start : g.end]) == " ".join(words[p.start : p.end])
        else:
            same = (g.start, g.end) == (p.start, p.end)
        if metric != "EEG" and g.type != p.type:
            return False
        if metric == "MNER":
            return same
        if not g.boxes or not p.boxes:
            return same and len(g.boxes) == len(p.boxes) == 0
        best = max(iou(box, p.boxes[0]) for box in g.boxes)
        return same and (best > 0.5 if convention == "h-index" else best >= 0.5)

    found = []
    few, many = sorted((list(range(len(gold))), list(range(len(predicted)))), key=len)
    for metric in ("GMNER", "MNER", "EEG"):
        most = 0
        for order in itertools.permutations(many, len(few)):
            pairs = zip(few, order, strict=True) if len(gold) <= len(predicted) else zip(order, few, strict=True)
            most = max(most, sum(right(metric, gold[g], predicted[p]) for g, p in pairs))
        found.append([most, len(predicted), len(gold)])
    return found


def random_case(chance: random.Random) -> tuple[list[GroundedEntity], list[GroundedEntity], list[str]]:
    words = [chance.choice(["ann", "Ann", "paris"]) for _ in range(5)]

    def box() -> Box:
        left, top = chance.randrange(3), chance.randrange(3)
        return (left, top, left + chance.randint(1, 3), top + chance.randint(1, 3))

    def entity(boxes: int) -> GroundedEntity:
        start = chance.randrange(4)
        kind = chance.choice(["PER", "LOC"])
        return one(start, start + chance.randint(1, 2), kind, *(box() for _ in range(boxes)))

    gold = [entity(chance.choice([0, 0, 1, 1, 2, 3])) for _ in range(chance.randrange(4))]
    gold += gold[:1] * (chance.random() < 0.1)
    predicted = [
        GroundedEntity(known.start, known.end, chance.choice(["PER", known.type]), (box(),) * (chance.random() < 0.5))
        if chance.random() < 0.6
        else GroundedEntity(known.start, known.end, known.type, known.boxes[:1])
        for known in chance.sample(gold, chance.randint(0, len(gold)))
    ]
    predicted += [entity(chance.randrange(2)) for _ in range(chance.randrange(2))]
    predicted += predicted[:1] * (chance.random() < 0.1)
    return gold, predicted, words


@pytest.mark.parametrize("convention", ["positions", "h-index", "e2e-gmner"])
def test_counts_of_ten_thousand_cases(convention: Convention) -> None:
    chance, cases = random.Random(0), 10_000
    gold, predicted, words = map(list, zip(*(random_case(chance) for _ in range(cases)), strict=True))
    counts = grounding_counts(gold, predicted, convention=convention, words=words)
    expected = np.array(
        [plain_counts(*case, convention, text) for *case, text in zip(gold, predicted, words, strict=True)]
    )
    assert (counts == expected).all()
    assert (counts[:, 0, 0] > 0).sum() > 1000
    totals = counts.sum(0)
    found = score_grounding(gold, predicted, convention=convention, words=words)
    for score, (right, said, there) in zip((found.gmner, found.mner, found.eeg), totals, strict=True):
        assert score.precision == right / said
        assert score.recall == right / there
        assert score.f1 == pytest.approx(2 * right / (said + there))
    assert found.gmner_grounded.gold + found.gmner_ungrounded.gold == totals[0, 2]
    assert sum(score.gold for score in found.gmner_by_type.values()) == totals[0, 2]


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs GMNER's text and boxes beside the project")
def test_real_boxes() -> None:
    boxes: dict[str, dict[str, list[Box]]] = {}
    for line in map(json.loads, (SHARED / "boxes.jsonl").read_text(encoding="utf-8").splitlines()):
        for entry in line["boxes"]:
            boxes.setdefault(line["id"], {}).setdefault(entry["entity"], []).append(tuple(entry["box"]))
    pairs = read_conll(SHARED / "test.txt")
    gold = [
        [
            GroundedEntity(*span, tuple(boxes.get(pair.id, {}).get(" ".join(pair.words[span.start : span.end]), ())))
            for span in tags_to_spans(pair.labels or ())
        ]
        for pair in pairs
    ]
    assert sum(map(len, gold)) == 2543
    nowhere = [[GroundedEntity(entity.start, entity.end, entity.type) for entity in post] for post in gold]
    found = score_grounding(gold, nowhere, proposals=[[]] * len(gold))
    assert Counter(bool(entity.boxes) for post in gold for entity in post) == {True: 1046, False: 1497}
    assert (found.mner.f1, found.gmner.recall, found.ceiling) == (1.0, 1497 / 2543, 1497 / 2543)
    assert {name: round(100 - 100 * score.recall, 1) for name, score in found.gmner_by_type.items()} == {
        "PER": 64.4,
        "OTHER": 28.7,
        "ORG": 28.4,
        "LOC": 9.9,
    }
