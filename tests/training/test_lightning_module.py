"""The Lightning module: parameter groups, learning rates, and a loss that is not finite."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision, Precision

from mnergraph.graph import collate
from mnergraph.models import Tagger
from mnergraph.nn.heads.tagging import TaggingScores
from mnergraph.pair import Pair
from mnergraph.training import LitTagger, OptimizerConfig
from mnergraph.training.precision import BFloat16Mixed

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]


def training(
    model: Tagger, how: OptimizerConfig, *, clip: float | None = None, plugin: Precision | None = None
) -> LitTagger:
    found = LitTagger(model, how, range(25))
    found.trainer = SimpleNamespace(  # type: ignore[assignment]
        max_epochs=8, accumulate_grad_batches=2, gradient_clip_val=clip, precision_plugin=plugin or Precision()
    )
    return found


@pytest.mark.parametrize("kind", ["BERT", "BERT-CRF", "UMGF"])
def test_groups(build: Build, kind: str) -> None:
    model = build(kind)
    how = OptimizerConfig(encoder_lr=1e-4, lr=1e-2, weight_decay=0.3, warmup=0)
    optimiser = training(model, how).configure_optimizers()["optimizer"]
    of = {id(weight): group for group in optimiser.param_groups for weight in group["params"]}
    assert len(of) == sum(len(group["params"]) for group in optimiser.param_groups), "each weight once"
    for name, weight in model.named_parameters():
        group = of[id(weight)]
        # the encoder is the first layer's
        assert group["initial_lr"] == (1e-4 if name.startswith("layers.0.model.") else 1e-2), name
        plain = (
            name.endswith("bias") or "norm" in name.lower() or name.endswith(("start_transitions", "end_transitions"))
        )
        assert group["weight_decay"] == (0.0 if plain else 0.3), name


@pytest.mark.parametrize("kind", ["BERT", "BERT-CRF", "UMT"])
def test_heads_have_a_rate_of_their_own(build: Build, kind: str) -> None:
    model = build(kind, **({"num_heads": 2, "image_dim": 4} if kind == "UMT" else {}))
    how = OptimizerConfig(encoder_lr=1e-4, lr=1e-2, head_lr=0.05)
    optimiser = training(model, how).configure_optimizers()["optimizer"]
    of = {id(weight): group for group in optimiser.param_groups for weight in group["params"]}
    assert len(of) == len(list(model.parameters())) == sum(len(group["params"]) for group in optimiser.param_groups)
    scores = [name for name, part in model.named_modules() if isinstance(part, TaggingScores)]
    for name, weight in model.named_parameters():
        is_head = name.startswith("heads.") or name.rpartition(".linear.")[0] in scores
        rate = 1e-4 if name.startswith("layers.0.model.") else 0.05 if is_head else 1e-2
        assert of[id(weight)]["initial_lr"] == rate, name


def test_without_a_rate_of_heads_groups_are_as_before(build: Build) -> None:
    model, of = build("BERT-CRF"), OptimizerConfig(encoder_lr=1e-4, lr=1e-2)
    plain, same = (LitTagger(model, how, [])._parameter_groups() for how in (of, replace(of, head_lr=1e-2)))
    assert [group["lr"] for group in plain] == [1e-4, 1e-4, 1e-2, 1e-2]
    rate = {id(weight): group["lr"] for group in plain for weight in group["params"]}
    assert all(rate[id(weight)] == group["lr"] for group in same for weight in group["params"])
    with pytest.raises(ValueError, match=r"head_lr is a learning rate above 0, not 0$"):
        OptimizerConfig(head_lr=0)


def test_warm_up_and_decay() -> None:
    how = OptimizerConfig(warmup=0.1)
    assert [how.rate(step, 100) for step in (0, 5, 10)] == [0.0, 0.5, 1.0]
    assert [how.rate(step, 100) for step in (55, 100, 101)] == [0.5, 0.0, 0.0]
    whole = [how.rate(step, 100) for step in range(101)]
    assert whole[:11] == sorted(whole[:11])
    assert whole[10:] == sorted(whole[10:], reverse=True)
    assert OptimizerConfig(warmup=0).rate(0, 10) == 1.0
    assert OptimizerConfig(warmup=1).rate(9, 10) == 0.9
    assert OptimizerConfig(warmup=1).rate(10, 10) == 0.0
    assert OptimizerConfig(warmup=0.1).rate(0, 1) == 0.0
    for wrong in (-0.1, 1.5):
        with pytest.raises(ValueError, match=f"warmup is a share of the steps, 0 to 1, not {wrong}"):
            OptimizerConfig(warmup=wrong)


def test_scheduler_follows_the_curve(build: Build) -> None:
    how = OptimizerConfig(encoder_lr=1e-4, lr=1e-2)
    found = training(build(), how).configure_optimizers()
    optimiser, schedule = found["optimizer"], found["lr_scheduler"]["scheduler"]
    assert found["lr_scheduler"]["interval"] == "step"
    for step in range(104):
        rates = {round(group["lr"] / group["initial_lr"], 6) for group in optimiser.param_groups}
        assert rates == {round(how.rate(step, 104), 6)}
        optimiser.step()
        schedule.step()


@pytest.mark.parametrize(
    ("clip", "plugin", "fused"),
    [
        (None, Precision(), True),
        (1.0, Precision(), True),
        (None, MixedPrecision("bf16-mixed", "cpu"), True),
        (1.0, MixedPrecision("bf16-mixed", "cpu"), False),
        (1.0, BFloat16Mixed("cpu"), True),
    ],
)
def test_fused_optimizer_where_its_gradients_can_be_clipped(
    build: Build, clip: float | None, plugin: Precision, fused: bool
) -> None:
    found = training(build(), OptimizerConfig(), clip=clip, plugin=plugin).configure_optimizers()
    assert all(group["fused"] is fused for group in found["optimizer"].param_groups)


def test_validation_keeps_every_post(build: Build, posts: Posts, monkeypatch: pytest.MonkeyPatch) -> None:
    module = LitTagger(build().eval(), OptimizerConfig(), [])
    logged: dict[str, float] = {}
    monkeypatch.setattr(module, "log", lambda name, value, **_: logged.__setitem__(name, value))
    some = posts(9, 0)
    for begin in (0, 4, 8):
        module.validation_step(collate(module.model.builder.build_all(some[begin : begin + 4])), 0)
    gold = [tags for batch in module._decoded for tags in batch.gold]
    assert gold == [list(post.labels or ()) for post in some]
    module.on_validation_epoch_end()
    assert set(logged) == {"dev_f1", "dev_f1_strict"}
    assert module._decoded == [], "the next epoch starts afresh"


def test_buffers_are_not_broadcast_between_devices(build: Build) -> None:
    """It would fail where one device has one dev batch more: each batch is a collective call."""
    module = LitTagger(build("UMGF"), OptimizerConfig(), [])
    buffers = {name for name, _ in module.named_buffers()}
    assert buffers
    assert set(module._ddp_params_and_buffers_to_ignore) == buffers


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_loss_that_is_not_finite(build: Build, posts: Posts, value: float, monkeypatch: pytest.MonkeyPatch) -> None:
    module = training(build(), OptimizerConfig())
    module.trainer.optimizers = [SimpleNamespace(param_groups=[{"lr": 1e-4}, {"lr": 0.01}])]
    module.trainer.global_step = 41
    monkeypatch.setattr(module.model, "loss", lambda graph: torch.tensor(value))
    batch = collate(module.model.builder.build_all(posts(2, 5)))
    with pytest.raises(FloatingPointError) as error:
        module.training_step(batch, 0)
    for expected in (
        "at step 41",
        "learning rates 0.0001, 0.01",
        "'5-0', '5-1'",
        "gradient_clip_val=1",
    ):
        assert expected in str(error.value)
