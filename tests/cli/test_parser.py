"""What `mnergraph.cli.parser` replaces in jsonargparse is there, is used, and is put back."""

from __future__ import annotations

import json
from pathlib import Path

import jsonargparse._typehints as typehints
import pytest
from jsonargparse import ArgumentParser

from mnergraph.cli.main import main
from mnergraph.cli.parser import UnknownNameError, registry_names
from mnergraph.data import PostDataset
from mnergraph.data.datasets.base import PostFolder


def path_of(name: str) -> str:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_subclass_arguments(PostDataset, "data", skip={"root", "split"}, required=False)
    return parser.parse_args(["--data", name]).data.class_path


@pytest.mark.parametrize("name", ["PostFolder", "postfolder", "post-folder"])
def test_names_are_those_of_the_registry(name: str) -> None:
    with registry_names():
        assert path_of(name) == f"{PostFolder.__module__}.PostFolder"


def test_unknown_names_are_errors_with_the_nearest_name() -> None:
    with registry_names():
        resolve = typehints.resolve_class_path_by_name
        with pytest.raises(UnknownNameError, match=r"there is no data set 'PostFodler'; did you mean PostFolder\?"):
            resolve(PostDataset, "PostFodler")


def fail_inside() -> None:
    with registry_names():
        raise ZeroDivisionError


def test_patched_function_is_restored() -> None:
    before = typehints.resolve_class_path_by_name
    with registry_names():
        assert typehints.resolve_class_path_by_name is not before
    assert typehints.resolve_class_path_by_name is before
    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert typehints.resolve_class_path_by_name is before


@pytest.mark.parametrize(
    ("command", "key"),
    [("train", "data"), ("train", "model"), ("train", "regions"), ("features", "extractor"), ("features", "chunker")],
)
@pytest.mark.parametrize("path", ["os.system", "subprocess.Popen", "builtins.exec", "torch.hub.load", "shutil.rmtree"])
def test_a_configuration_runs_no_code(
    command: str, key: str, path: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mark = tmp_path / "executed"
    value = {"class_path": path, "init_args": {"command": f"touch {mark}", "args": ["touch", str(mark)]}}
    given = {
        "train": {"root": str(tmp_path), "out": str(tmp_path / "run"), "data": "PostFolder", "model": "BERTCRF"},
        "features": {"images": str(tmp_path), "store": str(tmp_path / "store"), "extractor": "BackboneGrid"},
    }[command]
    (tmp_path / "config.yaml").write_text(json.dumps({**given, key: value}), encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main([command, "--config", str(tmp_path / "config.yaml")])
    assert ended.value.code == 2
    line = capsys.readouterr().err.strip()
    assert len(line.splitlines()) == 1
    assert f"Importing '{path}' is not allowed: only classes of mnergraph and of modules given by --import" in line
    assert not mark.exists()


def test_classes_of_imported_modules_may_be_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_posts.py").write_text(
        "from mnergraph.data import PostFolder\n\n\nclass OwnPosts(PostFolder):\n    pass\n", encoding="utf-8"
    )
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("IMGID:1\na\tB-PER\n\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    options = [
        "--data",
        "own_posts.OwnPosts",
        "--root",
        str(tmp_path),
        "--model",
        "BERTCRF",
        "--out",
        str(tmp_path / "r"),
    ]
    quick = ["--trainer.epochs", "1", "--trainer.progress", "false"]
    main(["train", "--import", "own_posts", *options, *quick])
    assert (tmp_path / "r" / "model").is_dir()
