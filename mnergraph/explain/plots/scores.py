"""Plots of scores: training curves, confusion of types, F1 by type, errors by kind, reliability."""

from __future__ import annotations

import csv
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from mnergraph.explain.plots.style import COLORS, DASHES, HATCHES, MARKERS, axes, ellipsize, empty_state, label_ticks
from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.calibration import Bin, Binning, Calibration
from mnergraph.metrics.errors import ERROR_KINDS, RIGHT, ErrorCounts

#: Name, in the confusion of types, for a span that only gold or only the prediction has.
NO_ENTITY = "none"


def plot_training_curves(runs: Mapping[str, str | Path], *, ax: Axes | None = None) -> Figure:
    """Plot training curves: the loss of every step as a thin line, and the dev F1 of every epoch with markers.

    Args:
        runs: folders of runs by the name to show, as ``mnergraph train --out`` or `mnergraph.fit` write them
            with the CSV logger; the log of a resumed run is continued.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        FileNotFoundError: when a folder has no such log.
    """
    figure, ax = axes(ax, (7.0, 4.2))
    right = ax.twinx()
    for index, (name, folder) in enumerate(runs.items()):
        look = index % len(COLORS)
        logged = read_log(folder)
        steps, losses = logged.get("loss", ((), ()))
        ax.plot(steps, losses, color=COLORS[look], linestyle=DASHES[look], linewidth=1, label=f"{name}: loss")
        for metric, fill in (("dev_f1", "full"), ("dev_f1_strict", "none")):
            steps, values = logged.get(metric, ((), ()))
            right.plot(
                steps,
                [100 * value for value in values],
                color=COLORS[look],
                linestyle=DASHES[look],
                linewidth=1.6,
                marker=MARKERS[look],
                fillstyle=fill,
                label=f"{name}: {metric.replace('_', ' ')}",
            )
    ax.set(xlabel="step", ylabel="loss")
    ax.set_ylim(bottom=0)
    right.set(ylabel="F1 on dev, percent")
    handles = [line for side in (ax, right) for line in side.get_lines()]
    ax.legend(handles=handles, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    return figure


def read_log(folder: str | Path) -> dict[str, tuple[list[int], list[float]]]:
    """Return steps and values of every metric in the logs of Lightning's CSV logger, of all versions of a run."""
    paths = sorted(
        Path(folder).glob("logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])
    )
    if not paths:
        raise FileNotFoundError(
            f"{folder} has no logs/version_*/metrics.csv; give the folder of a run with TrainerConfig(logger='csv')"
        )
    metrics: dict[str, dict[int, float]] = defaultdict(dict)
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        metrics[name][int(row["step"])] = float(value)
    return {name: (sorted(log), [log[step] for step in sorted(log)]) for name, log in metrics.items()}


def plot_type_confusion(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, ax: Axes | None = None
) -> Figure:
    """Plot the confusion of entity types: gold types by predicted types, for entities of exactly the same words.

    An entity without one of the same words on the other side counts in the row or column ``none``. Posts without any
    entity have an empty figure that says so.

    Args:
        gold: BIO2 tags of every post.
        predicted: BIO2 tags of the model, as `mnergraph.evaluate` returns them.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        ValueError: for different numbers of posts.
    """
    pairs = [
        both for g, p in zip(gold, predicted, strict=True) for both in _aligned(tags_to_spans(g), tags_to_spans(p))
    ]
    names = sorted({name for both in pairs for name in both} - {NO_ENTITY})
    if not names:
        return empty_state(ax, "there is no entity, neither gold nor predicted, so no type can be confused")
    names = [*names, NO_ENTITY]
    counts = confusion_matrix([true for true, _ in pairs], [guess for _, guess in pairs], labels=names)
    size = 1.6 + 0.75 * len(names)
    figure, ax = axes(ax, (size + 0.8, size))
    shown = ConfusionMatrixDisplay(counts, display_labels=names)
    shown.plot(ax=ax, cmap="Greys", colorbar=False, values_format="d")
    ax.set(xlabel="predicted type", ylabel="gold type")
    for text in ax.texts:  # spans that neither side has are not counted
        if text.get_position() == (len(names) - 1, len(names) - 1):
            text.set_text("–")
    return figure


def _aligned(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[str, str]]:
    """Gold and predicted type of every span that either has."""
    true = {(span.start, span.end): span.type for span in gold}
    guess = {(span.start, span.end): span.type for span in predicted}
    return [(true.get(words, NO_ENTITY), guess.get(words, NO_ENTITY)) for words in sorted(true.keys() | guess.keys())]


def plot_f1_by_type(
    results: Mapping[str, str | Path],
    *,
    split: Literal["valid", "test"] = "test",
    strict: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """Plot the F1 of every type as bars, systems side by side, with the standard deviation over seeds.

    Args:
        results: result files by the name to show: those of ``benchmarks.train``, with a run for each seed,
            or the result.json of ``mnergraph train``, which is one run.
        split: the split.
        strict: plot strict scores; by default lenient ones, as papers report them.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.

    Raises:
        ValueError: when a file has no such scores.
    """
    systems = {name: _by_type(path, split, strict) for name, path in results.items()}
    types = sorted({type_ for by_type in systems.values() for type_ in by_type})
    figure, ax = axes(ax, (2.0 + 0.45 * len(types) * (1 + len(systems)), 4.0))
    width = 0.8 / max(1, len(systems))
    for index, (name, by_type) in enumerate(systems.items()):
        look = index % len(COLORS)
        values = [[100 * value for value in by_type.get(type_, [0.0])] for type_ in types]
        ax.bar(
            [number + (index - (len(systems) - 1) / 2) * width for number in range(len(types))],
            [mean(runs) for runs in values],
            width,
            yerr=[stdev(runs) if len(runs) > 1 else 0.0 for runs in values] if _repeated(values) else None,
            capsize=3,
            color=COLORS[look],
            hatch=HATCHES[look],
            edgecolor="white",
            ecolor="black",
            label=f"{name} ({len(values[0])} {'seed' if len(values[0]) == 1 else 'seeds'})",
        )
    ax.set_xticks(range(len(types)), types)
    ax.set(ylim=(0, 100), ylabel=f"{'strict' if strict else 'lenient'} F1 on {split}, percent")
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=3, frameon=False)
    return figure


def _repeated(values: Sequence[Sequence[float]]) -> bool:
    return any(len(runs) > 1 for runs in values)


def _by_type(path: str | Path, split: str, strict: bool) -> dict[str, list[float]]:
    """The F1 of every type in every run of a result file."""
    result: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    runs = list(result["seeds"].values()) if "seeds" in result else [result.get("scores", {})]
    key = f"{'strict' if strict else 'lenient'}_by_type"
    if not runs or any(key not in run.get(split, {}) for run in runs):
        raise ValueError(f"{path} has no scores by type on {split}; give a result file of a training")
    types = {type_ for run in runs for type_ in run[split][key]}
    return {type_: [run[split][key].get(type_, {"f1": 0.0})["f1"] for run in runs] for type_ in types}


def plot_errors(errors: ErrorCounts, *, ax: Axes | None = None) -> Figure:
    """Plot the entities that are not right as a bar for each type, divided by the kind of error.

    Bars are of gold entities, by their type: wrong boundary, wrong type, both, missed. Spurious entities, by the type
    that is predicted, end the bar. Beside it is the number of gold entities that are right. Without any entity the
    figure is empty and says so.

    Args:
        errors: the counts, see `mnergraph.metrics.errors.count_errors`.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.
    """
    types = errors.types
    if not types:
        return empty_state(ax, "there is no entity, neither gold nor predicted, so there are no errors")
    counts = {
        kind: [(errors.predicted if kind == "spurious" else errors.gold).get(name, {}).get(kind, 0) for name in types]
        for kind in ERROR_KINDS
    }
    figure, ax = axes(ax, (7.0, 1.5 + 0.45 * len(types)))
    ends = [0] * len(types)
    for index, (kind, of_type) in enumerate(counts.items()):
        ax.barh(
            range(len(types)),
            of_type,
            0.7,
            left=ends,
            color=COLORS[index],
            hatch=HATCHES[index],
            edgecolor="white",
            linewidth=0.8,
            label=_KIND_LABELS[kind],
        )
        ends = [end + count for end, count in zip(ends, of_type, strict=True)]
    longest = max(1, *ends)
    for row, name in enumerate(types):
        of_gold = errors.gold.get(name, {})
        right, total = of_gold.get(RIGHT, 0), sum(of_gold.values())
        ax.text(ends[row] + 0.015 * longest, row, f"{right} of {total} right", va="center", fontsize=8)
    label_ticks(ax, "y", types)
    ax.set(xlabel="entities with an error", xlim=(0, 1.2 * longest), ylim=(len(types) - 0.4, -0.6))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(counts), frameon=False, fontsize=8)
    return figure


_KIND_LABELS = {
    "boundary": "wrong boundary",
    "type": "wrong type",
    "both": "both wrong",
    "missed": "missed",
    "spurious": "spurious",
}


def plot_reliability(
    calibrations: Mapping[str, Calibration],
    *,
    binning: Binning = "width",
    ax: Axes | None = None,
) -> Figure:
    """Plot the share of entities that are right against their probability, a point for each bin.

    Points below the diagonal are overconfident. Bars from a point are the 95% interval of the share, and the
    histogram below has the number of entities of each bin. A system that predicts no entity is in the legend alone;
    where none predicts any, the figure is empty and says so.

    Args:
        calibrations: of systems by the name to show, see `mnergraph.metrics.calibration.calibrate`.
        binning: bins of equal ``"width"`` or of equal ``"mass"``.
        ax: axes to draw into; by default those of a new figure.

    Returns:
        the figure.
    """
    if not any(calibration.count for calibration in calibrations.values()):
        return empty_state(ax, f"no entity is predicted by {', '.join(calibrations) or 'any system'}")
    figure, ax = axes(ax, (5.0, 5.8))
    ax.set_axis_off()
    above, below = ax.inset_axes((0, 0.33, 1, 0.67)), ax.inset_axes((0, 0, 1, 0.24))
    above.plot([0, 1], [0, 1], color="0.55", linewidth=1, linestyle=(0, (4, 3)), label="calibrated")
    for index, (name, calibration) in enumerate(calibrations.items()):
        look = index % len(COLORS)
        bins = calibration.bins if binning == "width" else calibration.mass_bins
        ece = calibration.ece if binning == "width" else calibration.ece_mass
        if not calibration.count:
            above.plot([], [], color=COLORS[look], linestyle=DASHES[look], label=f"{ellipsize(name)}: no entities")
            continue
        above.errorbar(
            [it.probability for it in bins],
            [it.right for it in bins],
            yerr=[[it.right - it.right_low for it in bins], [it.right_high - it.right for it in bins]],
            color=COLORS[look],
            linestyle=DASHES[look],
            marker=MARKERS[look],
            markersize=5,
            linewidth=1.4,
            elinewidth=0.8,
            capsize=2,
            label=f"{ellipsize(name)}: ECE {100 * ece:.1f}%, {calibration.count} entities",
        )
        below.stairs(
            *_histogram(calibration.bins),
            baseline=0.5,
            color=COLORS[look],
            linestyle=DASHES[look],
            fill=len(calibrations) == 1,
        )
    above.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is right")
    above.set_xticklabels([])
    above.legend(loc="upper left", fontsize=8, frameon=False)
    below.set(xlim=(0, 1), yscale="log", xlabel="probability of the entity", ylabel="entities")
    below.set_ylim(bottom=0.5)
    for each in (above, below):
        each.spines[["top", "right"]].set_visible(False)
    return figure


def _histogram(bins: Sequence[Bin]) -> tuple[list[int], list[float]]:
    """Return the counts of all bins of equal width, empty ones too, and their edges."""
    number = round(1 / (bins[0].high - bins[0].low))
    counts = [0] * number
    for it in bins:
        counts[round(it.low * number)] = it.count
    return counts, [index / number for index in range(number + 1)]
