"""Tables from made-up result files: reported beside ours, grouped, compared post by post."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.experiment import SETTINGS as PAPERS
from benchmarks.table import entities, main, read_results, reported_figures, table
from benchmarks.train import summary
from mnergraph.metrics.scores import counts, score
from mnergraph.metrics.significance import compare

GOLD = [["B-PER", "O", "B-LOC"], ["O", "B-OTHER"], ["B-PER", "I-PER"], ["O"], ["B-LOC", "O"]] * 8
SETTINGS = """\
system: {system}
model: BERT
data: {data}
source: none
encoder: small
reported: {{precision: 70.0, recall: 72.5, f1: 71.23, types: {{PER: 80.1, LOC: 79.25}}}}
transferred: {{Twitter2017: {{f1: 60.0}}}}
ablations: {{w/o all: {{reported: {{f1: 50.5}}}}}}
"""


def tags(wrong: int, seed: int) -> list[list[str]]:
    """Predictions that miss every entity of so many posts."""
    missed = set(np.random.default_rng(seed).permutation(len(GOLD))[:wrong].tolist())
    return [["O"] * len(row) if index in missed else row for index, row in enumerate(GOLD)]


def result(system: str, predicted: list[list[list[str]]], **changed: Any) -> dict[str, Any]:
    """What `benchmarks.train` writes of a system, as far as a table reads it."""
    runs = {}
    for seed, run in enumerate(predicted):
        right, num_predicted, num_gold = counts(GOLD, run).T.tolist()
        lines = {"right": right, "predicted": num_predicted, "gold": num_gold}
        runs[str(seed)] = {
            "test": score(GOLD, run).to_dict(),
            "entities by test post": {name: " ".join(map(str, line)) for name, line in lines.items()},
        }
    experiment = {"data_options": {}, "encoder": "a/b/small", "image": "grid", "image_features": "caption"}
    return {
        "benchmark": "train",
        "system": system,
        "data": "Twitter2015",
        "test data": "Twitter2015",
        "experiment": experiment | changed.pop("experiment", {}),
        "checksums": {"train": "1", "test": "2"},
        "evidence": {"train": {"image vectors": 3, "objects": 0, "region vectors": 0}},
        "seeds": runs,
        "test": summary([run["test"] for run in runs.values()]),
        **changed,
    }


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """A folder of results and one of settings."""
    results, settings = tmp_path / "results", tmp_path / "settings"
    results.mkdir()
    settings.mkdir()
    (settings / "a.yaml").write_text(SETTINGS.format(system="UMT", data="Twitter2015"), encoding="utf-8")
    (results / "operators.json").write_text('{"crf": 1}', encoding="utf-8")
    return results, settings


def save(folder: Path, **results: dict[str, Any]) -> None:
    for name, found in results.items():
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")


def cells(text: str, system: str) -> dict[str, str]:
    """The row of a system, by the heads of the columns."""
    head, row = (
        next(line for line in text.splitlines() if line.startswith(f"| {begins} |")) for begins in ("system", system)
    )
    both = ([cell.strip() for cell in line.strip("|").split("|")] for line in (head, row))
    return dict(zip(*both, strict=True))


def test_a_row(folders: tuple[Path, Path]) -> None:
    results, settings = folders
    umt, bert = [tags(8, 0), tags(12, 1)], [tags(20, 2)]
    save(results, umt=result("UMT", umt), bert=result("BERT-CRF", bert))
    text = table(results, settings, against="BERT-CRF", trials=200)
    assert text.startswith("### Twitter2015; text encoder small\n\n| system | reported P |")
    row, plain = cells(text, "UMT"), cells(text, "BERT-CRF")
    assert [row[f"reported {name}"] for name in ("P", "R", "F1", "PER", "LOC", "ORG", "MISC")] == [
        "70.00",
        "72.50",
        "71.23",
        "80.10",
        "79.25",
        "–",
        "–",
    ]
    scores = [score(GOLD, run) for run in umt]
    f1 = [100 * one.lenient.f1 for one in scores]
    assert row["here F1"] == f"{np.mean(f1):.2f} ± {np.std(f1, ddof=1):.2f}"
    assert row["here P"] == "100.00"
    assert row["strict F1"] == f"{100 * np.mean([one.strict.f1 for one in scores]):.2f}"
    other = np.mean([one.lenient_by_type["OTHER"].f1 for one in scores])
    assert row["here MISC"] == f"{100 * other:.2f}"
    assert (row["seeds"], row["picture"]) == ("2", "grid by caption")
    both = [np.stack([counts(GOLD, run) for run in runs]) for runs in (umt, bert)]
    expected = compare(*both, trials=200)
    assert row["p"] == f"{expected.p:.4f}"
    assert row["against BERT-CRF"].startswith(f"{100 * expected.f1:+.2f} [")
    assert (plain["reported F1"], plain["against BERT-CRF"], plain["p"]) == ("–", "", "")
    assert "±" not in plain["here F1"]
    assert "here PER" not in cells(table(results, settings, types=False), "UMT")


def test_figures_of_the_papers() -> None:
    figures = reported_figures(PAPERS)
    assert figures["BERT-CRF", "Twitter2017", "Twitter2017"].f1 == 83.44
    assert figures["UMGF", "Twitter2017", "Twitter2015"].f1 == 66.21
    assert figures["GEI, - Span Detection", "Twitter2015", "Twitter2015"].f1 == 72.87


def test_entities_are_read_from_results(folders: tuple[Path, Path]) -> None:
    runs = [tags(8, 0), tags(12, 1)]
    save(folders[0], umt=result("UMT", runs))
    (found,) = read_results(folders[0])
    assert np.array_equal(entities(found), np.stack([counts(GOLD, run) for run in runs]))


def test_tables_group_comparable_results(folders: tuple[Path, Path]) -> None:
    results, settings = folders
    runs = [tags(5, 0)]
    save(
        results,
        a=result("UMT", runs),
        b=result("UMT, w/o all", runs),
        c=result("UMT", runs, **{"test data": "Twitter2017"}),
        d=result("UMT", runs, experiment={"encoder": "bert-base-cased"}),
        e=result("UMT", runs, experiment={"data_options": {"image_irrelevant_ratio": 1.0}}),
    )
    parts = table(results, settings, against="UMT, w/o all", trials=10).split("\n\n### ")
    heads = [part.removeprefix("### ").splitlines()[0] for part in parts]
    assert heads == [
        "Twitter2015; text encoder small",
        "Twitter2015 -> Twitter2017; text encoder small",
        "Twitter2015; text encoder bert-base-cased",
        "Twitter2015, image_irrelevant_ratio 1.0; text encoder small",
    ]
    assert cells(parts[0], "UMT, w/o all")["reported F1"] == "50.50"
    assert cells(parts[1], "UMT")["reported F1"] == "60.00"
    assert "p" in cells(parts[0], "UMT")
    assert all("p" not in cells(part, "UMT") for part in parts[1:])
    assert table(results, settings, data="Twitter2017") == ""


def test_incomparable_results_are_refused(folders: tuple[Path, Path]) -> None:
    results, settings = folders
    save(results, a=result("UMT", [tags(5, 0)]), b=result("UMT", [tags(6, 0)]))
    with pytest.raises(ValueError, match="has no result of 'BERT-CRF'"):
        table(results, settings, against="BERT-CRF")
    with pytest.raises(ValueError, match="2 results of UMT; keep one in the folder"):
        table(results, settings, against="UMT")


def test_the_command(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    save(folders[0], a=result("UMT", [tags(5, 0)]))
    main([f"--results={folders[0]}", f"--settings={folders[1]}", "--types=false"])
    assert "| UMT | 70.00 | 72.50 | 71.23 | 100.00 |" in capsys.readouterr().out


def test_results_of_other_texts_are_in_another_table(folders: tuple[Path, Path]) -> None:
    """Results of a changed test text have other posts, which can't be compared with one another."""
    results, settings = folders
    other = {"train": "1", "test": "3"}
    save(
        results,
        bert=result("BERT-CRF", [tags(2, 0)]),
        umt=result("UMT", [tags(1, 0)]),
        elsewhere=result("BERT-CRF", [tags(1, 0)], checksums=other),
    )
    changed = result("UMT", [tags(1, 0)], checksums=other)
    run = changed["seeds"]["0"]["entities by test post"]
    changed["seeds"]["0"]["entities by test post"] = {name: f"{line} 0" for name, line in run.items()}
    save(results, longer=changed | {"checksums": {"train": "1", "test": "4"}})
    found = table(results, settings, against="BERT-CRF", trials=10)
    assert found.count("### ") == 3
    assert found.count("against BERT-CRF") == 2
