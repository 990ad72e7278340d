"""Signals: what is kept, what is said, and with which status the process ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from lightning.pytorch.callbacks import Callback
from PIL import Image

from mnergraph.cli.main import error_line, main
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.models import Tagger
from mnergraph.pair import Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, fit
from mnergraph.training.interruption import INTERRUPTION, Interruption, Stopped, handle_signals, keeps

BOTH = pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])


@BOTH
def test_a_signal_ends_the_work_at_once(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with pytest.raises(Stopped) as stopped, handle_signals(), keeps(lambda: "all of it"):  # noqa: PT012
        assert signal.getsignal(signum) is INTERRUPTION
        os.kill(os.getpid(), signum)
    assert signal.getsignal(signum) is before
    assert stopped.value.exit_status == 128 + signum
    assert str(stopped.value) == f"stopped by {signum.name}; all of it"


def test_the_inner_place_says_what_is_kept() -> None:
    with pytest.raises(Stopped, match="stopped by SIGTERM; two of three"), keeps(lambda: "all"):  # noqa: SIM117
        with keeps(lambda: "two of three"):
            raise Stopped(signal.SIGTERM)


def test_a_deferred_signal_is_noted_and_the_second_one_ends() -> None:
    interruption = Interruption()
    interruption.deferred = True
    interruption(signal.SIGTERM, None)
    assert interruption.requested == signal.SIGTERM
    with pytest.raises(Stopped, match="SIGINT"):
        interruption(signal.SIGINT, None)


def test_other_threads_have_no_handlers() -> None:
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work() -> None:
        with handle_signals():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]


# --- training --------------------------------------------------------------------------------------------


class SignalAt(Callback):
    """Sends this process a signal in the given step."""

    def __init__(self, step: int, signum: signal.Signals) -> None:
        self.step, self.signum = step, signum

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), self.signum)


@pytest.mark.parametrize("step", [0, 4, 10, 11, 21])
@BOTH
def test_a_stopped_run_continues_as_if_it_had_not_been(
    signum: signal.Signals,
    step: int,
    build: Callable[..., Tagger],
    posts: Callable[[int, int], list[Pair]],
    loop: Callable[..., TrainerConfig],
    fast: OptimizerConfig,
    tmp_path: Path,
) -> None:
    """42 posts in batches of 4 are eleven steps an epoch; 10 and 21 are the last ones of an epoch."""
    train, dev = posts(42, 1), posts(12, 2)

    def run(folder: Path, *, resume: bool = False, **lightning: Any) -> Tagger:
        torch.manual_seed(0)
        trainer = loop(epochs=3, save_every=0, lightning=lightning)
        return fit(build("BERT-CRF"), train, dev, folder, optimizer=fast, trainer=trainer, resume=resume)

    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped) as stopped, handle_signals():
        run(tmp_path / "stopped", callbacks=[SignalAt(step, signum)])
    last = tmp_path / "stopped" / "checkpoints" / "last.ckpt"
    assert str(stopped.value).startswith(f"stopped by {signum.name}; {last} is kept; the same command with --resume")
    done = torch.load(last, map_location="cpu", weights_only=False)["global_step"]
    assert done == step + 1, "the step is finished"
    again = run(tmp_path / "stopped", resume=True)
    for name, weight in again.state_dict().items():
        assert torch.equal(weight, whole.state_dict()[name]), name
    assert not INTERRUPTION.deferred


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "posts"
    root.mkdir()
    for split, count in (("train", 40), ("valid", 7), ("test", 9)):
        text = "".join(f"IMGID:{i}\nBob\tB-PER\nis\tO\nin\tO\nParis\tB-LOC\n\n" for i in range(count))
        (root / f"{split}.txt").write_text(text, encoding="utf-8")
    return root


def command(folder: Path, out: Path, *options: str) -> list[str]:
    data = ["--data", "PostFolder", "--root", str(folder), "--model", "BERTCRF", "--out", str(out)]
    return ["train", *data, "--trainer.epochs", "1", "--trainer.progress", "false", *options]


def test_two_runs_do_not_share_a_folder(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with FileLock(out / ".lock"), pytest.raises(SystemExit):
        main(command(folder, out))
    assert "another process trains into" in capsys.readouterr().err
    assert not (out / "checkpoints").exists()
    main(command(folder, out))  # a lock that nobody holds is none
    assert (out / "model").is_dir()


def test_two_devices_are_one_job(folder: Path, tmp_path: Path) -> None:
    """Trained, scored and saved once, with the scores of one process."""
    options = command(folder, tmp_path / "run", "--trainer.devices", "2", "--trainer.accelerator", "cpu")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "mnergraph", *options], capture_output=True, text=True, env=environment, timeout=240
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("result: ") == 1
    result = json.loads((tmp_path / "run" / "result.json").read_text(encoding="utf-8"))
    from mnergraph.data import PostFolder
    from mnergraph.training import evaluate

    model = Tagger.from_pretrained(tmp_path / "run" / "model")
    for split in ("valid", "test"):
        scores, _ = evaluate(model, PostFolder(folder, split).pairs, progress=False)
        assert result["scores"][split] == scores.to_dict()
    assert result["scores"]["test"]["lenient"]["gold"] == 18


# --- other commands --------------------------------------------------------------------------------------


@BOTH
def test_extraction_keeps_what_it_has(
    signum: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / "images"
    images.mkdir()
    for index in range(7):
        Image.new("RGB", (40, 30), (index * 30, 0, 0)).save(images / f"{index}.png")
    forward, batches = BackboneGrid.forward, []

    def forward_then_signal(self: BackboneGrid, batch: Any, items: Any) -> Any:
        batches.append(len(items))
        if len(batches) == 3:
            os.kill(os.getpid(), signum)
        return forward(self, batch, items)

    monkeypatch.setattr(BackboneGrid, "forward", forward_then_signal)
    arguments = ["features", "--images", str(images), "--store", str(tmp_path / "store"), "--batch_size", "2"]
    arguments += ["--extractor", "BackboneGrid", "--extractor.backbone", "resnet18", "--progress", "false"]
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 128 + signum
    kept = f"what was extracted is in {tmp_path / 'store'}; the same command continues"
    assert capsys.readouterr().err.strip() == f"mnergraph: stopped by {signum.name}; {kept}"
    assert len(FeatureStore(tmp_path / "store")) == 4
    main(arguments)
    assert "3 extracted now, 4 known" in capsys.readouterr().out


def test_a_bare_key_is_named_as_a_fault() -> None:
    assert error_line(KeyError(0)) == "KeyError '0', a fault of mnergraph; MNERGRAPH_TRACEBACK=1 shows where"
    assert error_line(KeyError("no image 'a'")) == "no image 'a'"
    assert error_line(ValueError("two\n lines")) == "two lines"
    assert error_line(FileNotFoundError()) == "FileNotFoundError"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ("{weight: -1}", "mnergraph: weight is 0 or more, not -1.0"),
        (
            "{scheduled_sampling: {start_epoch: 5, end_epoch: 2}}",
            "rises from an epoch, 0 or later, to a later one",
        ),
        ("{weight: heavy}", "heavy"),
    ],
)
def test_an_option_that_may_be_null_says_what_is_wrong_with_its_value(
    settings: str, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [f"--root={tmp_path}", f"--out={tmp_path}"]
    with pytest.raises(SystemExit):
        main(["train", *paths, "--data=Lookalikes", "--model=BERT-CRF", f"--model.grounding={settings}"])
    error = capsys.readouterr().err
    assert said in error
    assert "Union" not in error
    assert "NoneType" not in error
    assert len(error.splitlines()) == 1
