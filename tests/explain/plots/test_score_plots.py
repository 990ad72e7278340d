"""Plots of errors and of calibration, tested by their elements."""

from __future__ import annotations

import io
from typing import get_args

import numpy as np
import pytest
from matplotlib.container import BarContainer
from matplotlib.figure import Figure

from mnergraph.explain.plots import plot_errors, plot_reliability, plot_type_confusion
from mnergraph.metrics.calibration import Binning, calibrate
from mnergraph.metrics.errors import count_errors

GOLD = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"], ["O", "O"], ["B-PER", "B-LOC"]]
PREDICTED = [["B-PER", "O", "O"], ["B-ORG", "O", "O"], ["B-LOC", "O"], ["B-PER", "B-LOC"]]


def drawn(figure: Figure) -> None:
    """Warnings of missing glyphs and of layouts are errors here."""
    figure.savefig(io.BytesIO(), dpi=40)


def test_errors_by_kind() -> None:
    figure = plot_errors(count_errors(GOLD, PREDICTED))
    drawn(figure)
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["LOC", "ORG", "PER"]
    drawn_bars = [bars for bars in ax.containers if isinstance(bars, BarContainer)]
    widths = {bars.get_label(): [bar.get_width() for bar in bars] for bars in drawn_bars}
    assert widths == {
        "wrong boundary": [0, 0, 1],
        "wrong type": [1, 0, 0],
        "both wrong": [0, 0, 0],
        "missed": [0, 0, 1],
        "spurious": [1, 0, 0],
    }
    assert [text.get_text() for text in ax.texts] == ["1 of 2 right", "0 of 0 right", "1 of 3 right"]
    ends = [text.get_position()[0] for text in ax.texts]
    assert 2 < ends[0] < 2.1
    assert 0 < ends[1] < 0.1
    hatches = {bars[0].get_hatch() for bars in ax.containers}
    assert len(hatches) == 5


def test_without_entities_a_figure_says_so() -> None:
    for figure in (plot_errors(count_errors([["O"]], [["O"]])), plot_type_confusion([["O"]], [["O"]])):
        drawn(figure)
        (text,) = figure.axes[0].texts
        assert text.get_text().startswith("there is no entity, neither gold nor predicted, so")
    nothing = plot_reliability({"UMGF": calibrate([], [])})
    drawn(nothing)
    assert nothing.axes[0].texts[0].get_text() == "no entity is predicted by UMGF"
    ax = Figure().subplots()
    assert plot_reliability({}, ax=ax) is ax.figure


def test_errors_of_a_perfect_system() -> None:
    drawn(plot_errors(count_errors(GOLD, GOLD)))


@pytest.mark.parametrize("binning", get_args(Binning))
def test_reliability(binning: Binning) -> None:
    rng = np.random.default_rng(0)
    p = rng.beta(3, 1, 200)
    one, other = calibrate(p, rng.random(200) < p), calibrate(p[:50], rng.random(50) < p[:50] ** 3, num_bins=5)
    figure = plot_reliability({"UMGF": one, "A$B_": other}, binning=binning)
    drawn(figure)
    above, below = figure.axes[0].child_axes
    lines = {line.get_label(): line for line in above.get_lines()}
    assert list(lines["calibrated"].get_xdata()) == [0, 1]
    for calibration, container in zip((one, other), above.containers, strict=True):
        bins = calibration.bins if binning == "width" else calibration.mass_bins
        assert list(container[0].get_xdata()) == [it.probability for it in bins]
        assert list(container[0].get_ydata()) == [it.right for it in bins]
    ece = one.ece if binning == "width" else one.ece_mass
    assert above.containers[0].get_label() == f"UMGF: ECE {100 * ece:.1f}%, 200 entities"
    (counts, edges, _), (few, _, _) = (patch.get_data() for patch in below.patches)
    assert (counts.sum(), len(counts), edges[-1], few.sum(), len(few)) == (200, 10, 1.0, 50, 5)
    assert counts.tolist() == np.histogram(p, 10, (0, 1))[0].tolist()


def test_reliability_beside_a_system_without_entities() -> None:
    drawn(plot_reliability({"one": calibrate([1.0], [True])}))
    figure = plot_reliability({"nothing": calibrate([], []), "one": calibrate([1.0], [True])})
    drawn(figure)
    above, below = figure.axes[0].child_axes
    assert len(above.containers) == len(below.patches) == 1
    labels = [text.get_text() for text in above.get_legend().get_texts()]
    assert labels == ["calibrated", "nothing: no entities", "one: ECE 0.0%, 1 entities"]
