"""The speed script at the smallest size: every system runs; times are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.common import LABELS, allocated, commit, flops, random_encoder, some_posts, timed
from benchmarks.experiment import SETTINGS, read
from benchmarks.speed import main, measure, model_for, posts_for, twitter_lengths
from benchmarks.steps import training_calls
from mnergraph.graph import collate
from mnergraph.models import BERTCRF

FILES = {path.stem.split("_")[1]: path for path in sorted(SETTINGS.glob("*_twitter2015.yaml"))}


@pytest.mark.parametrize("system", FILES)
def test_every_system(system: str) -> None:
    experiment = read(FILES[system])
    posts = posts_for(experiment, 2, [3, 5])
    model = model_for(experiment, posts, (48, 1, 4))
    found = measure(model, posts, "bf16", batch_size=2, repeats=1, device="cpu")
    assert min(found["posts per second"].values()) > 0
    assert min(found["peak MiB beside weights and optimiser"].values()) > 0
    words = experiment.encoder.startswith("random:")
    assert ("shares" in found) == (not words)
    if not words:
        for shares in found["shares"].values():
            assert sum(shares.values()) == pytest.approx(1)
        assert found["share of the encoder's rate"] > 0


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tmp_path / "twitter2015"
    root.mkdir()
    (root / "train.txt").write_text("IMGID:1\na\tO\nb\tO\nc\tO\n", encoding="utf-8")
    out = tmp_path / "new" / "speed.json"
    how = {"shapes": {"tiny": (16, 1, 2)}, "precisions": ("fp32",), "batch_size": 2, "batches": 1}
    main(out, systems=("BERT-CRF", "BiLSTM-CRF"), root=root, repeats=1, **how)
    found = json.loads(out.read_text(encoding="utf-8"))
    assert found["lengths"] == "Twitter-2015 train"
    assert set(found["systems"]) == {"BERT-CRF", "BiLSTM-CRF"}
    assert set(found["systems"]["BERT-CRF"]) == {"tiny, fp32"}
    assert found["commit"] == commit()
    printed = capsys.readouterr().out.splitlines()
    assert {line.split(":")[0] for line in printed} == {"BERT-CRF, tiny, fp32", "BiLSTM-CRF, tiny, fp32"}
    with pytest.raises(ValueError, match=r"no settings of BERT-CFR for Twitter2015; there is .*BERT, .*UMGF"):
        main(systems=("BERT-CFR",))


def test_posts_are_of_twitters_shape() -> None:
    lengths = twitter_lengths()
    mean = sum(lengths) / len(lengths)
    assert mean == pytest.approx(16.1, abs=0.5)
    assert (sum((length - mean) ** 2 for length in lengths) / len(lengths)) ** 0.5 == pytest.approx(5.5, abs=0.5)
    posts = some_posts(300, lengths=[7], image=(49, 6), region=5)
    assert {len(post.words) for post in posts} == {7}
    assert all(post.image_features is not None and post.image_features.shape == (49, 6) for post in posts)
    assert all(obj.region is not None and len(obj.region) == 5 for post in posts for obj in post.objects)
    entities = sum(tag != "O" for post in posts for tag in post.labels or ())
    assert entities / 300 == pytest.approx(1.5, abs=0.15)
    assert some_posts(3) == some_posts(3) != some_posts(3, seed=1)


def test_operations_are_those_of_the_products() -> None:
    weight, x = torch.randn(3, 5, requires_grad=True), torch.randn(7, 3)
    # 7 x 3 x 5 products and sums forward, as many for the gradient of the weight; x has none
    assert flops(lambda: (x @ weight).sum().backward()) == 2 * 2 * 7 * 3 * 5


def test_memory_is_what_is_held_at_once() -> None:
    def call() -> None:
        for _ in range(4):
            torch.ones(2**20)  # 4 MiB, given back before the next

    assert allocated(call) == pytest.approx(4, abs=0.5)


def test_functions_are_timed_alternately() -> None:
    order: list[str] = []
    found = timed({"a": lambda: order.append("a"), "b": lambda: order.append("b")}, 3)
    assert "".join(order) == "aabb" + "ab" * 3
    assert set(found) == {"a", "b"}


def test_parts_of_a_step_are_those_of_the_model() -> None:
    """A step updates all weights, a step of the encoder only its own, and a loss none."""
    torch.manual_seed(0)
    model = BERTCRF(random_encoder(16, 1, 2), LABELS)
    calls = training_calls(model, [collate(model.builder.build_all(some_posts(4)))])
    own = {id(weight) for weight in model.encoder_parameters()}

    def moved(name: str) -> list[bool]:
        """Whether each weight of the encoder, then each other weight that matters here, was moved."""
        before = [weight.detach().clone() for weight in model.parameters()]
        calls[name]()
        changed = [not torch.equal(old, new) for old, new in zip(before, model.parameters(), strict=True)]
        of_encoder = [change for change, weight in zip(changed, model.parameters(), strict=True) if id(weight) in own]
        others = [change for change, weight in zip(changed, model.parameters(), strict=True) if id(weight) not in own]
        return [any(of_encoder), any(others)]

    assert moved("step") == [True, True]
    assert moved("encoder") == [True, False]
    assert moved("losses") == [False, False]
