"""How training went and how models fare: curves, confusion of types, scores by type."""

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
from sklearn.metrics import ConfusionMatrixDisplay, confusion_matrix

from mnergraph.explain.plots.style import COLOURS, DASHES, HATCHES, MARKERS, axes
from mnergraph.labels import Span, tags_to_spans

#: How the confusion of types names what only one side has.
NOTHING = "none"


def plot_training_curves(runs: Mapping[str, Path], *, ax: Axes | None = None) -> Figure:
    """Training curves: the loss of the steps, thin, and the dev F1 of the epochs, marked, over the steps.

    Args:
        runs: folders of runs by the name to print, as ``mnergraph train --out`` or `mnergraph.fit` wrote them
            with the CSV logger; what a resumed run wrote is joined on.
        ax: axes to draw into; a new figure without.

    Raises:
        FileNotFoundError: when a folder holds no such log.
    """
    figure, ax = axes(ax, (7.0, 4.2))
    right = ax.twinx()
    for place, (name, folder) in enumerate(runs.items()):
        look = place % len(COLOURS)
        logged = read_log(folder)
        steps, losses = logged.get("loss", ((), ()))
        ax.plot(steps, losses, color=COLOURS[look], linestyle=DASHES[look], linewidth=1, label=f"{name}: loss")
        for metric, fill in (("dev_f1", "full"), ("dev_f1_strict", "none")):
            steps, values = logged.get(metric, ((), ()))
            right.plot(
                steps,
                [100 * value for value in values],
                color=COLOURS[look],
                linestyle=DASHES[look],
                linewidth=1.6,
                marker=MARKERS[look],
                fillstyle=fill,
                label=f"{name}: {metric.replace('_', ' ')}",
            )
    ax.set(xlabel="step", ylabel="loss")
    ax.set_ylim(bottom=0)
    right.set(ylabel="F1 on dev, percent")
    handles = [line for one in (ax, right) for line in one.get_lines()]
    ax.legend(handles=handles, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3, frameon=False)
    return figure


def read_log(folder: Path) -> dict[str, tuple[list[int], list[float]]]:
    """The steps and values of every metric that Lightning's CSV logger wrote, of all versions of a run."""
    paths = sorted(
        Path(folder).glob("logs/version_*/metrics.csv"), key=lambda path: int(path.parent.name.split("_")[1])
    )
    if not paths:
        raise FileNotFoundError(
            f"{folder} holds no logs/version_*/metrics.csv; give the folder of a run with Loop(logger='csv')"
        )
    found: dict[str, dict[int, float]] = defaultdict(dict)
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, value in row.items():
                    if value and name not in ("step", "epoch"):
                        found[name][int(row["step"])] = float(value)
    return {name: (sorted(of), [of[step] for step in sorted(of)]) for name, of in found.items()}


def plot_type_confusion(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], *, ax: Axes | None = None
) -> Figure:
    """Confusion of types: gold types down, predicted ones across, entities of the very same words together.

    An entity whose words nobody marked on the other side counts in the row or column ``none``.

    Args:
        gold: BIO2 tags of every post.
        predicted: those of the model, as `mnergraph.evaluate` returns them.
        ax: axes to draw into; a new figure without.

    Raises:
        ValueError: for another number of posts, or when there is no entity at all.
    """
    pairs = [
        both for g, p in zip(gold, predicted, strict=True) for both in _aligned(tags_to_spans(g), tags_to_spans(p))
    ]
    names = sorted({name for both in pairs for name in both} - {NOTHING})
    if not names:
        raise ValueError("there is no entity, neither gold nor predicted, so no type can be confused")
    names = [*names, NOTHING]
    counts = confusion_matrix([one for one, _ in pairs], [other for _, other in pairs], labels=names)
    size = 1.6 + 0.75 * len(names)
    figure, ax = axes(ax, (size + 0.8, size))
    shown = ConfusionMatrixDisplay(counts, display_labels=names)
    shown.plot(ax=ax, cmap="Greys", colorbar=False, values_format="d")
    ax.set(xlabel="predicted type", ylabel="gold type")
    for text in ax.texts:  # both have no entity there: nothing is counted
        if text.get_position() == (len(names) - 1, len(names) - 1):
            text.set_text("–")
    return figure


def _aligned(gold: Sequence[Span], predicted: Sequence[Span]) -> list[tuple[str, str]]:
    """Gold and predicted type of every span that either has."""
    told = {(span.start, span.end): span.type for span in gold}
    said = {(span.start, span.end): span.type for span in predicted}
    return [(told.get(words, NOTHING), said.get(words, NOTHING)) for words in sorted(told.keys() | said.keys())]


def plot_f1_by_type(
    results: Mapping[str, Path],
    *,
    split: Literal["valid", "test"] = "test",
    strict: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """F1 of every type as bars, systems side by side, with the deviation over the seeds.

    Args:
        results: result files by the name to print: those of ``benchmarks.train``, with a run for each seed,
            or the result.json of ``mnergraph train``, which is one run.
        split: which split's scores.
        strict: strict scores; else lenient ones, as papers report them.
        ax: axes to draw into; a new figure without.

    Raises:
        ValueError: when a file holds no such scores.
    """
    found = {name: _by_type(path, split, strict) for name, path in results.items()}
    types = sorted({kind for of in found.values() for kind in of})
    figure, ax = axes(ax, (2.0 + 0.45 * len(types) * (1 + len(found)), 4.0))
    width = 0.8 / max(1, len(found))
    for place, (name, of) in enumerate(found.items()):
        look = place % len(COLOURS)
        values = [[100 * value for value in of.get(kind, [0.0])] for kind in types]
        ax.bar(
            [number + (place - (len(found) - 1) / 2) * width for number in range(len(types))],
            [mean(some) for some in values],
            width,
            yerr=[stdev(some) if len(some) > 1 else 0.0 for some in values] if _repeated(values) else None,
            capsize=3,
            color=COLOURS[look],
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
    return any(len(some) > 1 for some in values)


def _by_type(path: Path, split: str, strict: bool) -> dict[str, list[float]]:
    """The F1 of every type in every run of a result file."""
    result: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    runs = list(result["seeds"].values()) if "seeds" in result else [result.get("scores", {})]
    key = f"{'strict' if strict else 'lenient'}_by_type"
    if not runs or any(key not in run.get(split, {}) for run in runs):
        raise ValueError(f"{path} holds no scores by type on {split}; right is a result file of a training")
    types = {kind for run in runs for kind in run[split][key]}
    return {kind: [run[split][key].get(kind, {"f1": 0.0})["f1"] for run in runs] for kind in types}
