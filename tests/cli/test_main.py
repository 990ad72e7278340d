"""The command line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from runs import Run
from tqdm import tqdm

from mnergraph.cli.main import COMMANDS, TRACEBACK, main
from mnergraph.models import MODELS

TINY = ["--data", "Lookalikes", "--data.sizes", "[12,6,6]"]
QUICK = ["--trainer.epochs", "1", "--trainer.accelerator", "cpu", "--trainer.progress", "false"]

Call = Callable[..., tuple[str, str]]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """``call("ls")``: runs a command that must succeed; its stdout and stderr."""

    def calling(*arguments: str | Path) -> tuple[str, str]:
        main([str(argument) for argument in arguments])
        return capsys.readouterr()

    return calling


@pytest.fixture
def fault(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """``fault("nonsense")``: runs a command that must fail for an error of the user; its one line on stderr."""

    def failing(*arguments: str | Path) -> str:
        with pytest.raises(SystemExit) as exit:
            main([str(argument) for argument in arguments])
        message = capsys.readouterr().err
        assert exit.value.code == 2
        assert message.startswith("mnergraph: ")
        assert message.count("\n") == 1, message
        return message

    return failing


# --- train, evaluate, predict ----------------------------------------------------------------------------


def test_train_by_a_papers_name_then_resume(call: Call, fault: Callable[..., str], tmp_path: Path) -> None:
    job = [
        "train",
        *TINY,
        "--root",
        tmp_path / "posts",
        "--model",
        "BERT-CRF",
        "--out",
        tmp_path / "run",
        *QUICK,
    ]
    printed, noise = call(*job)
    assert printed.startswith("BERTCRF on Lookalikes\nNodes: token.\n")
    assert "\nvalid\n| type |" in printed
    assert "\ntest\n| type |" in printed
    for word in ("GPU", "TPU", "Lightning", "Tip", "Loading", "Warning", "num_workers"):
        assert word not in printed + noise
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert (result["model"], result["data"]["train posts"], result["trainer"]["epochs"]) == ("BERTCRF", 12, 1)
    assert set(result["scores"]) == {"valid", "test"}

    assert "last.ckpt is there from another run: resume it, or choose another folder" in fault(*job)
    again, _ = call(*job, "--resume", "true")
    assert again == printed


def test_train_by_a_config_that_the_command_line_overrides(
    call: Call, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    config = tmp_path / "config.yaml"
    job = [
        "train",
        *TINY,
        "--root",
        tmp_path / "posts",
        "--model=UMGF",
        "--allow_missing",
        "[grounded objects]",
        "--out",
        tmp_path / "run",
        *QUICK,
    ]
    small = ["--model.hidden_size", "8", "--model.num_heads", "2", "--model.num_layers", "1", "--regions.size", "16"]
    with pytest.raises(SystemExit) as exit:
        main([*map(str, job), *small, "--print_config"])
    assert not exit.value.code
    config.write_text(capsys.readouterr().out)
    written = yaml.safe_load(config.read_text())
    assert (written["model"]["init_args"]["hidden_size"], written["regions"]["size"]) == (8, 16)
    assert not (tmp_path / "run").exists()

    call("train", "--config", config, "--model.num_heads", "4", "--out", tmp_path / "other", "--trainer.seed", "3")
    result = json.loads((tmp_path / "other" / "result.json").read_text())
    assert (result["model"], result["settings"]["hidden_size"], result["settings"]["num_heads"]) == ("UMGF", 8, 4)
    assert (result["trainer"]["seed"], result["trainer"]["epochs"]) == (3, 1)
    saved = json.loads((tmp_path / "other" / "model" / "processor_config.json").read_text())
    assert saved["regions"]["size"] == 16


def test_train_over_word_vectors(call: Call, fault: Callable[..., str], tmp_path: Path) -> None:
    vectors = tmp_path / "vectors.txt"
    vectors.write_text("the 0.1 0.2 0.3\njordan 1 2 3\n")
    job = ["train", *TINY, "--root", tmp_path / "posts", *QUICK]
    for model, encoder, name in (
        ("BiLSTM-CRF", "random:6", "random:6"),
        ("CNN-BiLSTM-CRF", vectors, "vectors.txt"),
    ):
        out = tmp_path / model
        call(*job, "--model", model, "--model.hidden_size", "8", "--encoder", encoder, "--out", out)
        assert json.loads((out / "result.json").read_text())["encoder"] == name
        printed, _ = call("predict", "--model", out / "model", "--text", "Jordan in Paris")
        assert json.loads(printed)["text"] == "Jordan in Paris"
    out = ["--out", tmp_path / "run"]
    message = fault(*job, "--model", "GVATT", "--encoder", "random:6", *out)
    assert "the model reads image features, which no post of train, valid, test has: give" in message
    message = fault(*job, "--model", "HBiLSTM-CRF", *out)
    assert "needs word vectors, and 'tiny-random' is another text encoder; give random:WIDTH or a file" in message
    message = fault(*job, "--model", "BERT-CRF", "--encoder", "random:6", *out)
    assert "needs a Hugging Face encoder, and 'random:6' are word vectors; give" in message
    message = fault(*job, "--model", "BiLSTM-CRF", "--encoder", tmp_path / "gone.txt", *out)
    assert f"there is no file of word vectors {tmp_path / 'gone.txt'}" in message
    vectors.write_text("the 1 2\njordan 1\n")
    message = fault(*job, "--model", "BiLSTM-CRF", "--encoder", vectors, *out)
    assert "vectors.txt:2: b'jordan 1' is not a word and 2 finite numbers" in message


def test_evaluate(call: Call, trained: Run, tmp_path: Path) -> None:
    options = ["--model", trained.model, "--root", trained.root, "--data", "Lookalikes"]
    options += ["--data.sizes", "[30,10,10]", "--progress", "false"]
    printed, _ = call("evaluate", *options, "--predictions", tmp_path / "tags.txt")
    card = (trained.model / "README.md").read_text()
    assert printed.strip() in card, "the scores of training, again"
    for part in ("Partial matches", "| partial | ", "Gold entities by kind of error", "Calibration of probabilities"):
        assert part in printed
    lines = (tmp_path / "tags.txt").read_text().splitlines()
    assert sum(line.startswith("IMGID:") for line in lines) == 10
    assert all(len(line.split("\t")) == 3 for line in lines if line and not line.startswith("IMGID:"))
    assert call("evaluate", *options, "--split", "valid")[0] != printed


@pytest.mark.filterwarnings("always::UserWarning")  # shown, as they are to a user
def test_evaluate_warns_of_posts_that_the_training_had(
    call: Call, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "model"
    shutil.copytree(trained.model, model)
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    config["metadata"]["data"]["name"] = "GroundedTwitter"
    (model / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (tmp_path / "test.txt").write_text("IMGID:1\nJordan\tB-PER\n")
    options = ["--model", model, "--root", tmp_path, "--data", "Twitter2017", "--progress", "false"]
    options += ["--allow_missing", "[detected objects, grounded objects, region features]"]
    _, warned = call("evaluate", *options)
    assert "warning: the model was trained on GroundedTwitter and is scored on Twitter2017" in warned


def test_evaluate_writes_json_and_figures(call: Call, trained: Run, tmp_path: Path) -> None:
    options = ["--model", trained.model, "--root", trained.root, "--data", "Lookalikes", "--progress", "false"]
    options += ["--data.sizes", "[30,10,10]", "--plots", tmp_path / "plots", "--out", tmp_path / "scores.json"]
    printed, _ = call("evaluate", *options)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["scores"] == trained.result["scores"]["test"]
    assert set(written) == {"scores", "schemes", "errors", "calibration"}
    assert written["schemes"]["all"]["strict"]["f1"] == pytest.approx(written["scores"]["lenient"]["f1"])
    drawn = sorted(path.name for path in (tmp_path / "plots").iterdir())
    assert printed.rstrip().endswith(f"{tmp_path / 'plots'}: {', '.join(['errors.png', 'confusion.png', *drawn[2:]])}")
    assert drawn[:2] == ["confusion.png", "errors.png"]
    assert ("reliability.png" in drawn) == bool(written["calibration"]["count"])
    for name in drawn:
        with Image.open(tmp_path / "plots" / name) as image:
            assert image.format == "PNG"


def test_evaluate_draws_nothing_of_no_entity(
    call: Call, trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "test.txt").write_text("IMGID:1\nnothing\tO\n")
    monkeypatch.setattr("mnergraph.models.Tagger.decode_tags", lambda *_, **__: [["O"]])
    monkeypatch.setattr("mnergraph.models.Tagger.decode_entities", lambda *_: [[]])
    options = ["--model", trained.model, "--root", tmp_path, "--data", "PostFolder", "--progress", "false"]
    options += ["--allow_missing", "[detected objects, grounded objects, region features]"]
    options += ["--plots", tmp_path / "plots"]
    printed, _ = call("evaluate", *options)
    assert "no figures, as there is no entity, neither gold nor predicted" in printed
    assert not (tmp_path / "plots").exists()


def test_predict_a_text_with_its_image(call: Call, fault: Callable[..., str], trained: Run, tmp_path: Path) -> None:
    image_path = next((trained.root / "raw" / "images").iterdir())
    text = "BERT-CRF met Jordan  in Paris 😀"
    job = ["predict", "--model", trained.model, "--text", text, "--image", image_path]
    assert "the model reads grounded objects, which no post has: give objects detected for phrases" in fault(*job)
    page = tmp_path / "page.jpg"
    page.write_text("<!doctype html>")
    message = fault("predict", "--model", trained.model, "--text", text, "--image", page)
    assert f"{page} can't be read as an image: page.jpg is a web page that was saved as an image" in message
    printed, noise = call(*job, "--allow_missing", "[detected objects, grounded objects]")
    assert noise == ""
    (line,) = map(json.loads, printed.splitlines())
    assert set(line) == {"id", "text", "entities"}
    assert line["text"] == text, "models' names are not renamed in a text"
    for found in line["entities"]:
        assert text[found["start"] : found["end"]].split() == found["words"]
        assert 0 <= found["score"] <= 1

    job = ["predict", "--model", trained.model, "--text", text, "--out", tmp_path / "out.jsonl"]
    assert call(*job) == ("", "")
    assert json.loads((tmp_path / "out.jsonl").read_text(encoding="utf-8"))["text"] == text


@pytest.mark.filterwarnings("always:3 of 4 posts")
def test_predict_files_of_posts(call: Call, fault: Callable[..., str], trained: Run, tmp_path: Path) -> None:
    raw = trained.root / "raw"
    evidence = [
        "--images",
        raw / "images",
        "--objects",
        raw / "objects.jsonl",
        "--captions",
        raw / "captions.jsonl",
    ]
    job = ["predict", "--model", trained.model, "--posts"]
    printed, noise = call(*job, raw / "test.txt", *evidence)
    tagged = printed.splitlines()
    assert "predicting: 100%" in noise, "the result goes into a file"
    assert call(*job, raw / "test.txt", *evidence, "--progress", "false") == (printed, "")
    assert len(tagged) == 10
    bare = tmp_path / "bare.txt"
    bare.write_text("\n".join(line.split("\t")[0] for line in (raw / "test.txt").read_text().split("\n")))
    assert call(*job, bare, *evidence, "--batch_pieces", "160")[0].splitlines() == tagged

    shutil.copy(next((raw / "images").iterdir()), tmp_path / "1.png")
    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"text": "Jordan wins", "image": "1.png", "id": "a"}\n{"words": ["hi"], "id": "b"}\n')
    lines = [
        json.loads(line)
        for line in call(*job, posts, "--allow_missing", "[detected objects, grounded objects]")[0].splitlines()
    ]
    assert [line["id"] for line in lines] == ["a", "b"]

    assert "images and files of evidence go with the CoNLL format" in fault(*job, posts, *evidence)
    assert "image can't go with posts" in fault(*job, posts, "--image", tmp_path / "1.png")
    posts.write_text('{"text": "a"}\n{"text": "a", "image": "gone.png"}\n{"text": 7, "id": "c"}\n{"text"')
    printed, noise = call(*job, posts)
    assert "3 of 4 posts have an error in the place of entities: 'c'; the first error: " in noise
    first, *errors, last = map(json.loads, printed.splitlines())
    assert "entities" in first
    assert f"{posts}:2: there is no image {tmp_path / 'gone.png'}; right is" in errors[0]["error"]
    assert [error["id"] for error in errors] == ["", "c", ""]
    assert f"{posts}:4: " in errors[2]["error"]
    assert (last["posts"], last["posts_with_errors"], last["first_errors"]) == (4, 3, errors)


# --- ls, verify-data, help ---------------------------------------------------------------------------------


def test_ls(call: Call) -> None:
    printed, _ = call("ls")
    for part in (
        "Models\n",
        "  BERT-CRF ",
        "  UMGF ",
        "Data sets\n",
        "  Lookalikes ",
        "  Twitter2017C ",
    ):
        assert part in printed
    assert "(object, guides, token): " not in printed
    assert "(object, guides, token): " in call("ls", "--schemas", "true")[0]


def test_verify_data(call: Call, trained: Run, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "train.txt").write_text("IMGID:1\nKevin\tI-PER\n\nIMGID:2\nRome\tB-LOC\n")
    (tmp_path / "test.txt").write_text("IMGID:3\nRome\tO\n")
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "1.jpg", "PNG")
    (tmp_path / "images" / "2.jpg").write_text("<html>gone</html>")
    with pytest.raises(SystemExit) as exit:
        main(["verify-data", "--root", str(tmp_path), "--progress", "false"])
    assert exit.value.code == 1
    printed = capsys.readouterr().out
    for part in (
        "train: 1 orphan I- tags in 1 posts",
        "1 texts in several splits, 1 with other labels",
        "1 images mislabelled: 1.jpg is PNG inside",
        "1 images html: 2.jpg",
        "1 images missing: 3",
    ):
        assert part in printed

    good = tmp_path / "good"
    (good / "images").mkdir(parents=True)
    (good / "train.txt").write_text("IMGID:1\nKevin\tB-PER\n")
    Image.new("RGB", (8, 8)).save(good / "images" / "1.png")
    assert call("verify-data", "--root", good, "--progress", "false")[0].endswith("no problems\n")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help(command: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--help"] if command is None else [command, "--help"])
    assert exit.value.code == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert printed.startswith("usage: mnergraph")
    if command is None:
        assert all(name in printed for name in COMMANDS)
    else:
        summary = (COMMANDS[command].__doc__ or "").split("\n\n")[0]
        assert " ".join(summary.split()) in printed


@pytest.mark.parametrize("start", ["module", "script"])
def test_entry_points(start: str) -> None:
    script = Path(sys.executable).with_name("mnergraph")
    if start == "script":
        # importing takes seconds, so only the script's text is checked; the module below is started
        assert "from mnergraph.cli.main import main" in script.read_text()
        return
    done = subprocess.run([sys.executable, "-m", "mnergraph.cli.main", "ls"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, ""), "importing prints nothing"
    assert done.stdout.startswith("Models\n")


# --- user errors -------------------------------------------------------------------------------------------


def test_traceback_if_requested(fault: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    job = ["predict", "--model", "nowhere"]
    assert "give either text" in fault(*job)
    monkeypatch.setenv("MNERGRAPH_TRACEBACK", "1")
    with pytest.raises(ValueError, match="give either text"):
        main(job)


def test_unknown_names(fault: Callable[..., str], tmp_path: Path) -> None:
    job = ["--root", tmp_path, "--out", tmp_path / "run"]
    message = fault("train", "--data", "Twitter", "--model", "UMGF", *job)
    assert "there is no data set 'Twitter'; did you mean Twitter2017? there is PostFolder, Lookalikes, " in message
    known = ", ".join(MODELS)
    for model in (["--model", "GPT"], ["--model=GPT"]):
        message = fault("train", "--data", "PostFolder", *model, *job)
        assert f"there is no model 'GPT'; there is {known}\n" in message
    message = fault("evaluate", "--model", tmp_path, "--data", "Twitter", "--root", tmp_path)
    assert "there is no data set 'Twitter'; did you mean" in message
    message = fault("features", "--images", tmp_path, "--store", tmp_path / "store", "--extractor", "YOLO")
    assert (
        "there is no extractor 'YOLO'; there is BackboneGrid, BackbonePyramid, VisionTower, RCNNDetector, DETRDetector"
        in message
    )
    assert "there is no command 'tain'; did you mean train? there is train, evaluate" in fault("tain")
    assert "required: root" in fault("train", "--data", "PostFolder", "--model", "UMGF", "--out", tmp_path)
    assert "trainer.epochs" in fault(
        "train", "--data", "PostFolder", "--model", "UMGF", *job, "--trainer.epochs", "many"
    )
    message = fault("train", "--data", "PostFolder", "--model", "UMGF", "--model.hidden_size", "wide", *job)
    assert "hidden_size" in message
    assert "there is variant, " in message


def test_missing_files_and_options(
    fault: Callable[..., str], trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = ["--out", tmp_path / "run"]
    message = fault("train", "--data", "PostFolder", "--root", tmp_path / "gone", "--model", "BERT", *out)
    assert f"no train.txt in {tmp_path / 'gone'}" in message
    posts = ["--data", "Lookalikes", "--data.sizes", "[30,10,10]", "--root", trained.root]
    message = fault("train", *posts, "--model", "BERT-CRF", *out, "--resume", "true")
    assert "nothing to resume: there is no" in message
    message = fault("train", *posts, "--model", "BERT-CRF", *out, "--regions.size", "32")
    assert "this model reads no region vectors; leave regions out" in message
    message = fault("train", *posts, "--model", "UMGF", *out, "--regions.weights", "gone.pth")
    assert "weights='gone.pth' is neither 'random', 'imagenet' nor a file of weights" in message
    message = fault("train", *posts, "--model", "BERT", *out, "--trainer.accelerator", "nonsense")
    assert "nonsense" in message
    message = fault("evaluate", "--model", trained.model, *posts, "--split", "night")
    assert "no split 'night'; there is train, valid (also: dev, val) and test" in message
    assert "no folder here" not in fault("predict", "--model", tmp_path, "--text", "hi")
    message = fault("predict", "--model", trained.model, "--text", "hi", "--image", tmp_path / "gone.png")
    assert f"there is no image {tmp_path / 'gone.png'}" in message
    assert "holds no word" in fault("predict", "--model", trained.model, "--text", " ")
    message = fault("predict", "--model", trained.model)
    assert "give either text, with image and caption if there are any, or posts" in message
    assert "images can't go with text" in fault(
        "predict", "--model", trained.model, "--text", "hi", "--images", tmp_path
    )
    assert "gone.jsonl" in fault("predict", "--model", trained.model, "--posts", tmp_path / "gone.jsonl")
    assert "no train.txt, valid.txt or test.txt in" in fault("verify-data", "--root", tmp_path / "gone")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    message = fault("predict", "--model", "no-such/model", "--text", "hi")
    assert "no model at 'no-such/model': it is no folder here, and the hub did not give it" in message


def test_labels_that_the_model_does_not_have(fault: Callable[..., str], trained: Run, tmp_path: Path) -> None:
    (tmp_path / "test.txt").write_text("IMGID:1\nKevin\tB-OTHER\n")
    message = fault("evaluate", "--model", trained.model, "--data", "PostFolder", "--root", tmp_path)
    assert "the model has no type of the test posts, which have OTHER (1); it has LOC" in message
    assert "--data.mapping '{OTHER: MISC}' renames types" in message


@pytest.mark.parametrize("debugging", [False, True])
def test_warnings_are_printed_without_source_line(call: Call, monkeypatch: pytest.MonkeyPatch, debugging: bool) -> None:
    def warned() -> None:
        """Prints formatted warnings."""
        for kind in (UserWarning, DeprecationWarning):
            print(warnings.formatwarning("one\nline", kind, "program.py", 7), end="")

    monkeypatch.setitem(COMMANDS, "warned", warned)
    if debugging:
        monkeypatch.setenv(TRACEBACK, "1")
    original = warnings.formatwarning, warnings.showwarning
    printed, _ = call("warned")
    assert original == (warnings.formatwarning, warnings.showwarning), "restored after the command"
    if debugging:
        assert printed.startswith("program.py:7: UserWarning: one\nline\n")
    else:
        assert printed == "warning: one line\nwarning (DeprecationWarning): one line\n"


def test_warnings_do_not_break_progress_bars(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def warned() -> None:
        """Shows a warning while a progress bar is displayed."""
        for _ in tqdm(range(2), "working", mininterval=0):
            warnings.showwarning(UserWarning("text"), UserWarning, "program.py", 7)

    monkeypatch.setitem(COMMANDS, "warned", warned)
    _, noise = call("warned")
    lines = [line.split("\r")[-1] for line in noise.split("\n")]
    assert lines.count("warning: text") == 2
    assert "working: 100%" in noise


# --- explain ---------------------------------------------------------------------------------------------


def test_explain_a_text_a_file_and_the_errors_of_a_split(call: Call, trained: Run, tmp_path: Path) -> None:
    def page(*arguments: str | Path, left_out: str = "") -> dict[str, Any]:
        out = tmp_path / "page.html"
        job = ["explain", "--model", trained.model, "--out", out, "--progress", "false"]
        printed, _ = call(*job, *arguments)
        text = out.read_text(encoding="utf-8")
        data = json.loads(text.partition('id="content">')[2].partition("</script>")[0])
        size = out.stat().st_size / 1e6
        assert printed == f"{out}: {len(data['posts'])} posts{left_out}, {size:.2f} MB\n"
        return data

    image_path = next((trained.root / "raw" / "images").iterdir())
    data = page(
        "--text", "<b>Jordan</b> wins", "--image", image_path, "--allow_missing", "[detected objects, grounded objects]"
    )
    assert "".join(data["posts"][0]["words"]) == "<b>Jordan</b>wins"
    assert data["posts"][0]["image"].startswith("data:image/jpeg;base64,")
    assert data["posts"][0]["parts"]

    posts = tmp_path / "posts.jsonl"
    posts.write_text('{"text": "Jordan wins", "id": "7"}\n{"text": "hi"}\n')
    assert [post["id"] for post in page("--posts", posts)["posts"]] == ["7", ""]
    assert len(page("--posts", posts, "--max_posts", "1", left_out=" of 2, see max_posts")["posts"]) == 1

    split = ["--data", "Lookalikes", "--data.sizes", "[30,10,10]", "--root", trained.root]
    errors_only, all_posts = page(*split), page(*split, "--errors_only", "false")
    wrong, every = errors_only["posts"], all_posts["posts"]
    assert errors_only["summary"] == all_posts["summary"], "that of the whole split"
    assert (errors_only["summary"]["posts"], errors_only["summary"]["with_errors"]) == (10, len(wrong))
    assert ["data", "Lookalikes, test"] in errors_only["facts"]
    assert ["posts shown", f"the {len(wrong)} with errors"] in errors_only["facts"]
    assert [post["id"] for post in wrong] == [post["id"] for post in every if post["errors"]]
    assert len(every) == 10
    left_out = " of 10, see max_posts"
    assert len(page(*split, "--max_posts", "2", "--errors_only", "false", left_out=left_out)["posts"]) == 2
    left_out = f" of {len(wrong)} with errors, see max_posts"
    assert page(*split, "--max_posts", "1", left_out=left_out)["summary"] == errors_only["summary"]


def test_explain_needs_exactly_one_input(fault: Callable[..., str], trained: Run, tmp_path: Path) -> None:
    job = ["explain", "--model", trained.model, "--out", tmp_path / "page.html"]
    assert "give either text, with image and caption if there are any, or posts, or data" in fault(*job)
    assert "data and root go together" in fault(*job, "--data", "Lookalikes")
    split = ["--data", "Lookalikes", "--root", tmp_path]
    assert "text can't go with data" in fault(*job, *split, "--text", "Ann wins")
    assert "image can't go with posts" in fault(*job, "--posts", tmp_path / "a.txt", "--image", "1.jpg")
    assert not (tmp_path / "page.html").exists()


# --- what is refused at once, spellings of names, custom modules -------------------------------------------


def test_invalid_settings(fault: Callable[..., str], tmp_path: Path) -> None:
    job = ["train", "--data", "PostFolder", "--root", tmp_path, "--model", "UMGF", "--out", tmp_path / "run"]
    for option, value, message in (
        ("--optimizer.lr", "-1", "lr is a learning rate above 0, not -1.0"),
        ("--optimizer.encoder_lr", "0", "encoder_lr is a learning rate above 0"),
        ("--optimizer.weight_decay", "-0.1", "weight_decay is 0 or more"),
        ("--trainer.epochs", "0", "epochs is 1 or more, not 0"),
        ("--trainer.batch_size", "0", "batch_size is 1 or more, not 0"),
        ("--trainer.precision", "8", "precision '8' is not among 32-true"),
    ):
        assert message in fault(*job, option, value)
    printed = fault(*job, "--model.widht", "3")
    assert "widht" in printed
    assert "there is variant, " in printed


OWN = """
from dataclasses import dataclass
from mnergraph.models import BERTCRF


class Mine(BERTCRF):
    \"\"\"A custom model.\"\"\"


@dataclass(frozen=True)
class Last:
    \"\"\"The last words are a phrase.\"\"\"

    count: int = 1

    def __call__(self, words):
        return [(max(0, len(words) - self.count), len(words))] if words else []
"""


def test_custom_module(call: Call, fault: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_own.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    job = ["--data", "Lookalikes", "--data.sizes", "[12,6,6]", "--root", tmp_path / "posts"]
    train = [*job, "--out", tmp_path / "run", *QUICK]
    assert "there is no model 'Mine'" in fault("train", *train, "--model", "Mine")
    assert "no module named 'gone'" in fault("--import", "gone", "train", *train, "--model", "Mine").lower()
    printed, _ = call("--import", "my_own", "train", *train, "--model", "Mine")
    assert printed.startswith("Mine on Lookalikes")
    folder = tmp_path / "run" / "model"
    assert call("--import", "my_own", "evaluate", "--model", folder, *job)[0].startswith("| type |")
    sys.modules.pop("my_own", None)
