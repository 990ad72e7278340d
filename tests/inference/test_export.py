"""Exported models: the scores of the library, in a process that has not imported it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mnergraph import LabelSet, Pair, tiny_encoder
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.inference import export, export_inputs
from mnergraph.inference.export import SETTINGS
from mnergraph.models import BERT, BERTCRF, GEI, MRCMNER, PGIM, UMGF, UMT, Tagger
from mnergraph.pair import ContextText, DetectedObject

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
LABELS = LabelSet.from_types(["PER", "LOC"])
WORDS = ("Ann", "Lee", "saw", "Rome", "again", "\u200b", "@user")
#: Refuses the library, so that a process proves to do without it.
WITHOUT_LIBRARY = "import sys; sys.modules['mnergraph'] = None\n"


def post(words: int, objects: int = 0, regions: int = 0) -> Pair:
    found = tuple(
        DetectedObject("a man", (0, 0, 4, 4), span=(0, 1) if n % 2 else None, region=torch.ones(6) * n)
        for n in range(objects)
    )
    features = torch.randn(regions, 5, generator=torch.Generator().manual_seed(words)) if regions else None
    pieces = tuple(WORDS[(words + n) % len(WORDS)] for n in range(words))
    return Pair(pieces, id=str(words), size=(8, 8), objects=found, image_features=features)


EXAMPLES = [post(3, 2, 4), post(5, 4, 4)]
#: Batches of other sizes than the examples': without objects and image, of one post, of one word, of many.
MANY = [post(n, n % 3, n % 4) for n in range(1, 9)]
BATCHES = [[post(4)], [post(1)], [post(1, 1, 1)], [post(2), post(9, 6, 9)], MANY]
MODELS: dict[str, Callable[[], Tagger]] = {
    "BERT-CRF": lambda: BERTCRF(encoder(), LABELS, constrain=True),
    "UMGF": lambda: UMGF(encoder(), LABELS, region_dim=6, hidden_size=8, num_heads=2),
    "UMT": lambda: UMT(encoder(), LABELS, image_dim=5, num_heads=2, variant="released"),
}


def encoder(max_length: int = 64) -> TextEncoderModel:
    return tiny_encoder(["ann", "saw"], hidden_size=16, num_layers=1, heads=2, max_length=max_length)


def build(name: str) -> Tagger:
    torch.manual_seed(0)
    model = MODELS[name]()
    with torch.no_grad():
        for weight in model.parameters():  # far from uniform, so that tags differ
            weight.mul_(3 if weight.dim() > 1 else 1)
    return model


def scores(model: Tagger, posts: Sequence[Pair]) -> torch.Tensor:
    return model.forward_examples(posts).emissions["tags"]


@pytest.mark.parametrize("name", MODELS)
def test_pt2_gives_the_librarys_scores_without_it(name: str, tmp_path: Path) -> None:
    model = build(name)
    assert model.training
    export(model, tmp_path / "model.pt2", EXAMPLES)
    assert all(part.training for part in model.modules())
    torch.export.load(tmp_path / "model.pt2", extra_files=(files := {SETTINGS: ""}))
    settings = json.loads(files[SETTINGS])
    torch.save([export_inputs(model, batch, settings["inputs"]) for batch in BATCHES], tmp_path / "inputs.pt")
    program = f"""{WITHOUT_LIBRARY}
import torch
run = torch.export.load({str(tmp_path / "model.pt2")!r}).module()
torch.save([run(x).detach() for x in torch.load({str(tmp_path / "inputs.pt")!r})], {str(tmp_path / "scores.pt")!r})
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
    for batch, found in zip(BATCHES, torch.load(tmp_path / "scores.pt"), strict=True):
        torch.testing.assert_close(found, scores(model, batch), atol=1e-5, rtol=1e-5)
    assert settings["tags"] == list(model.tagging_head.labels.tags)
    assert settings["unit"] == ("pieces" if name == "UMT" else "words")
    unread = {"token.word", "token.starts_word", "object.box"}
    assert not unread & set(settings["inputs"]), "inputs that no layer reads are none of the file's"


def test_the_program_of_the_docs_predicts_from_onnx_without_the_library(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = build("BERT-CRF")
    export(model, tmp_path / "model.onnx", EXAMPLES)
    model.save_pretrained(tmp_path / "model")
    (program,) = re.findall(r"^```py\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    batches = [[list(pair.words) for pair in batch] for batch in BATCHES]
    program = f"{WITHOUT_LIBRARY}{program}\nprint(json.dumps([predict(posts) for posts in {batches!r}]))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=300, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    expected = [model.decode_tags(model.forward_examples(batch)) for batch in BATCHES]
    assert found == expected
    assert len({tag for batch in found for tags in batch for tag in tags}) > 2


def test_onnx_gives_the_librarys_scores_of_graphs(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxscript", reason="the extra onnx is not installed")
    ort = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    model = build("UMGF")
    export(model, tmp_path / "model.onnx", EXAMPLES)
    session = ort.InferenceSession(tmp_path / "model.onnx")
    names = [given.name for given in session.get_inputs()]
    assert names == json.loads(session.get_modelmeta().custom_metadata_map[SETTINGS])["inputs"]
    for batch in BATCHES:
        inputs = {name: value.numpy() for name, value in export_inputs(model, batch, names).items()}
        (found,) = session.run(["scores"], inputs)
        torch.testing.assert_close(torch.from_numpy(found), scores(model, batch), atol=1e-4, rtol=1e-4)


def test_what_cannot_be_exported_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, small = BERT(encoder(), LABELS), BERT(encoder(max_length=8), LABELS)
    with pytest.raises(ValueError, match=r"model\.bin: a model is exported as"):
        export(model, tmp_path / "model.bin", EXAMPLES)
    with pytest.raises(ValueError, match="two or more of everything"):
        export(model, tmp_path / "model.pt2", EXAMPLES[:1])
    with pytest.raises(ValueError, match=r"post '9' has .* pieces; an exported encoder takes 8"):
        export_inputs(small, [post(9)])
    gei = GEI(encoder(), LABELS, region_dim=6, image_dim=5, hidden_size=8, num_heads=2, num_layers=1)
    with pytest.raises(ValueError, match="GEI can't be exported: "):
        export(gei, tmp_path / "model.pt2", EXAMPLES)
    pgim = PGIM(encoder(), LABELS, context=Context(budget=8))
    told = [replace(pair, context=(ContextText("knowledge", "Ann sings"),)) for pair in EXAMPLES]
    with pytest.raises(ValueError, match=r"PGIM can't be exported: .*data-dependent"):
        export(pgim, tmp_path / "model.pt2", told)
    mrc = MRCMNER(encoder(), LABELS, region_dim=6, num_heads=2, queries={"PER": "who", "LOC": "at"})
    with pytest.raises(TypeError, match="not a TaggingHead"):
        export(mrc, tmp_path / "model.pt2", EXAMPLES)
    monkeypatch.setattr(sys.modules[export.__module__], "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"needs onnx and onnxscript: pip install 'mnergraph\[onnx\]'"):
        export(model, tmp_path / "model.onnx", EXAMPLES)
    assert not list(tmp_path.iterdir())
