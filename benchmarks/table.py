r"""Print reported figures beside measured ones, as Markdown, from result files and settings.

    uv run python -m benchmarks.table --against BERT-CRF

Figures are in percent. There is a table for every data set, encoder and set of data options; rows are the
means over the seeds. With ``--against``, each system is compared with that one of the same table, on the same
test posts: the difference in F1 (of the mean entity counts over the seeds), its 95% interval by paired
bootstrap, and p by approximate randomisation.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import auto_cli

from benchmarks.common import run_command
from benchmarks.experiment import RESULTS, SETTINGS, Reported, read
from mnergraph.metrics.significance import compare

TYPES = ("PER", "LOC", "ORG", "MISC")
Result = Mapping[str, Any]


def table(
    results: Path = RESULTS,
    settings: Path = SETTINGS,
    against: str | None = None,
    data: str | None = None,
    types: bool = True,
    trials: int = 10_000,
) -> str:
    """Return the tables of all result files of a folder.

    Args:
        results: folder of the result files that `benchmarks.train` wrote; other files are left out.
        settings: folder of the settings files, which hold the reported figures.
        against: the system that the others are compared with.
        data: the one data set to print; all without it.
        types: whether to print the F1 of every entity type.
        trials: of the significance tests.
    """
    reported = reported_figures(settings)
    found = [result for result in read_results(results) if data in (None, result["data"])]
    groups: dict[tuple[str, ...], list[Result]] = defaultdict(list)
    for result in found:
        groups[_group(result)].append(result)
    if against is not None and all(result["system"] != against for result in found):
        raise ValueError(f"{results} has no result of {against!r} to compare with")
    parts = []
    for (source, target, encoder, options, *_), rows in groups.items():
        title = source if source == target else f"{source} -> {target}"
        head = f"### {title}{', ' + options if options else ''}; text encoder {encoder}"
        references = [row for row in rows if row["system"] == against]
        if len(references) > 1:
            raise ValueError(f"{head[4:]}: {len(references)} results of {against}; keep one in the folder")
        reference = references[0] if references else None
        lines = [
            _row(
                row,
                reported.get((row["system"], source, target)),
                reference,
                types,
                trials,
            )
            for row in sorted(rows, key=_f1)
        ]
        parts.append("\n".join([head, "", *_header(against if reference else None, types), *lines]))
        if grounded := [row for row in rows if "grounding" in row]:
            figures = grounding_figures(settings)
            parts.append("\n".join([f"{head}; grounded entities", "", *_grounding_table(grounded, figures)]))
    return "\n\n".join(parts)


def reported_figures(settings: Path) -> dict[tuple[str, str, str], Reported]:
    """Return the reported figures by system, training data and test data, ablations included."""
    figures: dict[tuple[str, str, str], Reported] = {}
    for path in sorted(settings.glob("*.yaml")):
        whole = read(path)
        for one in (whole, *(whole.without(name) for name in whole.ablations)):
            found = {**one.transferred, **({one.data: one.reported} if one.reported else {})}
            figures |= {(one.system, one.data, target): figure for target, figure in found.items()}
    return figures


def grounding_figures(settings: Path) -> dict[tuple[str, str], dict[str, Reported]]:
    """Return the reported figures of grounded entities by system and data, each by metric."""
    found = [read(path) for path in sorted(settings.glob("*.yaml"))]
    return {
        (one.system, one.data): {
            "MNER": one.reported,
            **{str(metric): figure for metric, figure in one.reported_grounding.items()},
        }
        for one in found
        if one.reported is not None and one.reported_grounding
    }


def read_results(folder: Path) -> list[Result]:
    """Return the training results among a folder's JSON files."""
    files = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    return [found for found in files if found.get("benchmark") == "train"]


def entities(result: Result) -> np.ndarray:
    """Return the right, predicted and gold entities of every test post in every run, ``[runs, posts, 3]``."""
    runs = [run["entities by test post"] for run in result["seeds"].values()]
    return np.array(
        [
            np.stack([np.array(run[name].split(), dtype=int) for name in ("right", "predicted", "gold")], -1)
            for run in runs
        ]
    )


def _group(result: Result) -> tuple[str, ...]:
    """Return what the results of one table have in common: data sets, encoder, options, and the texts' checksums."""
    experiment = result["experiment"]
    options = ", ".join(f"{name} {value}" for name, value in experiment["data_options"].items())
    encoder = experiment["encoder"]
    name = Path(encoder).name if "/" in encoder else encoder
    return result["data"], result["test data"], name, options, json.dumps(result["checksums"], sort_keys=True)


def _header(against: str | None, types: bool) -> list[str]:
    names = ["P", "R", "F1", *(TYPES if types else ())]
    cells = ["system", *(f"reported {name}" for name in names), *(f"here {name}" for name in names)]
    cells += ["strict F1", "seeds", "picture"]
    if against is not None:
        cells += [f"against {against}", "p"]
    return [_line(cells), _line(["---", *["--:"] * (len(cells) - 1)])]


def _row(result: Result, reported: Reported | None, reference: Result | None, types: bool, trials: int) -> str:
    lenient, strict = result["test"]["lenient"], result["test"]["strict"]
    cells = [result["system"]]
    if reported is None:
        cells += ["–"] * (3 + len(TYPES) * types)
    else:
        figures = [reported.precision, reported.recall, reported.f1]
        figures += [reported.types.get(kind) for kind in TYPES] if types else []
        cells += ["–" if figure is None else f"{figure:.2f}" for figure in figures]
    here = {"MISC" if kind == "OTHER" else kind: value for kind, value in lenient["types"].items()}
    deviation = "" if lenient["deviation"] is None else f" ± {100 * lenient['deviation']:.2f}"
    cells += [_percent(lenient["precision"]), _percent(lenient["recall"])]
    cells += [_percent(lenient["f1"]) + deviation]
    cells += [_percent(here.get(kind)) for kind in TYPES] if types else []
    cells += [_percent(strict["f1"]), str(len(result["seeds"])), _picture(result)]
    if reference is not None:
        cells += _compared(result, reference, trials)
    return _line(cells)


def _grounding_table(rows: Sequence[Result], figures: Mapping[tuple[str, str], Mapping[str, Reported]]) -> list[str]:
    """Return the table of GMNER, MNER and EEG F1, with the share of entities that the proposals can ground."""
    metrics = ("GMNER", "MNER", "EEG")
    cells = ["system", *(f"reported {name}" for name in metrics), *(f"here {name}" for name in metrics)]
    lines = [_line([*cells, "ceiling", "seeds"]), _line(["---", *["--:"] * (len(cells) + 1)])]
    for row in sorted(rows, key=lambda row: row["grounding"]["gmner"]["f1"]):
        reported = figures.get((row["system"], row["data"]), {})
        given = [f"{reported[name].f1:.2f}" if name in reported else "–" for name in metrics]
        here = []
        for name in metrics:
            deviation = row["grounding"][name.lower()]["deviation"]
            here.append(
                _percent(row["grounding"][name.lower()]["f1"])
                + ("" if deviation is None else f" ± {100 * deviation:.2f}")
            )
        ceiling = next(iter(row["seeds"].values()))["grounding"]["ceiling"]
        lines.append(_line([row["system"], *given, *here, _percent(ceiling), str(len(row["seeds"]))]))
    return lines


def _compared(result: Result, reference: Result, trials: int) -> list[str]:
    if result is reference:
        return ["", ""]
    found = compare(entities(result), entities(reference), trials=trials)
    low, high = 100 * found.low, 100 * found.high
    return [f"{100 * found.f1:+.2f} [{low:+.2f}, {high:+.2f}]", f"{found.p:.4f}"]


def _picture(result: Result) -> str:
    """Return the evidence of the images that the system read."""
    experiment, counts = result["experiment"], result["evidence"]["train"]
    parts = []
    if counts["image vectors"]:
        stores = [manifest["extractor"] for manifest in result.get("stores", ())]
        source = ", ".join(stores) if stores else experiment["image_features"]
        parts.append(f"{experiment['image']} by {source}")
    if counts["objects"]:
        parts.append("objects with regions" if counts["region vectors"] else "objects")
    return ", ".join(parts) or "nothing"


def _f1(result: Result) -> float:
    return result["test"]["lenient"]["f1"]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f}"


def _line(cells: Iterable[str] | Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main(arguments: list[str] | None = None) -> None:
    """Print the tables."""
    print(auto_cli(table, args=arguments, as_positional=False))


if __name__ == "__main__":
    run_command(main)
