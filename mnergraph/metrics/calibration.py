"""Calibration of entity probabilities: whether of entities predicted with probability 0.9 nine of ten are right.

Expected calibration error (Naeini et al., AAAI 2015; Guo et al., ICML 2017, eq. 3), over bins of the probability:

    ECE = sum over bins b of  n_b / n * |share right in b - mean probability in b|

Bins of equal width show where probabilities lie; those of equal mass, with as many entities each, do not let a few
full bins hide the others (Nixon et al., CVPR workshops 2019). Gold entities that are not predicted play no part.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np

from mnergraph.labels import Entity, tags_to_spans

#: How the range of probabilities is divided into bins.
Binning = Literal["width", "mass"]


@dataclass(frozen=True)
class Bin:
    """Entities whose probabilities lie in one bin.

    Attributes:
        low, high: ends of the bin, of which the upper one belongs to it.
        count: number of entities.
        probability: their mean probability.
        right: the share of them that are right.
        right_low, right_high: 95% interval of that share (Wilson's).
    """

    low: float
    high: float
    count: int
    probability: float
    right: float
    right_low: float
    right_high: float


@dataclass(frozen=True)
class Calibration:
    """How well the probabilities of predicted entities agree with the share that is right.

    Attributes:
        count: number of predicted entities.
        probability: their mean probability.
        right: the share of them that are right: lenient precision.
        ece: expected calibration error over bins of equal width, 0 to 1.
        ece_mass: expected calibration error over bins of equal mass.
        bins: the bins of equal width that have entities, in order.
        mass_bins: those of equal mass.
    """

    count: int
    probability: float
    right: float
    ece: float
    ece_mass: float
    bins: tuple[Bin, ...]
    mass_bins: tuple[Bin, ...]

    def table(self) -> str:
        """Return the bins of equal width as a Markdown table, and the errors in a line; all in percent."""
        if not self.count:
            return "calibration: no entity is predicted"
        lines = ["| probability | entities | mean | right | 95% interval |", "|---|--:|--:|--:|--:|"]
        for it in self.bins:
            interval = f"{100 * it.right_low:.1f} to {100 * it.right_high:.1f}"
            lines.append(
                f"| {100 * it.low:.0f} to {100 * it.high:.0f} | {it.count} | {100 * it.probability:.1f} "
                f"| {100 * it.right:.1f} | {interval} |"
            )
        lines += [
            "",
            f"{self.count} entities are predicted, with probability {100 * self.probability:.1f} on average, and "
            f"{100 * self.right:.1f} of a hundred are right; expected calibration error {100 * self.ece:.2f} with bins "
            f"of equal width, {100 * self.ece_mass:.2f} with bins of equal mass",
        ]
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Return the figures and both kinds of bins as plain JSON data."""
        return asdict(self)


def calibrate(probabilities: Sequence[float], right: Sequence[bool], *, num_bins: int = 10) -> Calibration:
    """Return how well probabilities agree with what is right.

    Args:
        probabilities: of every predicted entity, 0 to 1.
        right: whether it is right.
        num_bins: number of bins; those without entities are left out.

    Raises:
        ValueError: for different numbers of both, for something that is no probability, and for no bin.
    """
    p, r = _checked(probabilities, right, num_bins)
    if not len(p):
        return Calibration(0, 0.0, 0.0, 0.0, 0.0, (), ())
    width, mass = (_bins(p, r, num_bins, binning) for binning in get_args(Binning))
    return Calibration(len(p), float(p.mean()), float(r.mean()), _ece(width), _ece(mass), width, mass)


def expected_calibration_error(
    probabilities: Sequence[float], right: Sequence[bool], *, num_bins: int = 10, binning: Binning = "width"
) -> float:
    """Return the expected calibration error, 0 to 1; 0 without entities.

    Args:
        probabilities: of every predicted entity, 0 to 1.
        right: whether it is right.
        num_bins: number of bins.
        binning: ``"width"`` or ``"mass"``: bins as wide as another, or with as many entities as another. Equal
            probabilities lie in one bin.

    Raises:
        ValueError: as `calibrate` does, and for another binning.
    """
    if binning not in get_args(Binning):
        raise ValueError(f"binning {binning!r} is not among {', '.join(get_args(Binning))}")
    p, r = _checked(probabilities, right, num_bins)
    return _ece(_bins(p, r, num_bins, binning)) if len(p) else 0.0


def entity_outcomes(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[Entity]]
) -> tuple[list[float], list[bool]]:
    """Return the probability of every predicted entity, and whether it is right, for `calibrate`.

    An entity is right when gold has the same words with the same type.

    Args:
        gold: BIO2 tags of every post.
        predicted: the entities of every post, as `Tagger.predict` and `Tagger.decode_entities` return them.

    Raises:
        ValueError: for different numbers of posts.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} posts of gold tags, {len(predicted)} of predicted entities")
    probabilities, right = [], []
    for tags, entities in zip(gold, predicted, strict=True):
        spans = {tuple(span) for span in tags_to_spans(tags)}
        probabilities += [entity.score for entity in entities]
        right += [(entity.start, entity.end, entity.type) in spans for entity in entities]
    return probabilities, right


def _checked(probabilities: Sequence[float], right: Sequence[bool], num_bins: int) -> tuple[np.ndarray, np.ndarray]:
    p, r = np.asarray(probabilities, dtype=float), np.asarray(right, dtype=bool)
    if p.ndim != 1 or p.shape != r.shape:
        raise ValueError(f"{p.shape} probabilities can't be compared with {r.shape} outcomes; give one of each")
    # a product of marginals can exceed 1 by a rounding error
    outside = p[~((p >= 0) & (p <= 1 + 1e-6))]
    if len(outside):
        raise ValueError(f"{len(outside)} of {len(p)} are no probabilities, the first is {outside[0]}; right is 0 to 1")
    if num_bins < 1:
        raise ValueError(f"num_bins is 1 or more, not {num_bins}")
    return p.clip(0, 1), r


def _bins(p: np.ndarray, r: np.ndarray, num_bins: int, binning: Binning) -> tuple[Bin, ...]:
    """Return the bins that have entities; an upper end belongs to its bin, as in scikit-learn's calibration curve."""
    from scipy.stats import binomtest  # a second to import

    shares = np.linspace(0, 1, num_bins + 1)
    edges = shares if binning == "width" else np.quantile(p, shares)
    place = np.searchsorted(edges[1:-1], p)
    bins = []
    for index in np.unique(place):
        inside = place == index
        count, correct = int(inside.sum()), int(r[inside].sum())
        interval = binomtest(correct, count).proportion_ci(method="wilson")
        bins.append(
            Bin(
                float(edges[index]),
                float(edges[index + 1]),
                count,
                float(p[inside].mean()),
                correct / count,
                float(interval.low),
                float(interval.high),
            )
        )
    return tuple(bins)


def _ece(bins: Sequence[Bin]) -> float:
    total = sum(it.count for it in bins)
    return sum(it.count * abs(it.right - it.probability) for it in bins) / total
