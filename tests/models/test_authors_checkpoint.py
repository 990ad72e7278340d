"""Checkpoints of the authors' codes, under their names, against plain computations with the same weights."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import released_mgcmt
import released_umgf
import released_umt
import torch
from equations import released_pieces, scatter
from released import check, prepare
from torch import Tensor, nn
from torchvision import models, transforms

from mnergraph.cli.main import main
from mnergraph.data.lookalikes.dataset import vocabulary
from mnergraph.features.text.encoder import TINY, TextEncoderModel, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.vision.detectors import COCO_CLASSES
from mnergraph.graph import collate
from mnergraph.labels import LabelSet
from mnergraph.models import Tagger
from mnergraph.models import umt_checkpoint as umt
from mnergraph.models.authors_checkpoint import UMT_TYPES, CheckpointError, convert
from mnergraph.models.mgcmt import checkpoint as mgcmt
from mnergraph.models.umgf import checkpoint as umgf
from mnergraph.pair import DetectedObject, Pair

#: One of the authors' BERT layers, by the names of `released.Layer`.
LAYER = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "dense": "attention.output.dense",
    "norm1": "attention.output.LayerNorm",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "norm2": "output.LayerNorm",
}
#: Attention layers that the authors name otherwise than the plain computations do.
ATTENTION = re.compile(r"(txt2img|img2txt|txt2txt|txt2obj|obj2txt|img2img|obj2obj)(_v2)?$")


def authors_names(module: nn.Module) -> dict[str, Tensor]:
    """The state dict of a plain computation by the names of UMT's and MGCMT's code."""
    named = {}
    for name, value in module.state_dict().items():
        first, *rest = name.split(".")
        if first == "text":
            first = "bert"
        elif rest and rest[0] in LAYER:
            rest[0] = f"layer.0.{LAYER[rest[0]]}"
            first = ATTENTION.sub(r"\1_attention\2", first)
        named[".".join([first, *rest])] = value.clone()
    return named


def umt_encoder() -> TextEncoderModel:
    torch.manual_seed(2)
    return tiny_encoder(["bob", "saw", "paris"], hidden_size=12, num_layers=1, heads=2)


@pytest.fixture
def umt_checkpoint(tmp_path: Path) -> tuple[Path, nn.Module]:
    torch.manual_seed(5)
    theirs = released_umt.Released(umt_encoder().model).eval()
    scatter(theirs)
    names = authors_names(theirs)
    assert "txt2img_attention.layer.0.attention.self.query.weight" in names
    torch.save(names | {"bert.pooler.dense.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_model.bin")
    return tmp_path / "pytorch_model.bin", theirs


def umt_posts() -> list[Pair]:
    words, tags = ("Bob", "and", "Annabel", "saw", "Paris", "!"), ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    return [
        Pair(words[start:], tags[start:], str(start), image_features=torch.randn(49, released_umt.IMAGE))
        for start in range(4)
    ]


@torch.no_grad()
def test_umt(umt_checkpoint: tuple[Path, nn.Module], tmp_path: Path) -> None:
    path, theirs = umt_checkpoint
    model, unused = convert(umt.read, path, umt_encoder(), UMT_TYPES, num_heads=released_umt.HEADS)
    assert unused == ["bert.pooler.dense.weight"]
    model.save_pretrained(tmp_path / "saved")
    again = Tagger.from_pretrained(tmp_path / "saved")
    assert again.metadata["data"]["converted from"] == "pytorch_model.bin"
    posts = umt_posts()
    ready = prepare(again, posts)
    grid = torch.stack([post.image_features for post in posts if post.image_features is not None])
    check(again, posts, ready, theirs, *theirs(ready.ids, ready.mask, grid))


@torch.no_grad()
def test_mgcmt(tmp_path: Path) -> None:
    torch.manual_seed(5)
    text = umt_encoder()
    theirs = released_mgcmt.Released(text.model).eval()
    scatter(theirs)
    extra = {"gate.weight": torch.zeros(3), "aug_w1": torch.zeros(3), "bert.embeddings.char_cnn.weight": torch.zeros(3)}
    named = {f"module.{name}": value for name, value in (authors_names(theirs) | extra).items()}
    torch.save(named, tmp_path / "model.bin")
    words = ("Bob", "and", "Annabel", "saw", "Paris", "!")
    vectors = torch.randn(len(words), released_mgcmt.VECTOR)
    found = NearestWords.from_table(words, vectors, words, k=1, progress=False)
    model, unused = convert(
        mgcmt.read, tmp_path / "model.bin", umt_encoder(), UMT_TYPES, nearest_words=found, num_heads=3
    )
    assert unused == list(extra)
    objects = (("person", "dog"), (), ("toothbrush",) * 5, ("cat", "person", "tv"))
    tags = ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    posts = [
        Pair(
            words[start:],
            tags[start:],
            str(start),
            image_features=torch.randn(49, released_mgcmt.IMAGE),
            objects=tuple(map(DetectedObject, labels)),
        )
        for start, labels in enumerate(objects)
    ]
    ready = prepare(model, posts)
    augmentation = torch.zeros(*ready.ids.shape, released_mgcmt.VECTOR)
    ids = torch.zeros(len(posts), 5, dtype=torch.long)
    for row, pair in enumerate(posts):
        for word, name in enumerate(pair.words):
            cosines = torch.cosine_similarity(vectors[words.index(name)], vectors, -1)
            cosines[words.index(name)] = -2  # the nearest one other than itself
            augmentation[row, ready.words[row].index(word)] = vectors[cosines.argmax()]
        for index, obj in enumerate(pair.objects):
            ids[row, index] = 1 + COCO_CLASSES.index(obj.label)
    grid = torch.stack([pair.image_features for pair in posts if pair.image_features is not None])
    check(model, posts, ready, theirs, *theirs(ready.ids, ready.mask, augmentation, grid, ids))


def umgf_names(theirs: nn.Module, resnet: nn.Module, order: list[int]) -> dict[str, Tensor]:
    """The state dict of the plain computation by the names of UMGF's code, whose tags have another order."""
    named = {f"resnet.{name}": value for name, value in resnet.state_dict().items()}
    for name, value in theirs.state_dict().items():
        parts = name.split(".")
        if parts[0] == "text":
            named[".".join(["bert", *parts[1:]])] = value
        elif parts[0] == "resnet_linear":
            named[f"resnet.fc.{parts[1]}"] = value
        elif parts[0] == "hidden2tag" or parts[1:] in (["start_transitions"], ["end_transitions"]):
            named[name] = value[order]
        elif parts[0] == "crf":
            named[name] = value[order][:, order]
        elif parts[0] == "stack":
            _, layer, group, which, *kind = parts
            letter = {"x": "x", "o": "o"}.get(group, which[0])
            prefix = {
                "gate": {"x": "mhatt_x2o", "o": "mhatt_o2x"}.get(which, ""),
                "norm": {"1": f"res4mes_{letter}", "2": f"{letter}gate", "3": f"res4ffn_{letter}"}.get(which[-1], ""),
                "in": f"ffn_{letter}",
                "out": f"ffn_{letter}",
            }.get(group, f"mhatt_{letter}")
            suffix = {"gate": "", "norm": ".norm", "in": ".w_1", "out": ".w_2"}.get(
                group, f".linears.{'qkvo'.find(which)}"
            )
            named[".".join([f"{prefix}.{layer}{suffix}", *kind])] = value
        else:
            named[name] = value
    return named


@torch.no_grad()
def test_umgf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(released_umgf, "REGION_FEATURES", 512)
    torch.manual_seed(5)
    text = umt_encoder()
    theirs = released_umgf.Released(text.model, 12, 2, 20, 13).eval()
    scatter(theirs, std=0.2)
    resnet = models.resnet18(weights=None).eval()
    resnet.fc = nn.Identity()
    ours = ["O", *(f"{p}-{t}" for t in umgf.UMGF_TYPES for p in "BI"), "PAD", "X", "[CLS]", "[SEP]"]
    authors = ["PAD", *ours[1:9], "O", "X", "[CLS]", "[SEP]"]
    names = umgf_names(theirs, resnet, [ours.index(tag) for tag in authors])
    torch.save(names, tmp_path / "model.pt")
    model, unused = convert(umgf.read, tmp_path / "model.pt", umt_encoder(), umgf.UMGF_TYPES, num_heads=4)
    assert list(model.labels.tags) == ours
    # the objects of the last layer are read by nothing
    expected = {"mhatt_o2x.1", "ogate.1.norm", "res4ffn_o.1.norm", "ffn_o.1.w_1", "ffn_o.1.w_2"}
    assert {name.rpartition(".")[0] for name in unused if "num_batches_tracked" not in name} == expected
    image = transforms.ToPILImage()(torch.rand(3, 120, 160))
    image.save(tmp_path / "1.png")
    boxes = [(0, 0, 160, 120), (10, 20, 60, 110), (50, 0, 150, 40), (5, 5, 50, 50)]
    words, tags = ("Bob", "and", "Ann", "saw", "Paris", "!"), ("B-PER", "O", "B-PER", "O", "B-LOC", "O")
    objects = tuple(DetectedObject(box=box) for box in boxes)
    posts = [
        Pair(words[start:], tags[start:], str(start), image_path=tmp_path / "1.png", size=(160, 120), objects=objects)
        for start in range(3)
    ]
    prepare_crop = transforms.Compose([
        transforms.Resize(256), transforms.CenterCrop(224), transforms.ToTensor(),
        transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
    ])  # fmt: skip
    vectors = resnet(torch.stack([prepare_crop(image.crop(box)) for box in boxes]))
    ids, mask, _, gold_tags = released_pieces(model.encoder.tokenizer.tokenizer, posts)
    emissions = theirs(ids, mask, vectors.expand(3, 4, 512))
    graph = model(collate(model.builder.build_all(posts)))
    torch.testing.assert_close(graph.emissions["tags"], emissions[mask], rtol=1e-4, atol=1e-4)
    gold = torch.tensor([[ours.index(tag) for tag in row] for row in gold_tags])
    expected = -theirs.crf(emissions, gold, mask, reduction="sum")
    torch.testing.assert_close(model.loss(graph), expected, rtol=1e-5, atol=1e-3)


def changed(path: Path, change: Any) -> Path:
    """A checkpoint with a change."""
    tensors = torch.load(path, weights_only=True)
    change(tensors)
    torch.save(tensors, path)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("gate.bias"), r"pytorch_model.bin has no 'gate.bias'; it has bert.embeddings"),
        (lambda t: t.update({"gate.bias": torch.zeros(3)}), r"gate is \[3\], not \[12\]"),
        (
            lambda t: t.update({"classifier.bias": torch.zeros(11)}),
            r"classifier has 11 tags, not the 13 PAD, O,",
        ),
        (
            lambda t: t.update({"txt2img_attention.layer.1.attention.self.query.weight": torch.zeros(2)}),
            "has two layers in txt2img_attention; the papers' models have one",
        ),
        (lambda t: t.clear(), "has no 'vismap2text.weight'"),
    ],
    ids=["missing", "misshapen", "other tags", "two layers", "empty"],
)
def test_faults_by_name(umt_checkpoint: tuple[Path, nn.Module], change: Any, message: str) -> None:
    path = changed(umt_checkpoint[0], change)
    with pytest.raises(CheckpointError, match=message):
        convert(umt.read, path, umt_encoder(), UMT_TYPES, num_heads=3)


def test_every_misshapen_tensor_is_named(umt_checkpoint: tuple[Path, nn.Module]) -> None:
    other = tiny_encoder(["bob"], hidden_size=24, num_layers=1, heads=2)
    with pytest.raises(CheckpointError, match=r"bert.embeddings.word_embeddings.weight is .*; .* and \d+ more"):
        convert(umt.read, umt_checkpoint[0], other, UMT_TYPES, num_heads=3)


def test_checkpoints_of_tensorflow_times(umt_checkpoint: tuple[Path, nn.Module]) -> None:
    def rename(tensors: dict[str, Tensor]) -> None:
        for name in [name for name in tensors if name.startswith("bert.") and "LayerNorm" in name]:
            tensors[name.replace(".weight", ".gamma").replace(".bias", ".beta")] = tensors.pop(name)

    path, theirs = umt_checkpoint
    model, _ = convert(umt.read, changed(path, rename), umt_encoder(), UMT_TYPES, num_heads=3)
    expected = theirs.state_dict()
    for name, weight in model.encoder.model.state_dict().items():
        assert torch.equal(weight, expected[f"text.{name}"])


class Harmful:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return print, ("executed",)


@pytest.mark.parametrize("content", [Harmful(), {"a": Harmful()}, [1, 2], {"a": 3}, nn.Linear(2, 2)])
def test_what_is_no_state_dict(content: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt is no state dict"):
        convert(umt.read, tmp_path / "model.pt", umt_encoder(), UMT_TYPES)
    (tmp_path / "text.pt").write_text("<html>")
    with pytest.raises(CheckpointError, match=r"text\.pt is no state dict"):
        convert(umt.read, tmp_path / "text.pt", umt_encoder(), UMT_TYPES)
    assert "executed" not in capsys.readouterr().out


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = tiny_encoder(vocabulary())
    monkeypatch.setattr(released_umt, "WIDTH", text.hidden_size)
    module = released_umt.Released(text.model)
    torch.save(authors_names(module), tmp_path / "model.bin")
    arguments = ["--from", "UMT", str(tmp_path / "model.bin"), "--out", str(tmp_path / "umt"), "--encoder", TINY]
    main(["convert", *arguments, "--num_heads", "4"])
    out = capsys.readouterr().out
    assert "UMT, released variant, tags O, B-MISC" in out
    assert "0 tensors of the checkpoint are not used" in out
    assert Tagger.from_pretrained(tmp_path / "umt").labels == LabelSet(
        (*LabelSet.from_types(list(UMT_TYPES)).tags, "PAD", "X", "[CLS]", "[SEP]")
    )
    new = ["--out", str(tmp_path / "2")]
    for wrong, message in (
        (arguments, "exists; give another --out"),
        (
            ["--from", "MGCMT", *arguments[2:3], *new],
            "holds no nearest words",
        ),
        (["--from", "UMT", str(tmp_path / "none"), *new], "there is no checkpoint"),
        (
            ["--from", "UMGF", *arguments[2:3], *new, "--encoder", TINY],
            "has no 'ffn_x.0.w_1.bias'",
        ),
    ):
        with pytest.raises(SystemExit):
            main(["convert", *wrong])
        assert message in capsys.readouterr().err
    assert not (tmp_path / "2").exists()
