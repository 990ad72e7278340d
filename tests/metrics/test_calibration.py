"""Calibration: against torchmetrics and scikit-learn, and on probabilities whose calibration is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from torchmetrics.classification import BinaryCalibrationError

from mnergraph.labels import Entity
from mnergraph.metrics.calibration import calibrate, entity_outcomes, expected_calibration_error


def drawn(count: int, seed: int, *, exponent: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities, most of them high, and outcomes that are right with probability p ** exponent."""
    rng = np.random.default_rng(seed)
    p = rng.beta(4, 1, count)
    return p, rng.random(count) < p**exponent


@pytest.mark.parametrize("bins", [1, 7, 10, 15])
def test_against_torchmetrics(bins: int) -> None:
    p, right = drawn(500, bins, exponent=2.0)
    reference = BinaryCalibrationError(n_bins=bins, norm="l1")(torch.from_numpy(p), torch.from_numpy(right).long())
    assert expected_calibration_error(p, right, num_bins=bins) == pytest.approx(float(reference), abs=1e-6)


@pytest.mark.parametrize(("binning", "strategy"), [("width", "uniform"), ("mass", "quantile")])
def test_bins_are_those_of_scikit_learn(binning: str, strategy: str) -> None:
    p, right = drawn(400, 3)
    p = p.round(2)  # many probabilities are equal, and some lie on edges
    shares, means = calibration_curve(right, p, n_bins=10, strategy=strategy)
    found = calibrate(p, right)
    bins = found.bins if binning == "width" else found.mass_bins
    assert [it.right for it in bins] == pytest.approx(shares.tolist())
    assert [it.probability for it in bins] == pytest.approx(means.tolist())
    assert sum(it.count for it in bins) == found.count == 400
    ece = sum(it.count / 400 * abs(it.right - it.probability) for it in bins)
    assert expected_calibration_error(p, right, binning=binning) == pytest.approx(ece)  # type: ignore[arg-type]
    assert (found.ece if binning == "width" else found.ece_mass) == pytest.approx(ece)


def test_equal_mass_has_equal_counts() -> None:
    p, right = drawn(300, 1)
    assert {it.count for it in calibrate(p, right).mass_bins} == {30}
    assert max(it.count for it in calibrate(p, right).bins) > 90


def test_nine_of_ten() -> None:
    found = calibrate([0.9] * 10, [True] * 9 + [False])
    assert (found.ece, found.ece_mass) == pytest.approx((0, 0))
    assert calibrate([0.9] * 10, [True] * 5 + [False] * 5).ece == pytest.approx(0.4)
    p, right = drawn(20_000, 2)
    assert calibrate(p, right).ece < 0.01
    p, right = drawn(20_000, 2, exponent=3.0)
    assert calibrate(p, right).ece > 0.1, "overconfident"


def test_intervals_hold_the_truth() -> None:
    holding = [
        it.right_low <= it.probability <= it.right_high
        for seed in range(30)
        for it in calibrate(*drawn(400, seed)).mass_bins
    ]
    assert 0.9 < np.mean(holding) < 1


def test_outcomes_of_entities() -> None:
    gold = [["B-PER", "I-PER", "O"], ["I-LOC"], ["O"]]
    predicted = [
        [Entity(0, 2, "PER", 0.9), Entity(2, 3, "LOC", 0.2)],
        [Entity(0, 1, "LOC", 0.6)],
        [],
    ]
    assert entity_outcomes(gold, predicted) == ([0.9, 0.2, 0.6], [True, False, True])
    assert entity_outcomes([["B-PER", "I-PER"]], [[Entity(0, 1, "PER", 0.5)]])[1] == [False]
    assert entity_outcomes([["B-PER"]], [[Entity(0, 1, "LOC", 0.5)]])[1] == [False]
    with pytest.raises(ValueError, match="1 posts of gold tags, 2 of predicted entities"):
        entity_outcomes([["O"]], [[], []])


def test_table_and_json() -> None:
    found = calibrate([0.95, 0.85, 0.84], [True, True, False])
    lines = found.table().splitlines()
    assert lines[2] == "| 80 to 90 | 2 | 84.5 | 50.0 | 9.5 to 90.5 |"
    assert lines[3].startswith("| 90 to 100 | 1 | 95.0 | 100.0 | ")
    assert "3 entities are predicted, with probability 88.0 on average, and 66.7 of a hundred are right" in lines[-1]
    assert json.loads(json.dumps(found.to_dict()))["bins"][0]["count"] == 2
    nothing = calibrate([], [])
    assert (nothing.count, nothing.ece, nothing.bins) == (0, 0.0, ())
    assert nothing.table() == "calibration: no entity is predicted"
    assert expected_calibration_error([], []) == 0.0


@pytest.mark.parametrize(
    ("probabilities", "right", "options", "message"),
    [
        ([0.5], [True, False], {}, r"\(1,\) probabilities can't be compared with \(2,\) outcomes"),
        ([1.5, 0.2], [True, False], {}, "1 of 2 are no probabilities, the first is 1.5; right is 0 to 1"),
        ([float("nan")], [True], {}, "1 of 1 are no probabilities"),
        ([0.5], [True], {"num_bins": 0}, "num_bins is 1 or more, not 0"),
        ([0.5], [True], {"binning": "length"}, "binning 'length' is not among width, mass"),
    ],
)
def test_what_is_refused(probabilities: list, right: list, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expected_calibration_error(probabilities, right, **options)


def test_a_rounding_error_above_one_is_one() -> None:
    assert calibrate([1.0 + 1e-9], [True]).ece == 0.0
