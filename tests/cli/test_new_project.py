"""A project that the command line writes: its own test passes, and it trains and predicts."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

from mnergraph.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("projects") / "my-ner"
    main(["new-project", str(folder)])
    return folder


@pytest.fixture
def run(project: Path) -> Callable[..., str]:
    """Runs a module in the project's folder, as its README has it; what it prints."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}

    def running(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-W", "ignore", "-m", *arguments],
            cwd=project,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return running


def test_what_is_written(project: Path) -> None:
    written = {path.relative_to(project).as_posix() for path in project.rglob("*") if path.is_file()}
    assert written == {
        ".gitignore",
        "README.md",
        "my_ner/__init__.py",
        "my_ner/model.py",
        "my_ner/schema.py",
        "pyproject.toml",
        "tests/test_model.py",
        "train.yaml",
    }
    settings = tomllib.loads((project / "pyproject.toml").read_text())
    assert settings["project"]["entry-points"] == {"mnergraph.plugins": {"my_ner": "my_ner"}}
    for name in written:
        text = (project / name).read_text()
        assert "$" not in text
    for command in ("mnergraph --import my_ner train --config train.yaml", "pytest"):
        assert command in (project / "README.md").read_text().splitlines()


def test_its_style(project: Path) -> None:
    ruff, length = [sys.executable, "-m", "ruff"], ["--isolated", "--line-length", "120"]
    for command in (["check", *length, "--select", "E,F,W,I,UP,B"], ["format", "--check", *length]):
        done = subprocess.run([*ruff, *command, "."], cwd=project, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr


def test_it_trains_and_its_tests_pass_and_it_predicts(run: Callable[..., str], project: Path) -> None:
    small = ["--data.sizes", "[16,4,4]"]
    own = ["mnergraph", "--import", "my_ner"]
    quick = ["--trainer.batch_size", "8", "--trainer.epochs", "1", "--trainer.accelerator", "cpu"]
    printed = run(*own, "train", "--config", "train.yaml", *small, *quick)
    assert "MyNer on Lookalikes\n" in printed
    assert "(object, shows, token): every object reaches the tokens that begin with a capital letter." in printed
    result = json.loads((project / "runs" / "first" / "result.json").read_text())
    assert (result["model"], result["settings"]["hidden_size"], result["data"]["train posts"]) == ("MyNer", 64, 16)
    saved = ["--model", "runs/first/model"]
    text = ["--text", "Thousands march through Paris", "--allow_missing", "[detected objects]"]
    # in one process, as each more takes ten seconds to import its modules
    arguments = ["--import", "my_ner", "predict", *saved, *text]
    (project / "both.py").write_text(
        f"import pytest\nfrom mnergraph.cli.main import main\nmain({arguments!r})\n"
        "raise SystemExit(pytest.main(['-q', '-p', 'no:cacheprovider']))\n"
    )
    line, tested = run("both").split("\n", 1)
    (project / "both.py").unlink()
    assert json.loads(line)["text"] == "Thousands march through Paris"
    assert "5 passed" in tested


def test_what_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, project: Path) -> None:
    def fault(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as exit:
            main(["new-project", *map(str, arguments)])
        assert exit.value.code == 2
        return capsys.readouterr().err

    assert "my-ner is there and not empty; give a folder that is new or empty" in fault(project)
    (tmp_path / "file").write_text("")
    assert "is there and not empty" in fault(tmp_path / "file")
    assert "'2ner' is no name that Python takes; give another --package" in fault(tmp_path / "2ner")
    assert "'class' is no name that Python takes" in fault(tmp_path / "class")
    assert "'torch' is the name of a module that is there already" in fault(tmp_path / "torch")
    assert "'tests' is the name of a module that is there already" in fault(tmp_path / "tests")
    assert "there is a model 'UMGF' already; give another --model than 'Umgf'" in fault(tmp_path / "umgf")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_other_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new").mkdir()
    main(["new-project", "new", "--package", "tweets", "--model", "TweetTagger"])
    assert "class TweetTagger(Tagger):" in (tmp_path / "new" / "tweets" / "model.py").read_text()
    main(["new-project", "Posts of 2017!"])
    settings = tomllib.loads((tmp_path / "Posts of 2017!" / "pyproject.toml").read_text())
    assert settings["project"]["name"] == "Posts-of-2017"
    assert (tmp_path / "Posts of 2017!" / "posts_of_2017" / "schema.py").is_file()
