"""The extractor interface: one `ImageEvidence` for every image, in order, for any file and batch size."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest
import torch
from odd_images import noise, write_odd_images
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pixels

from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.features.vision.image_io import UNUSABLE, summarize_issues
from mnergraph.pair import DetectedObject, Pair

SMALL = BackboneGrid("resnet18", size=32)


@dataclass(frozen=True)
class Means(Extractor):
    """Mean color of an image at its own size; the caption is the concatenation of the phrases."""

    needs_phrases = True
    scale: float = 1.0

    @property
    def name(self) -> str:
        return "means"

    @cached_property
    def network(self) -> nn.Module:
        return nn.Identity()

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        if image.width > 10_000:
            raise ValueError("too wide for me")
        return {"pixels": pixels.pil_to_tensor(image)}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        assert len({item.size for item in items}) == 1
        means = self.network(batch["pixels"].float()).mean((2, 3)) * self.scale
        captions = [" ".join(phrase.text for phrase in item.phrases) for item in items]
        return [ImageEvidence(pooled=mean, caption=text) for mean, text in zip(means, captions, strict=True)]


def test_every_odd_image_has_evidence_in_order(tmp_path: Path) -> None:
    kinds = {id: kind for id, kind in write_odd_images(tmp_path / "images").items() if kind != "refused"}
    names = {path.stem: path for path in (tmp_path / "images").iterdir()}
    paths = [names.get(id, tmp_path / "images" / f"{id}.jpg") for id in kinds]
    for workers in (0, 2):
        found = list(Means().extract(paths, batch_size=3, num_workers=workers, progress=False))
        kinds["wide"] = "unfit"
        assert [one.issue and one.issue.code for one in found] == list(kinds.values())
        for path, one, kind in zip(paths, found, kinds.values(), strict=True):
            if kind in UNUSABLE:
                assert one == ImageEvidence(issue=one.issue)
            else:
                assert one.size is not None
                assert one.pooled is not None
                with Image.open(path) as picture:
                    sides = set(picture.size)
                assert set(one.size) == sides
        message = summarize_issues(one.issue for one in found)
        assert "3 corrupt (truncated, or not an image): truncated, text, program\n" in message
        assert "1 unfit" in message


def test_results_do_not_depend_on_the_batch() -> None:
    images = [noise(40 + 8 * (seed % 3), 30, seed) for seed in range(7)]
    phrases = [[Phrase(f"p{seed}"), Phrase("and more")][: seed % 3] for seed in range(7)]
    together = list(Means().extract(images, phrases, progress=False))
    for size in (1, 2, 5):
        again = Means().extract(images, phrases, batch_size=size, progress=False)
        for one, other in zip(together, again, strict=True):
            assert (one.caption, one.size) == (other.caption, other.size)
            torch.testing.assert_close(one.pooled, other.pooled)
    assert [one.caption for one in together[:3]] == ["", "p1", "p2 and more"]


def test_workers_change_nothing(tmp_path: Path) -> None:
    paths: list[str | Path] = []
    for seed in range(5):
        noise(seed=seed).save(tmp_path / f"{seed}.png")
        paths.append(tmp_path / f"{seed}.png")
    paths[2] = str(paths[2])
    serial = list(SMALL.extract(paths, batch_size=2, progress=False))
    parallel = list(SMALL.extract(paths, batch_size=2, num_workers=2, progress=False))
    for one, other in zip(serial, parallel, strict=True):
        torch.testing.assert_close(one.grid, other.grid)
        torch.testing.assert_close(one.pooled, other.pooled)


def test_a_run_is_lazy_and_leaves_torchs_random_state_alone(tmp_path: Path) -> None:
    state = torch.get_rng_state()
    run = Means().extract([noise()] * 10, batch_size=2, progress=False)
    next(run)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.is_grad_enabled()
    run.close()
    assert list(Means().extract([], progress=False)) == []


def test_results_can_be_trained_on() -> None:
    (found,) = SMALL.extract([noise()], progress=False)
    assert found.grid is not None
    assert not found.grid.is_inference()
    (found.grid * torch.ones(512, requires_grad=True)).sum().backward()
    assert not any(weight.requires_grad for weight in SMALL.network.parameters())


def test_the_progress_bar_counts_images(capsys: pytest.CaptureFixture[str]) -> None:
    list(Means().extract([noise()] * 5, batch_size=2))
    assert "means: 100%" in capsys.readouterr().err
    list(Means().extract([noise()] * 5, progress=False))
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu() -> None:
    on_cpu = list(SMALL.extract([noise()], progress=False))
    (on_gpu,) = SMALL.extract([noise()], device="cuda", progress=False)
    assert on_gpu.grid is not None
    assert on_gpu.grid.device.type == "cpu"
    torch.testing.assert_close(on_gpu.grid, on_cpu[0].grid, atol=1e-3, rtol=1e-3)


def test_phrases_are_validated() -> None:
    with pytest.raises(ValueError, match="BackboneGrid reads no phrases; a grounder does"):
        SMALL.extract([noise()], [[]])
    with pytest.raises(ValueError, match="2 sequences of phrases for 1 images"):
        Means().extract([noise()], [[], []])


# --- identity ------------------------------------------------------------------------------------------


def test_identity_has_what_determines_the_results(tmp_path: Path) -> None:
    found = SMALL.identity()
    assert json.loads(json.dumps(found)) == found
    assert found["extractor"] == "BackboneGrid"
    assert found["version"] == 1
    assert found["settings"] == {
        **{"backbone": "resnet18", "weights": "random", "size": 32, "resize_mode": "squash"},
        **{"stage": 4, "pool_size": None, "seed": 0},
    }
    assert len(found["weights"]) == 64
    assert BackboneGrid("resnet18", size=32).identity() == found
    assert replace(SMALL, size=64).identity()["weights"] == found["weights"]
    assert replace(SMALL, seed=1).identity()["weights"] != found["weights"]

    torch.manual_seed(9)
    import torchvision

    state = torchvision.models.resnet18(weights=None).state_dict()
    for index in ("one", "other"):
        (tmp_path / index).mkdir()
        torch.save(state, tmp_path / index / "mine.pth")
    moved = [BackboneGrid("resnet18", str(tmp_path / index / "mine.pth")).identity() for index in ("one", "other")]
    assert moved[0] == moved[1]
    assert moved[0]["settings"]["weights"] == "mine"


def test_a_worker_gets_no_network() -> None:
    extractor = BackboneGrid("resnet18", size=32)
    assert extractor.network is not None
    assert len(pickle.dumps(extractor)) < 1000
    assert pickle.loads(pickle.dumps(extractor)) == extractor


# --- attach to a pair -----------------------------------------------------------------------------------------


def test_evidence_is_attached_to_a_pair() -> None:
    hat, dog, cat = (
        DetectedObject("a hat"),
        DetectedObject("dog", (0, 0, 9, 9)),
        DetectedObject("cat", (1, 1, 5, 5)),
    )
    pair = Pair(("a", "word"), objects=(dog, hat), size=(4, 4), caption="old")
    grid, pooled = torch.rand(49, 3), torch.rand(3)
    evidence = ImageEvidence((9, 9), grid=grid, pooled=pooled)
    on_gpu = evidence.attach_to(pair)
    assert on_gpu.objects == (dog, hat)
    assert (on_gpu.size, on_gpu.caption) == ((9, 9), "old")
    assert on_gpu.image_features is grid
    one = evidence.attach_to(pair, image="pooled").image_features
    assert one is not None
    assert torch.equal(one, pooled[None])
    assert ImageEvidence((9, 9), objects=(cat,)).attach_to(pair).objects == (cat, hat)
    assert ImageEvidence((9, 9), objects=()).attach_to(pair).objects == (hat,)
    assert ImageEvidence((9, 9), caption="new").attach_to(pair).caption == "new"
    assert ImageEvidence().attach_to(pair) == pair
