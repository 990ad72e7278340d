"""Training from posts to the best checkpoint: learning, choosing, repeating, resuming, stopping."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from odd_images import noise

import mnergraph
from mnergraph import BatchConfig
from mnergraph.metrics.scores import score
from mnergraph.models import Tagger
from mnergraph.nn.heads.scheduled_sampling import ScheduledSamplingConfig
from mnergraph.pair import Pair
from mnergraph.training import LitTagger, OptimizerConfig, TrainerConfig, evaluate, fit

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]
MakeLoop = Callable[..., TrainerConfig]
LongRun = Callable[..., dict[str, torch.Tensor]]
Uninterrupted = Callable[[str], tuple[dict[str, torch.Tensor], list, dict[str, Any]]]

#: 42 posts in batches of 4: eleven steps an epoch.
STEPS = 11


class Killed(BaseException):
    """Simulates the end of the process; Lightning does not catch it."""


class KillAt(Callback):
    """Ends the run at the given call of a hook."""

    def __init__(self, hook: str, time: int = 1) -> None:
        self.left = time

        def kill(*args: Any, **kwargs: Any) -> None:
            self.left -= 1
            if not self.left:
                raise Killed

        setattr(self, hook, kill)


def killed(hook: str, time: int) -> dict[str, Any]:
    return {"callbacks": [KillAt(hook, time)]}


class Watch(Callback):
    """Records the posts of every step."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int, list[str]]] = []

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        self.steps.append((trainer.current_epoch, batch_idx, [pair.id for pair in batch.pair]))


def weights(model: Tagger) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("kind", ["BERT", "BERT-CRF", "GEI", "UMGF"])
def test_learns(kind: str, build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, here: Path) -> None:
    model = build(kind)
    train, dev = posts(60, 1), posts(20, 2)
    before, _ = evaluate(model, dev, progress=False)
    returned = fit(model, train, dev, here, optimizer=fast, trainer=loop(epochs=4))
    assert returned is model
    assert not model.training
    after, tags = evaluate(model, dev, progress=False)
    assert after.lenient.f1 > max(0.9, before.lenient.f1)
    assert [len(row) for row in tags] == [len(post.words) for post in dev]
    assert sorted(file.name for file in (here / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]


def test_model_in_evaluation_mode_is_trained_with_dropout(
    build: Build, posts: Posts, loop: MakeLoop, here: Path
) -> None:
    modes = []

    class Probe(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *rest: Any) -> None:
            modes.append(all(part.training for part in module.model.modules()))

    # as AutoModel.from_pretrained and Tagger.from_pretrained give them
    model = build().eval()
    fit(model, posts(8, 1), posts(4, 2), here, trainer=loop(lightning={"callbacks": [Probe()]}))
    assert modes == [True] * 4


def test_order_differs_between_epochs(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    watch = Watch()
    train = posts(42, 1)
    fit(build(), train, posts(4, 2), here, trainer=loop(epochs=3, lightning={"callbacks": [watch]}))
    assert [(epoch, index) for epoch, index, _ in watch.steps] == [(e, i) for e in range(3) for i in range(STEPS)]
    epochs = [[ids for epoch, _, ids in watch.steps if epoch == number] for number in range(3)]
    assert all(sorted(id for ids in epoch for id in ids) == sorted(post.id for post in train) for epoch in epochs)
    assert len({str(epoch) for epoch in epochs}) == 3


def test_scheduled_layers_get_every_epoch(
    build: Build, posts: Posts, loop: MakeLoop, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GEI's share of predicted entities, and that of the kept weights is the best epoch's."""
    scores_of_dev(monkeypatch, [0.1, 0.2, 0.3, 0.4, 0.9, 0.4, 0.3, 0.2, 0.1])
    shares: list[float] = []

    class Probe(Callback):
        def on_train_batch_start(self, trainer: Any, module: Any, *rest: Any) -> None:
            shares.extend(float(part.share) for part in module.modules() if hasattr(part, "share"))

    model = build("GEI", scheduled_sampling=ScheduledSamplingConfig())
    how = loop(epochs=9, lightning={"callbacks": [Probe()]})
    fit(model, posts(4, 1), posts(4, 2), here, trainer=how)
    assert shares == pytest.approx([0, 0, 0, 0.225, 0.45, 0.675, 0.9, 0.9, 0.9])
    [kept] = [float(part.share) for part in model.modules() if hasattr(part, "share")]
    assert kept == pytest.approx(0.45)


def test_best_weights_by_dev_alone(
    build: Build,
    posts: Posts,
    loop: MakeLoop,
    fast: OptimizerConfig,
    here: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Dev F1 peaks in the second of four epochs; later ones equal it or are better by what does not count."""
    dev_f1 = iter([0.2, 0.7, 0.7, 0.4])
    after: list[dict[str, torch.Tensor]] = []

    def end(self: LitTagger) -> None:
        self._seen = []
        self.log("dev_f1", next(dev_f1))
        self.log("dev_f1_strict", float(len(after)))
        after.append(weights(self.model))

    monkeypatch.setattr(LitTagger, "on_validation_epoch_end", end)
    model = fit(build(), posts(20, 1), posts(4, 2), here, optimizer=fast, trainer=loop(epochs=4))
    assert [same(weights(model), one) for one in after] == [False, True, False, False]


@pytest.mark.parametrize("kind", ["BERT-CRF", "UMGF"])
def test_same_seed_gives_the_same_weights(
    kind: str, build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, tmp_path: Path
) -> None:
    def result(seed: int, name: str) -> dict[str, torch.Tensor]:
        torch.manual_seed(int.from_bytes(name.encode()))
        model = fit(build(kind), posts(20, 1), posts(8, 2), tmp_path / name, optimizer=fast, trainer=loop(seed=seed))
        return weights(model)

    one = result(3, "a")
    assert same(one, result(3, "b"))
    assert not same(one, result(4, "c"))


@pytest.fixture(scope="module")
def long_run(posts: Posts, build: Build, loop: MakeLoop, fast: OptimizerConfig) -> LongRun:
    """The best weights of a run with dropout, two epochs, and a checkpoint every three steps."""

    def go(folder: Path, kind: str, *callbacks: Callback, resume: bool = False) -> dict[str, torch.Tensor]:
        how = loop(save_every=3, lightning={"callbacks": list(callbacks)})
        model = build(kind, dropout=0.3)
        return weights(fit(model, posts(42, 1), posts(12, 2), folder, optimizer=fast, trainer=how, resume=resume))

    return go


@pytest.fixture(scope="module")
def uninterrupted(long_run: LongRun, tmp_path_factory: pytest.TempPathFactory) -> Uninterrupted:
    """``unbroken(kind)``: the best weights of an uninterrupted run, its steps, and its last checkpoint."""

    @cache
    def whole(kind: str) -> tuple[dict[str, torch.Tensor], list, dict[str, Any]]:
        folder, watch = tmp_path_factory.mktemp("unbroken"), Watch()
        best = long_run(folder, kind, watch)
        return best, watch.steps, torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)

    return whole


@pytest.mark.parametrize(
    ("kind", "hook", "time", "first"),
    [
        # in the first epoch, between two checkpoints
        ("BERT-CRF", "on_train_batch_start", 6, (0, 3)),
        # right after a checkpoint, whose random state must hold for the very next step
        ("BERT-CRF", "on_train_batch_start", 7, (0, 6)),
        # before the second epoch's first step
        ("BERT-CRF", "on_train_batch_start", STEPS + 1, (1, 0)),
        # in the second epoch
        ("BERT-CRF", "on_train_batch_start", STEPS + 10, (1, 7)),
        ("UMGF", "on_train_batch_start", STEPS + 10, (1, 7)),
        # where GEI draws, from the share of the second epoch, which posts' entities are predicted
        ("GEI", "on_train_batch_start", STEPS + 10, (1, 7)),
        # while the first and the second epoch were scored on dev
        ("BERT-CRF", "on_validation_batch_start", 2, (0, 9)),
        ("BERT-CRF", "on_validation_epoch_end", 2, (1, 10)),
        # when the first epoch was over and kept
        ("BERT-CRF", "on_train_epoch_start", 2, (1, 0)),
    ],
)
def test_interrupted_and_resumed_equals_uninterrupted(
    kind: str,
    hook: str,
    time: int,
    first: tuple[int, int],
    long_run: LongRun,
    uninterrupted: Uninterrupted,
    here: Path,
) -> None:
    whole, steps, last = uninterrupted(kind)
    with pytest.raises(Killed):
        long_run(here, kind, KillAt(hook, time))
    torch.manual_seed(12345)
    again = Watch()
    resumed = long_run(here, kind, again, resume=True)
    assert again.steps[0][:2] == first
    assert again.steps == steps[-len(again.steps) :], "the same posts, in the same batches, to the end"
    assert same(resumed, whole)
    ended = torch.load(here / "checkpoints" / "last.ckpt", weights_only=True)
    assert same(ended["state_dict"], last["state_dict"])
    assert ended["global_step"] == last["global_step"] == 2 * STEPS
    assert ended["lr_schedulers"] == last["lr_schedulers"]


def test_interrupted_twice(build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, tmp_path: Path) -> None:
    train, dev = posts(42, 1), posts(4, 2)

    def go(name: str, *callbacks: Callback, resume: bool = False) -> dict[str, torch.Tensor]:
        how = loop(epochs=1, save_every=2, lightning={"callbacks": list(callbacks)})
        model = build(dropout=0.3)
        return weights(fit(model, train, dev, tmp_path / name, optimizer=fast, trainer=how, resume=resume))

    whole = go("whole")
    for resume in (False, True):
        with pytest.raises(Killed):
            go("killed", KillAt("on_train_batch_start", 4), resume=resume)
    assert same(go("killed", resume=True), whole)


def test_a_finished_run_resumes_to_its_result(
    build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, here: Path
) -> None:
    train, dev = posts(20, 1), posts(8, 2)
    done = weights(fit(build(), train, dev, here, optimizer=fast, trainer=loop()))
    assert same(weights(fit(build(seed=5), train, dev, here, optimizer=fast, trainer=loop(), resume=True)), done)


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, subprocess.Popen[str]] | None]:
    """`in_processes.py` and its folder. It starts with the first test here and runs while the others do."""
    if not hasattr(os, "fork"):
        yield None
        return
    folder = tmp_path_factory.mktemp("processes")
    command = [sys.executable, str(Path(__file__).parent / "in_processes.py"), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        yield folder, process
        process.kill()  # no test waited for it


@pytest.fixture(scope="module")
def processes(started: tuple[Path, subprocess.Popen[str]] | None) -> Path:
    """The folder that `in_processes.py` has worked in."""
    if started is None:
        pytest.skip("needs a system that forks")
    folder, process = started
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    return folder


def test_resume_after_a_killed_process(
    build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, tmp_path: Path, processes: Path
) -> None:
    assert json.loads((processes / "found.json").read_text())["died"] == 9
    train, dev, how = posts(42, 1), posts(4, 2), loop(epochs=1, save_every=3)
    whole = fit(build(dropout=0.3), train, dev, tmp_path, optimizer=fast, trainer=how)
    killed = fit(build(dropout=0.3), train, dev, processes / "killed", optimizer=fast, trainer=how, resume=True)
    assert same(weights(whole), weights(killed))


def test_two_devices(processes: Path) -> None:
    found = json.loads((processes / "found.json").read_text())
    # 15 batches, so 8 steps for each device in each of four epochs
    assert found["steps"] == 32
    assert found["f1"] > 0.8
    assert found["f1"] == pytest.approx(found["best"]), "dev is scored over both devices' posts"


def test_two_devices_are_as_one(processes: Path) -> None:
    found = json.loads((processes / "found.json").read_text())["two as one"]
    assert found["moved"] > 0.01
    assert found["difference"] < 1e-5, "the same global batches give the same steps"
    assert found["tags"][0] == found["tags"][1]
    assert found["f1"][0] == found["f1"][1]
    assert found["best"][1] == pytest.approx(found["best"][0], abs=1e-9), "each dev post is scored once"
    assert found["difference after a kill"] == 0
    # one process for each of the run, the killed run and the resumed one
    assert found["writers"] == 3
    assert found["writes"] > 6


def scores_of_dev(monkeypatch: pytest.MonkeyPatch, values: list[float]) -> list[int]:
    """Makes the epochs score ``values`` on dev; returns the epochs that were scored."""
    scored_epochs: list[int] = []

    def end(self: LitTagger) -> None:
        self._seen = []
        scored_epochs.append(self.current_epoch)
        self.log("dev_f1", values[self.current_epoch])

    monkeypatch.setattr(LitTagger, "on_validation_epoch_end", end)
    return scored_epochs


def test_patience(build: Build, posts: Posts, loop: MakeLoop, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scored_epochs = scores_of_dev(monkeypatch, [0.1, 0.5, 0.4, 0.5, 0.9, 0.9])
    how = loop(epochs=6, patience=2)
    model = fit(build(), posts(8, 1), posts(4, 2), here, trainer=how)
    assert scored_epochs == [0, 1, 2, 3], "two epochs without a better score end it"
    # and a resume trains no further epoch
    resumed = fit(build(seed=5), posts(8, 1), posts(4, 2), here, trainer=how, resume=True)
    assert scored_epochs == [0, 1, 2, 3]
    assert same(weights(resumed), weights(model))


def test_patience_is_restored_by_a_resume(
    build: Build, posts: Posts, loop: MakeLoop, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_epochs = scores_of_dev(monkeypatch, [0.5, 0.1, 0.2, 0.3, 0.9])
    train, dev = posts(8, 1), posts(4, 2)
    with pytest.raises(Killed):
        fit(
            build(),
            train,
            dev,
            here,
            trainer=loop(epochs=5, patience=3, lightning=killed("on_train_epoch_start", 3)),
        )
    fit(build(), train, dev, here, trainer=loop(epochs=5, patience=3), resume=True)
    assert scored_epochs == [0, 1, 2, 3]


def test_refusals(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    model, some = build(), posts(4, 1)
    with pytest.raises(FileNotFoundError, match=r"nothing to resume: there is no .*last.ckpt"):
        fit(model, some, some, here, trainer=loop(), resume=True)
    with pytest.raises(ValueError, match="there are no train posts"):
        fit(model, [], some, here, trainer=loop())
    with pytest.raises(ValueError, match="there are no dev posts"):
        fit(model, some, [], here, trainer=loop())
    bare = [Pair(("bob",), id="bare")]
    for train, dev in ((some, bare), (bare, some)):
        with pytest.raises(ValueError, match="posts without labels can't be trained on or scored: 'bare'"):
            fit(model, train, dev, here, trainer=loop())
    with pytest.raises(ValueError, match="posts without labels can't be trained on or scored: 'bare'"):
        evaluate(model, bare)
    assert not here.exists(), "what is refused leaves nothing behind"
    fit(model, some, some, here, trainer=loop(epochs=1))
    with pytest.raises(FileExistsError, match=r"last.ckpt is there from another run: resume it, or choose"):
        fit(model, some, some, here, trainer=loop(epochs=1))


def test_prediction_does_not_ask_for_what_no_training_post_had(
    build: Build, posts: Posts, loop: MakeLoop, here: Path
) -> None:
    train = posts(4, 1)  # some with objects, none with region vectors
    model = fit(build("UMGF"), train, train, str(here), trainer=loop(epochs=1))
    assert model.processor_config is not None
    assert model.processor_config.allow_missing == ("region features",)
    here.mkdir(exist_ok=True)
    noise(8, 6).save(here / "1.png")
    new = replace(train[0], image_path=here / "1.png")
    mnergraph.pipeline(model)(new)  # no warning
    model.processor_config = None
    with pytest.warns(UserWarning, match="1 of 1 posts has no region features"):
        mnergraph.pipeline(model)(new)
    assert fit(build(), train, train, here / "text", trainer=loop(epochs=1)).processor_config is None


def test_loss_that_is_not_finite(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    with pytest.raises(FloatingPointError, match=r"at step [1-9].*learning rates .*posts '1-.* NaN .*Try a smaller"):
        fit(
            build(),
            posts(20, 1),
            posts(4, 2),
            here,
            optimizer=OptimizerConfig(1e30, 1e30),
            trainer=loop(epochs=3),
        )


def test_csv(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    fit(build(), posts(20, 1), posts(4, 2), here, trainer=loop(logger="csv", lightning={"log_every_n_steps": 1}))
    (file,) = (here / "logs").rglob("metrics.csv")
    header, *lines = file.read_text().splitlines()
    assert {"epoch", "step", "loss", "dev_f1", "dev_f1_strict"} <= set(header.split(","))
    assert len(lines) == 2 * (5 + 1)


def test_resume_with_a_rate_of_heads(
    build: Build, posts: Posts, loop: MakeLoop, fast: OptimizerConfig, here: Path
) -> None:
    train, dev, how = posts(8, 1), posts(4, 2), replace(fast, head_lr=0.05)
    whole = weights(fit(build("UMGF"), train, dev, here, optimizer=how, trainer=loop()))
    again = fit(build("UMGF", seed=5), train, dev, here, optimizer=how, trainer=loop(), resume=True)
    assert same(weights(again), whole)
    with pytest.raises(ValueError, match="one of them has head_lr, the other none; give the run's own"):
        fit(build("UMGF"), train, dev, here, optimizer=fast, trainer=loop(epochs=3), resume=True)


def test_resumed_with_logs(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    """The usual run: curves to CSV, checkpoints in the same folder, no warning."""
    train, dev = posts(20, 1), posts(4, 2)
    with pytest.raises(Killed):
        fit(
            build(),
            train,
            dev,
            here,
            trainer=loop(logger="csv", save_every=2, lightning=killed("on_train_batch_start", 4)),
        )
    fit(build(), train, dev, here, trainer=loop(logger="csv", save_every=2), resume=True)
    assert len(list((here / "logs").iterdir())) == 2


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="TensorBoard is installed")
def test_without_tensorboard(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    with pytest.raises(ModuleNotFoundError, match=r"pip install mnergraph\[logging\], or take logger='csv'"):
        fit(build(), posts(4, 1), posts(4, 2), here, trainer=loop(logger="tensorboard"))


@pytest.mark.parametrize(("kind", "clip"), [("BERT", None), ("BERT-CRF", 1.0), ("UMGF", None)])
def test_half_precision(
    kind: str,
    clip: float | None,
    build: Build,
    posts: Posts,
    loop: MakeLoop,
    fast: OptimizerConfig,
    here: Path,
) -> None:
    how = loop(epochs=3, precision="bf16-mixed", lightning={"gradient_clip_val": clip})
    model = fit(build(kind), posts(60, 1), posts(20, 2), here, optimizer=fast, trainer=how)
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}
    assert evaluate(model, posts(20, 2), progress=False)[0].lenient.f1 > 0.8


def test_fp16_on_a_processor_becomes_bf16(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    with pytest.warns(UserWarning, match="fp16 is not supported on CPU. Using `precision='bf16-mixed'`"):
        fit(build(), posts(8, 1), posts(4, 2), here, trainer=loop(epochs=1, precision="16-mixed"))


def test_evaluation_is_in_the_order_of_the_posts(build: Build, posts: Posts) -> None:
    model, some = build(), posts(23, 1)
    scores, tags = evaluate(model, some, batching=BatchConfig(batch_pieces=80), progress=False)
    alone = [evaluate(model, [post], progress=False)[1][0] for post in some]
    assert tags == alone
    assert scores == score([post.labels or () for post in some], tags)


def test_evaluation_shows_its_progress(build: Build, posts: Posts, capsys: pytest.CaptureFixture[str]) -> None:
    evaluate(build(), posts(5, 1))
    assert "5/5" in capsys.readouterr().err
    evaluate(build(), posts(5, 1), progress=False)
    assert capsys.readouterr() == ("", "")


def test_model_can_be_trained_after_evaluation(build: Build, posts: Posts, loop: MakeLoop, here: Path) -> None:
    model = build("UMGF")
    evaluate(model, posts(8, 1), progress=False)
    model.predict(posts(4, 1))
    fit(model, posts(8, 1), posts(4, 2), here, trainer=loop(epochs=1))
