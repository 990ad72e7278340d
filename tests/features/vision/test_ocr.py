"""The text in images: drawn and real, in a store, in a trained model, and without the package."""

from __future__ import annotations

import warnings
from functools import partial
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from typing import NoReturn

import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from mnergraph.cli.export import export
from mnergraph.cli.extract import features
from mnergraph.cli.train import train
from mnergraph.data import PostFolder, write_conll
from mnergraph.data.formats.evidence_jsonl import read_context
from mnergraph.features.store.entries import from_store_entry, image_key, manifest_of
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.vision.ocr import OCR
from mnergraph.features.vision.registry import extractor_of
from mnergraph.inference.predictor import Predictor
from mnergraph.models import PGIM, Tagger
from mnergraph.pair import ContextText, Pair
from mnergraph.training import TrainerConfig

pytest.importorskip("rapidocr")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")


def drawn(text: str, path: Path) -> Path:
    image = Image.new("RGB", (420, 90), "white")
    ImageDraw.Draw(image).text((20, 20), text, fill="black", font=ImageFont.load_default(40))
    image.save(path)
    return path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("ocr")
    paths = [drawn("GRAND SALE", folder / "1.png"), drawn("", folder / "2.png"), drawn("X", folder / "3.png")]
    (folder / "4.png").write_bytes(b"no image")
    return [*paths, folder / "4.png"]


def test_text_of_drawn_images(images: list[Path]) -> None:
    """An image without text has an empty one, a fault has none."""
    found = list(OCR().extract(images, progress=False))
    assert [entry.context for entry in found[:3]] == [
        (ContextText("ocr", "GRAND SALE"),),
        (ContextText("ocr", ""),),
        (ContextText("ocr", ""),),
    ]
    assert found[3].context is None
    assert found[3].issue is not None
    assert not found[3].issue.usable
    kept = next(OCR(min_score=1.0).extract(images[:1], progress=False))
    assert kept.context == (ContextText("ocr", ""),)
    with pytest.raises(ValueError, match="min_score is from 0 to 1, not 2"):
        OCR(min_score=2)


def test_identity_names_the_packages_weights() -> None:
    manifest = manifest_of(OCR(min_characters=3))
    assert len(manifest.weights) == 64
    assert manifest.settings["min_characters"] == 3
    assert extractor_of(manifest) == OCR(min_characters=3)


def test_through_a_store_to_files_and_a_model(images: list[Path], tmp_path: Path) -> None:
    """Extracted, exported, trained on; at prediction the text of a new image is read."""
    store, out = tmp_path / "store", tmp_path / "out"
    folder = images[0].parent
    features(folder, store, OCR(), progress=False)
    entry = from_store_entry(FeatureStore(store), image_key(images[0]))
    assert entry.context == (ContextText("ocr", "GRAND SALE"),)
    export(store, folder, out, progress=False)
    assert read_context(out / "context.jsonl")["1"] == (ContextText("ocr", "GRAND SALE"),)
    posts = tmp_path / "posts"
    posts.mkdir()
    for split in ("train", "valid", "test"):
        write_conll([Pair(("Bob", "sells"), ("B-PER", "O"), id=name) for name in ("1", "2")], posts / f"{split}.txt")
    trainer = TrainerConfig(epochs=1, accelerator="cpu", progress=False)
    data = partial(PostFolder, images=folder)
    torch.manual_seed(0)
    train(data, posts, PGIM, tmp_path / "run", stores=(store,), context=("ocr",), trainer=trainer)
    tagger = Tagger.from_pretrained(tmp_path / "run/model")
    assert tagger.context is not None
    assert tagger.context.sources == ("ocr",)
    predictor = Predictor(tagger)
    (ready,) = predictor.prepared([Pair(("Bob",), image_path=drawn("HELLO", tmp_path / "5.png"))])
    assert ready.context == (ContextText("ocr", "HELLO"),)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # an image without text lacks nothing
        predictor.prepared([Pair(("Bob",), image_path=images[1])])


def test_without_the_package(monkeypatch: pytest.MonkeyPatch, images: list[Path]) -> None:
    def absent(name: str) -> NoReturn:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("mnergraph.features.vision.ocr.version", absent)
    with pytest.raises(ValueError, match=r"OCR needs onnxruntime, .*: pip install 'mnergraph\[ocr\]'"):
        list(OCR().extract(images[:1], progress=False))


def test_real_images(shared: Path) -> None:
    """A post about a radio station whose image is its text, and one of a scoreboard."""
    names = {
        "t15_39": "DJ Snapchat? Is this Snapchat FM 105.4?",
        "t17_3": "AsianTimes",
        "t15_654": "CHRIS PAUL BE LIKE",
    }
    paths = [shared / "posts/images" / f"{name}.jpg" for name in names]
    for evidence, text in zip(OCR().extract(paths, progress=False), names.values(), strict=True):
        assert evidence.context is not None
        assert text in evidence.context[0].text
