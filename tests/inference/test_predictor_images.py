"""Image features of new posts as in training: from a store, or by the same extractor."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import pytest
import tiny_models
import torch
from fakes import make_builder
from odd_images import noise
from torch import nn
from torchvision.transforms.v2.functional import pil_to_tensor

import mnergraph
from mnergraph.cli.evaluate import evaluate
from mnergraph.cli.explain import explain
from mnergraph.cli.extract import features
from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.predict import predict
from mnergraph.cli.train import train
from mnergraph.data import Evidence, PostFolder, write_conll
from mnergraph.data.formats.feature_file import write_features
from mnergraph.data.missing_evidence import MissingEvidenceError
from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.store.entries import manifest_of
from mnergraph.features.store.manifest import Manifest, StoreError
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.vision.backbones import BackboneGrid, BackbonePyramid, VisionTower
from mnergraph.features.vision.captioning import Captioner
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.detectors import RCNNDetector
from mnergraph.features.vision.detr import DETRDetector
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import Extractor
from mnergraph.features.vision.grounding import PhraseGrounder
from mnergraph.features.vision.knowledge import KnowledgeGenerator
from mnergraph.features.vision.ocr import OCR
from mnergraph.features.vision.registry import EXTRACTORS, extractor_of
from mnergraph.inference.predictor import Predictor
from mnergraph.models import SCHEMAS, UMT, Tagger
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training import TrainerConfig

SMALL = BackboneGrid("resnet18", size=32)
WORDS, TAGS = ("Ann", "saw", "Rome"), ("B-PER", "O", "B-LOC")


class FeatureModel:
    """A substitute for a model that uses image features."""

    def __init__(self, evidence: Evidence, *, image: int | None = None, region: int | None = None) -> None:
        allowed = () if region is not None or image is None else ["detected objects"]
        self.processor_config = ProcessorConfig.of(evidence, allow_missing=allowed)
        self.builder = make_builder(SCHEMAS["MGCMT"], image_dim=image, region_dim=region)

    def parameters(self) -> Iterator[torch.Tensor]:
        return iter([torch.zeros(1)])


def steps(*model: Any, widths: dict[str, int], **how: Any) -> Predictor:
    return Predictor(FeatureModel(*model, **widths), **how)  # type: ignore[arg-type]


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for index in range(4):
        noise(40 + index, 30, seed=index).save(folder / f"{index}.png")
    return folder


def posts(images: Path, ids: Sequence[str] = "0123") -> list[Pair]:
    return [Pair(WORDS, TAGS, id, image_path=images / f"{id}.png") for id in ids]


# --- extractors rebuilt from manifests ---------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(EXTRACTORS))
def test_extractor_is_rebuilt_from_its_manifest(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # where its folder lies by the name in the manifest
    crops = RegionEncoder(size=32, seed=3)
    extractor = {
        "BackboneGrid": lambda: BackboneGrid("resnet18", size=48, resize_mode="crop", seed=2),
        "BackbonePyramid": lambda: BackbonePyramid("resnet18", size=48, resize_mode="center", num_stages=2),
        "VisionTower": lambda: VisionTower(tiny_models.tower("clip", Path("model"))),
        "RCNNDetector": lambda: RCNNDetector(
            "fasterrcnn_mobilenet_v3_large_320_fpn", min_size=32, max_size=64, labels=("hat", "dog")
        ),
        "DETRDetector": lambda: DETRDetector(tiny_models.detector("detr", Path("model")), region_encoder=crops),
        "PhraseGrounder": lambda: PhraseGrounder(
            tiny_models.grounder("owlv2", Path("model")),
            generic_queries=("hat",),
            region_encoder=RegionEncoder(size=32, pyramid_stages=4),
        ),
        "Captioner": lambda: Captioner(tiny_models.captioner("git", Path("model")), num_beams=2),
        "OCR": lambda: OCR(min_score=0.7),
        "KnowledgeGenerator": lambda: KnowledgeGenerator(
            tiny_models.language_model("gpt2", Path("model")),
            Captioner(tiny_models.captioner("git", Path("captioner"))),
            prompt="{text}: {caption}",
        ),
    }[kind]()
    manifest = json.loads(json.dumps(vars(manifest_of(extractor, "float16"))))
    assert extractor_of(Manifest(**manifest)) == extractor


def test_extractor_that_differs_from_its_manifest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = manifest_of(SMALL)
    with pytest.raises(ValueError, match=r"is another one here: weights: '\w+' there, 'else' here"):
        extractor_of(replace(made, weights="else"))
    with pytest.raises(ValueError, match=r"is another one here: version: 1 there, 9 here"):
        extractor_of(replace(made, version=9))
    with pytest.raises(ValueError, match=r"has other settings in this version: .*'colour'"):
        extractor_of(replace(made, settings={**made.settings, "colour": 1}))
    with pytest.raises(ValueError, match=r"there is no extractor 'Mine'; there is BackboneGrid, .*EXTRACTORS"):
        extractor_of(replace(made, extractor="Mine"))
    with pytest.raises(OSError, match=r"weights='gone' is neither 'random', 'imagenet' nor a file"):
        extractor_of(replace(made, settings={**made.settings, "weights": "gone"}))


# --- features of new images --------------------------------------------------------------------------------


@pytest.fixture
def store(images: Path, tmp_path: Path) -> Path:
    features(images, tmp_path / "store", SMALL, dtype="float16", progress=False)
    return tmp_path / "store"


@pytest.mark.parametrize("image", ["grid", "pooled"])
def test_images_are_looked_up_or_extracted(image: Any, images: Path, store: Path) -> None:
    evidence = Evidence(stores=(store,), image_nodes=image)
    attached = evidence.attach(posts(images))
    from_store = steps(evidence, widths={"image": 512}, stores=[store])
    found = from_store.prepared(posts(images))
    assert "extractor" not in vars(from_store.processor.extractors[0]), (
        "no network is created where the store has the image"
    )
    for one, other, again in zip(
        attached, found, steps(evidence, widths={"image": 512}).prepared(posts(images)), strict=True
    ):
        assert one.size == other.size == again.size
        assert torch.equal(one.image_features, other.image_features)
        assert again.image_features is not None
        assert again.image_features.dtype == torch.float16
        torch.testing.assert_close(one.image_features, again.image_features, rtol=2e-3, atol=1e-3)


def test_only_images_without_a_store_entry_are_extracted(images: Path, tmp_path: Path) -> None:
    for index in range(4):
        (tmp_path / str(index % 2)).mkdir(exist_ok=True)
        (images / f"{index}.png").rename(tmp_path / str(index % 2) / f"{index}.png")
    for part in "01":
        features(tmp_path / part, tmp_path / f"store {part}", SMALL, progress=False)
    pairs = [post for part, ids in (("0", "02"), ("1", "13")) for post in posts(tmp_path / part, ids)]
    evidence = Evidence(stores=(tmp_path / "store 0",))
    both = steps(
        evidence, widths={"image": 512}, stores=[tmp_path / "store 0", tmp_path / "store 1"], run_extractors=False
    ).prepared(pairs)
    one = steps(evidence, widths={"image": 512}, stores=[tmp_path / "store 0"]).prepared(pairs)
    for here, there in zip(one, both, strict=True):
        torch.testing.assert_close(here.image_features, there.image_features)
    without_extractors = steps(evidence, widths={"image": 512}, stores=[tmp_path / "store 0"], run_extractors=False)
    with pytest.warns(UserWarning, match=r"^2 of 4 posts have no image features, which the model reads: 1, 3$"):
        assert [pair.image_features is None for pair in without_extractors.prepared(pairs)] == [
            False,
            False,
            True,
            True,
        ]


def test_store_with_other_settings_is_refused(images: Path, store: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    features(images, other, replace(SMALL, size=48), dtype="float16", progress=False)
    with pytest.raises(StoreError, match=r"other was made with other settings: settings\.size: 48 there, 32"):
        steps(Evidence(stores=(store,)), widths={"image": 512}, stores=[store, other])
    with pytest.raises(
        StoreError, match=r"store holds features of BackboneGrid; the model was trained on no feature store"
    ):
        steps(Evidence(), widths={"image": 512}, stores=[store])
    with pytest.raises(FileNotFoundError, match="is no feature store"):
        steps(Evidence(stores=(store,)), widths={"image": 512}, stores=[tmp_path])


def test_error_if_the_extractor_cannot_be_rebuilt(images: Path, store: Path) -> None:
    evidence = Evidence(stores=(store,))
    path = store / "manifest.json"
    path.write_text(path.read_text().replace('"BackboneGrid"', '"Mine"'))
    with pytest.raises(ValueError, match=r"training images went through Mine, .*: there is no extractor .*Give stores"):
        steps(evidence, widths={"image": 512}).prepared(posts(images))
    with_store = steps(evidence, widths={"image": 512}, stores=[store])
    assert all(pair.image_features is not None for pair in with_store.prepared(posts(images)))
    given = replace(posts(images)[0], image_features=torch.zeros(49, 512), objects=(DetectedObject("a", (0, 0, 1, 1)),))
    assert (
        steps(evidence, widths={"image": 512}).prepared([replace(given, caption="a")])[0].image_features
        is given.image_features
    )


def test_images_without_an_extractor(images: Path) -> None:
    by_file = steps(Evidence(), widths={"image": 512})
    fine = replace(posts(images)[0], image_features=torch.zeros(1, 512))
    with pytest.warns(UserWarning, match=r"^3 of 5 posts have no image features, .*: 1, 2, 3$"):
        by_file.prepared([*posts(images)[1:], fine, Pair(WORDS)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_file.prepared([fine, Pair(WORDS)])
        steps(Evidence(), widths={}).prepared([Pair(WORDS)])
    with pytest.warns(UserWarning, match=r"^4 of 4 posts have no detected objects, .*: 0, 1, 2, 3$"):
        steps(Evidence(), widths={}).prepared(posts(images))
    regions = steps(Evidence(), widths={"region": 5})
    bare, full = (DetectedObject("a", (0, 0, 9, 9), region=row) for row in (None, torch.zeros(5)))
    with pytest.warns(UserWarning, match=r"^1 of 2 posts has no region features, which the model reads: 0$"):
        regions.prepared(
            [replace(pair, objects=(obj,)) for pair, obj in zip(posts(images, "01"), (bare, full), strict=True)]
        )


def test_warning_gives_the_reason_of_an_unreadable_image(images: Path, store: Path) -> None:
    (images / "1.png").write_text("<!doctype html>")
    model = steps(Evidence(stores=(store,)), widths={"image": 512})
    with pytest.warns(UserWarning, match=r"^1 of 4 posts has no image features, .*: 1 \(1.png is a web page"):
        assert model.prepared(posts(images))[1].image_features is None
    (images / "1.png").unlink()
    with pytest.warns(UserWarning, match=r"^1 of 2 posts has no image features, .*: 1 \(1.png: "):
        model.prepared(posts(images, "01"))


def test_warning_of_missing_objects(images: Path, tmp_path: Path) -> None:
    detector = RCNNDetector("fasterrcnn_mobilenet_v3_large_320_fpn", min_size=32, max_size=64, threshold=1.0)
    features(images, tmp_path / "store", detector, progress=False)
    evidence = Evidence(stores=(tmp_path / "store",))
    assert all(pair.objects == () for pair in steps(evidence, widths={}).prepared(posts(images))), (
        "extracted, without a warning"
    )
    without_extractors = steps(evidence, widths={}, run_extractors=False)
    with pytest.warns(UserWarning, match=r"^4 of 4 posts have no detected objects"):
        without_extractors.prepared(posts(images))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        without_extractors.prepared([replace(pair, objects=(DetectedObject("a hat"),)) for pair in posts(images)])


# --- objects, phrases, captions -------------------------------------------------------------------------


def test_all_types_of_evidence(images: Path, tmp_path: Path) -> None:
    grounder = PhraseGrounder(
        tiny_models.grounder("owlv2", tmp_path / "g"), threshold=0.0, region_encoder=RegionEncoder(size=32)
    )
    captioner = Captioner(tiny_models.captioner("git", tmp_path / "c"), max_new_tokens=9)
    write_conll(posts(images), tmp_path / "train.txt")
    for name, extractor in (("regions", SMALL), ("boxes", grounder), ("captions", captioner)):
        features(images, tmp_path / name, extractor, posts=tmp_path, progress=False)
    stores = tuple(tmp_path / name for name in ("regions", "boxes", "captions"))
    evidence = Evidence(stores=stores, top_objects=3)
    by_extractor = steps(evidence, widths={"image": 512, "region": 512})
    for store_extractor in by_extractor.processor.extractors[
        1:
    ]:  # whose folders are not where their manifests' names lead
        vars(store_extractor)["extractor"] = (
            grounder if store_extractor.manifest.extractor == "PhraseGrounder" else captioner
        )
    attached = steps(evidence, widths={"image": 512, "region": 512}, stores=stores).prepared(posts(images))
    assert attached == evidence.attach(posts(images))
    for one, other in zip(attached, by_extractor.prepared(posts(images)), strict=True):
        assert len([obj for obj in one.objects if obj.box]) == 3
        assert [(a.label, a.span) for a in one.objects] == [(b.label, b.span) for b in other.objects]
        assert one.caption == other.caption
        torch.testing.assert_close(one.image_features, other.image_features)
        for a, b in zip(one.objects, other.objects, strict=True):
            torch.testing.assert_close(a.region, b.region, rtol=1e-4, atol=1e-4)
    # for a post with an empty list the stores are used
    (tmp_path / "objects.jsonl").write_text(
        "".join(f'{{"id": "{pair.id}", "width": 9, "height": 9, "objects": []}}\n' for pair in attached)
    )
    write_features({pair.id: torch.zeros(0, 512) for pair in attached}, {}, tmp_path / "regions.safetensors")
    listed = {"objects": tmp_path / "objects.jsonl", "features": tmp_path / "regions.safetensors"}
    empty = replace(evidence, **listed)
    assert empty.attach(posts(images)) == attached
    assert empty.coverage(posts(images)).regions == len(attached), "those of the stores"
    held = DetectedObject("held", (0, 0, 5, 5))
    assert empty.attach([replace(pair, objects=(held,)) for pair in posts(images)]) == attached
    alone = replace(empty, stores=()).attach(posts(images))
    assert [(pair.objects, pair.size) for pair in alone] == [((), (9, 9))] * len(attached)
    grids = replace(empty, stores=stores[:1]).attach([replace(posts(images)[0], objects=(held,))])
    assert not grids[0].objects
    assert grids[0].size == attached[0].size
    write_features({attached[0].id: torch.zeros(2, 512)}, {}, tmp_path / "regions.safetensors")
    with pytest.raises(ValueError, match="has 2 rows but the objects file has 0 objects"):
        empty.attach(posts(images))
    # evidence given with a post takes precedence
    box = DetectedObject("mine", (0, 0, 20, 20), region=torch.ones(512))
    own = replace(posts(images)[0], caption="a hat", objects=(box,), image_features=torch.ones(2, 512), size=(40, 30))
    (kept,) = steps(evidence, widths={"image": 512}, stores=stores).prepared([own])
    assert [obj.label for obj in kept.objects] == ["mine", "hat"]
    assert kept.image_features is own.image_features


@dataclass(frozen=True)
class Colours(Extractor):
    """A custom extractor."""

    side: int = 2

    @property
    def name(self) -> str:
        return "colours"

    @cached_property
    def network(self) -> nn.Module:
        return nn.AdaptiveAvgPool2d(self.side)

    def preprocess(self, image: Any, phrases: Any) -> dict[str, torch.Tensor]:
        return {"pixels": pil_to_tensor(image.resize((8, 8)))}

    def forward(self, batch: Any, items: Any) -> list[ImageEvidence]:
        return [ImageEvidence(grid=rows) for rows in self.network(batch["pixels"] / 255).flatten(2).mT.cpu()]


# --- a trained model, on disk and back ------------------------------------------------------------------


def test_extractor_and_store_give_the_same_lines(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a custom extractor whose results do not depend on the batch: exactly equal."""
    monkeypatch.setitem(EXTRACTORS, "Colours", Colours)
    for split in ("train", "valid", "test"):
        write_conll(posts(images), tmp_path / f"{split}.txt")
    features(images, tmp_path / "store", Colours(), progress=False)
    assert len(FeatureStore(tmp_path / "store")) == 4
    train(
        partial(PostFolder, evidence=Evidence(stores=(tmp_path / "store",))),
        tmp_path,
        partial(UMT, num_heads=2, intermediate_size=8),
        tmp_path / "out",
        trainer=TrainerConfig(epochs=1, batch_size=4, accelerator="cpu", progress=False),
    )
    model = tmp_path / "out" / "model"
    assert Tagger.from_pretrained(model).processor_config.stores == (vars(manifest_of(Colours())),)

    def lines(job: Callable[..., None], *stores: Path, **options: Any) -> list[str]:
        out = tmp_path / "lines"
        inputs = Inputs(posts=tmp_path / "test.txt", images=images)
        job(model, inputs=inputs, sources=StoreOptions(stores, **options), out=out)
        return out.read_text().splitlines()

    stored, extracted = lines(predict, tmp_path / "store"), lines(predict)
    assert len(stored) == 4
    assert stored == extracted
    with pytest.raises(MissingEvidenceError, match=r"reads image features, which no post has: give .* BackboneGrid"):
        lines(predict, run_extractors=False)
    with pytest.warns(UserWarning, match="4 of 4 posts have no image features"):
        without_features = lines(predict, run_extractors=False, allow_missing=("image features",))
    assert without_features != stored, "image features change the lines"
    assert lines(explain, tmp_path / "store") == lines(explain)

    text = " ".join(WORDS)
    reader = mnergraph.pipeline(model)
    kept = mnergraph.pipeline(model, stores=[tmp_path / "store"], run_extractors=False)
    assert reader(text, image=images / "1.png") == kept(text, image=images / "1.png")

    scored = [
        evaluate(model, data, tmp_path, progress=False)
        for data in (partial(PostFolder, evidence=Evidence(stores=(tmp_path / "store",))), PostFolder)
    ]
    assert scored[0] == scored[1]
    features(images, tmp_path / "other", Colours(3), progress=False)
    with pytest.raises(StoreError, match=r"made with other settings: settings\.side: 3 there, 2 here"):
        evaluate(model, PostFolder, tmp_path, sources=StoreOptions((tmp_path / "other",)), progress=False)
