"""Types that only some splits have: named, taken from all splits, or counted as missed, said before training."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mnergraph.cli.main import main
from mnergraph.labels import LabelSet
from mnergraph.models import Tagger
from mnergraph.pair import Pair
from mnergraph.training import TrainerConfig, evaluate, fit
from mnergraph.training.label_sets import check_types, choose_labels, unknown_entities, warn_of_unknown_types

PER, LOC, ORG = (Pair(("in", f"{kind.lower()}1"), ("O", f"B-{kind}"), kind) for kind in ("PER", "LOC", "ORG"))
SPLITS = {"train": [PER, LOC] * 4, "valid": [LOC, ORG], "test": [PER, ORG, ORG]}


def test_label_sets() -> None:
    assert choose_labels(SPLITS) == LabelSet.from_types(["LOC", "PER"])
    assert choose_labels(SPLITS, "all") == LabelSet.from_types(["LOC", "ORG", "PER"])
    assert choose_labels(SPLITS, ("PER", "LOC", "DATE")) == LabelSet.from_types(["PER", "LOC", "DATE"])
    with pytest.raises(ValueError, match=r"the training posts have types that labels lacks: LOC \(4\)"):
        choose_labels(SPLITS, ("PER",))


def test_unknown_entities_are_counted() -> None:
    labels = LabelSet.from_types(["PER"])
    long = Pair(("a", "b", "c"), ("B-ORG", "I-ORG", "I-LOC"))
    assert unknown_entities(labels, [PER, ORG, long, Pair(("a",))]) == {"ORG": 2, "LOC": 1}
    with pytest.warns(UserWarning, match=r"types that m lacks count as missed: valid LOC \(1\); test ORG \(2\)\."):
        warn_of_unknown_types(labels, {"valid": [PER, LOC], "test": SPLITS["test"], "train": [PER]}, name="m")
    with pytest.raises(
        ValueError, match=r"m has no type of the valid posts, which have LOC \(1\), ORG \(1\); it has PER"
    ):
        check_types(labels, "valid", SPLITS["valid"], name="m")
    check_types(labels, "valid", [Pair(("a",), ("O",))])
    with pytest.warns(UserWarning, match=r"valid LOC \(1\)\."):
        check_types(labels, "valid", [PER, LOC])
    kinds = [Pair((str(n),), (f"B-{n}",)) for n in range(9)]
    with pytest.warns(UserWarning, match=r"0 \(1\), 1 \(1\), 2 \(1\), 3 \(1\), 4 \(1\) and 4 more types\."):
        warn_of_unknown_types(labels, {"test": [PER, *kinds]})


def test_they_count_as_missed(build: Callable[..., Tagger], loop: Callable[..., TrainerConfig], tmp_path: Path) -> None:
    model = fit(build(), SPLITS["train"], SPLITS["valid"], tmp_path, trainer=loop())
    scores, tags = evaluate(model, SPLITS["test"], progress=False)
    assert scores.lenient_by_type["ORG"].gold == 2
    assert scores.lenient_by_type["ORG"].recall == 0
    assert [len(row) for row in tags] == [2, 2, 2]
    with pytest.raises(ValueError, match="post 'ORG': label 'B-ORG' is not among the labels"):
        fit(model, [PER, ORG], SPLITS["valid"], tmp_path / "other", trainer=loop())


def write(folder: Path, **splits: str) -> None:
    folder.mkdir()
    for name, tag in {"train": "B-PER", "valid": "B-PER", "test": "B-PER", **splits}.items():
        posts = [f"IMGID:{number}\nann\tB-PER\nat\tO\nplace\t{tag}\n" for number in range(6)]
        (folder / f"{name}.txt").write_text("\n".join(posts))


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    options = {"data": "PostFolder", "root": tmp_path / "posts", "model": "BERT-CRF", "out": tmp_path / "run"}
    trainer = {"epochs": 1, "progress": "false", "accelerator": "cpu", "logger": "none"}
    return [
        "train",
        *(str(part) for name, value in options.items() for part in (f"--{name}", value)),
        *(str(part) for name, value in trainer.items() for part in (f"--trainer.{name}", value)),
    ]


@pytest.mark.filterwarnings("always:entities of types")
def test_said_before_training(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    write(tmp_path / "posts", test="B-ORG")
    main(command)
    printed = capsys.readouterr()
    assert "entities of types that the model lacks count as missed: test ORG (6). --labels all takes" in printed.err
    assert printed.err.count("ORG") == 1
    assert (tmp_path / "run" / "model").is_dir()
    assert "ORG" in printed.out
    main(["evaluate", "--model", str(tmp_path / "run" / "model"), *command[1:5], "--progress", "false"])
    assert "count as missed: test ORG (6). --data.mapping" in capsys.readouterr().err


def test_types_of_all_splits(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    write(tmp_path / "posts", test="B-ORG", valid="B-LOC")
    main([*command, "--labels", "all"])
    assert "missed" not in capsys.readouterr().err
    assert Tagger.from_pretrained(tmp_path / "run" / "model").labels.types == ("LOC", "ORG", "PER")


def test_named_types(command: list[str], tmp_path: Path) -> None:
    write(tmp_path / "posts", test="B-ORG", valid="B-ORG")
    main([*command, "--labels", "[PER, ORG]"])
    assert Tagger.from_pretrained(tmp_path / "run" / "model").labels.types == ("PER", "ORG")


@pytest.mark.filterwarnings("always:entities of types")
def test_a_split_without_any_known_type(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    write(tmp_path / "posts")
    (tmp_path / "posts" / "test.txt").write_text("IMGID:1\nmay\tB-DATE\n")
    main(command)
    assert "count as missed: test DATE (1). --labels all" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", str(tmp_path / "run" / "model"), *command[1:5], "--progress", "false"])
    assert "the model has no type of the test posts, which have DATE (1); it has PER" in capsys.readouterr().err
