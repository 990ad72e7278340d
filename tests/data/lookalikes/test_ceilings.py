"""Ceilings: hand-computed values, edge cases and simulation."""

from __future__ import annotations

import random
from itertools import combinations
from pathlib import Path

import pytest

from mnergraph.data.lookalikes.ceilings import GroundTruth, best_f1, ceiling, grounding_ceiling, image_ceiling
from mnergraph.data.lookalikes.grammar import TYPES
from mnergraph.pair import Pair


def posts(categories: list[str]) -> tuple[list[Pair], dict[str, GroundTruth]]:
    """Return one post per category: "plain", "resolved", "misled" (depicted with another type) or "undetermined"."""
    pairs, truth = [], {}
    for index, category in enumerate(categories):
        pairs.append(Pair(("Jordan", "!"), (f"B-{TYPES[index % 4]}", "O"), id=str(index)))
        name = frozenset({(0, 1)})
        truth[str(index)] = GroundTruth(
            ambiguous=name if category != "plain" else frozenset(),
            depicted=name if category in ("resolved", "misled") else frozenset(),
            resolved=name if category == "resolved" else frozenset(),
        )
    return pairs, truth


def test_hand_computed_values() -> None:
    data = posts(["plain"] * 4 + ["resolved"] * 12 + ["undetermined"] * 4)
    text, image = ceiling(*data), image_ceiling(*data)
    assert text.accuracy == text.f1 == text.best_constant == (4 + 16 / 4) / 20
    assert image.accuracy == (4 + 12 + 1) / 20
    assert image.f1 == 2 * 16 / (16 + 20)  # without the four undetermined names
    assert text.spread == pytest.approx((16 * 3 / 16) ** 0.5 / 20)


def test_best_constant_is_the_most_frequent_type() -> None:
    pairs, truth = posts(["undetermined"] * 5)  # PER LOC ORG MISC PER
    assert ceiling(pairs, truth).best_constant == 2 / 5


def test_misleading_images_lower_the_ceiling() -> None:
    data = posts(["resolved"] * 8 + ["misled"] * 8)
    assert image_ceiling(*data).accuracy == (8 + 8 / 4) / 16
    assert image_ceiling(*posts(["misled"] * 8)) == ceiling(*posts(["undetermined"] * 8))


def test_a_split_without_entities_or_labels_has_no_score() -> None:
    assert ceiling([Pair(("hi",), ("O",), id="0"), Pair(("ho",), id="1")], {}).f1 == 0


def test_best_f1_is_the_best_over_all_sets_of_groups() -> None:
    rng = random.Random(0)
    for _ in range(50):
        groups = [(rng.randint(1, 30), rng.random()) for _ in range(4)]
        total = sum(count for count, _ in groups)
        chosen = (subset for size in range(1, 5) for subset in combinations(groups, size))
        best = max(2 * sum(n * p for n, p in s) / (sum(n for n, _ in s) + total) for s in chosen)
        assert best_f1(groups) == pytest.approx(best)


def test_expected_scores_agree_with_simulation() -> None:
    pairs, truth = posts(["plain"] * 30 + ["undetermined"] * 90)
    expected = ceiling(pairs, truth)
    rng = random.Random(0)
    runs = [(30 + sum(rng.choice(TYPES) == rng.choice(TYPES) for _ in range(90))) / 120 for _ in range(2000)]
    mean = sum(runs) / len(runs)
    spread = (sum((run - mean) ** 2 for run in runs) / len(runs)) ** 0.5
    assert mean == pytest.approx(expected.accuracy, abs=0.004)
    assert spread == pytest.approx(expected.spread, rel=0.1)


def grounded(**counts: int) -> tuple[list[Pair], dict[str, GroundTruth]]:
    """Return so many posts of one entity each of these kinds, with what the image shows of it."""
    name = frozenset({(0, 1)})
    shown = {"ambiguous": name, "depicted": name, "resolved": name, "distracted": name}
    kinds = {
        "plain": {},
        "no_image": {"ambiguous": name, "cued": name},
        "irrelevant": {"ambiguous": name, "cued": name},
        "cued": {**shown, "cued": name, "proposed": name},
        "not_cued": {**shown, "proposed": name},
        "not_proposed": {**shown, "cued": name},
        "not_seen": {**shown, "cued": name, "distracted": frozenset()},
        "misled": {**shown, "cued": name, "proposed": name, "resolved": frozenset()},
    }
    pairs, truth = [], {}
    for kind, count in counts.items():
        for number in range(count):
            path = None if kind == "no_image" else Path("x.jpg")
            pairs.append(Pair(("Jordan", "!"), ("B-PER", "O"), id=f"{kind}{number}", image_path=path))
            truth[pairs[-1].id] = GroundTruth(**kinds[kind])
    return pairs, truth


def test_grounding_ceilings_by_hand() -> None:
    cued = grounding_ceiling(*grounded(plain=2, cued=8))
    assert (cued.gmner, cued.mner, cued.eeg) == (1, 1, 1)
    half = grounding_ceiling(*grounded(plain=2, not_cued=8))
    assert (half.gmner, half.mner, half.eeg) == (6 / 10, 1, 6 / 10)
    hidden = grounding_ceiling(*grounded(plain=8, not_proposed=2))
    assert (hidden.gmner, hidden.mner) == (2 * 8 / (8 + 10), 1)
    unseen = grounding_ceiling(*grounded(plain=4, irrelevant=3, not_seen=1, no_image=2))
    assert unseen.mner == unseen.gmner == 2 * 4 / (4 + 10)  # types are not worth a guess
    assert unseen.eeg == pytest.approx((4 + 3 + 2) / 10)
    assert unseen.mner_of_all == pytest.approx((4 + 6 / 4) / 10)
    assert unseen.gmner_of_all == pytest.approx((4 + (3 + 2) / 4) / 10)
    assert unseen.eeg_of_all == pytest.approx((4 + 3 + 2) / 10)
    assert (half.gmner_of_all, half.mner_of_all, half.eeg_of_all) == (6 / 10, 1, 6 / 10)
    assert (hidden.gmner_of_all, hidden.mner_of_all) == (8 / 10, 1)
    misled = grounding_ceiling(*grounded(cued=3, misled=1))
    assert (misled.gmner, misled.mner, misled.eeg) == (3 / 4, (3 + 1 / 4) / 4, 3 / 4)
    mostly_misled = grounding_ceiling(*grounded(cued=1, misled=9))
    assert (mostly_misled.gmner, mostly_misled.eeg) == (9 / 10 / 4, 9 / 10)
