"""A damaged model folder is one line that names folder, file and what is wrong, in Python and in each command."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import BertConfig, BertModel

import mnergraph.models.weights_file
from mnergraph.cli.main import main
from mnergraph.data import Evidence
from mnergraph.data.chunker_config import make_chunker
from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.text.encoder import Encoder, TextEncoderModel, tiny_encoder
from mnergraph.features.text.noun_chunks import RuleChunker
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.graph import Complete, Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, Tagger
from mnergraph.models.saved_folder import file_checksums
from mnergraph.models.weights_file import AllocationLimit, WeightsFile, save_weights

Build = Callable[..., Tagger]
Damage = Callable[[Path], None]

CONFIG, SCHEMA, WEIGHTS, PROCESSOR = "config.json", "schema.json", "model.safetensors", "processor_config.json"
SIMILAR, ENCODER, TOKENIZER = "similar.safetensors", "encoder/config.json", "encoder/tokenizer.json"
TOKENIZER_CONFIG, NAME, VOCABULARY = "encoder/tokenizer_config.json", "encoder/name.txt", "encoder/vocabulary.json"
HEAD, EMBEDDINGS = "heads.tags.decoder.transitions", "layers.0.model.embeddings.word_embeddings.weight"


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which each kind of model is saved once."""
    return tmp_path_factory.mktemp("saved")


@pytest.fixture
def folders(build: Build, saved: Path, tmp_path: Path) -> Callable[[str], Path]:
    """``folders(kind)``: a folder of a small model of this kind, saved with the settings of a processor."""

    def make(kind: str) -> Path:
        if not (saved / kind).exists():
            model = build(kind)
            config = ProcessorConfig.of(Evidence(top_objects=3, chunker=RuleChunker()), RegionEncoder(size=32))
            model.processor_config = replace(config, stores=(asdict(Manifest("BackboneGrid")),))
            model.save_pretrained(saved / kind)
        shutil.copytree(saved / kind, tmp_path / "model")
        return tmp_path / "model"

    return make


def edited(file: str, change: Callable[[dict[str, Any]], Any]) -> Damage:
    """Write what a change makes of the JSON object of a file, or the object that it changed in place."""

    def apply(folder: Path) -> None:
        content = json.loads((folder / file).read_text())
        made = change(content)
        (folder / file).write_text(json.dumps(content if made is None else made))

    return apply


def entry(file: str, *names: str, to: Any) -> Damage:
    """Set an entry of a JSON file, found by these names."""

    def change(content: dict[str, Any]) -> None:
        for name in names[:-1]:
            content = content[name]
        content[names[-1]] = to

    return edited(file, change)


def without(file: str, name: str) -> Damage:
    return edited(file, lambda content: {key: value for key, value in content.items() if key != name})


def text(file: str, content: str) -> Damage:
    return lambda folder: (folder / file).write_text(content) and None


def weights(change: Callable[[dict[str, Tensor]], Any], file: str = WEIGHTS) -> Damage:
    """Change the tensors of a file in place, with the header as it was."""

    def apply(folder: Path) -> None:
        with safe_open(folder / file, framework="pt") as opened:
            metadata = opened.metadata()
        tensors = {name: value.clone() for name, value in load_file(folder / file).items()}
        change(tensors)
        save_file(tensors, folder / file, metadata=metadata)

    return apply


def raw(file: str, change: Callable[[bytes], bytes]) -> Damage:
    return lambda folder: (folder / file).write_bytes(change((folder / file).read_bytes())) and None


def larger_vocabulary(folder: Path) -> None:
    other = tiny_encoder([f"word{number}" for number in range(500)], hidden_size=16, num_layers=1, heads=2)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        other.tokenizer.tokenizer.save_pretrained(folder / "other")
        shutil.copy(folder / "other" / name, folder / "encoder" / name)


def as_directory(file: str) -> Damage:
    def apply(folder: Path) -> None:
        (folder / file).unlink()
        (folder / file).mkdir()

    return apply


def without_encoder(folder: Path) -> None:
    shutil.rmtree(folder / "encoder")


def nan(tensors: dict[str, Tensor], name: str = EMBEDDINGS) -> None:
    tensors[name][0, 0] = torch.nan


FILES = (CONFIG, SCHEMA, WEIGHTS, PROCESSOR, SIMILAR, ENCODER, TOKENIZER, TOKENIZER_CONFIG, NAME)
LARGER = r"these settings describe a larger model than that of the weights"

#: Model, damage, the file that the message names, and what else it says.
KINDS: dict[str, tuple[str, Damage, str, str]] = {
    **{
        f"{file} missing": ("MGCMT", lambda folder, file=file: (folder / file).unlink(), file, "missing|holds no")  # type: ignore[misc]
        for file in FILES
    },
    **{f"{file} empty": ("MGCMT", text(file, ""), file, "is empty|damaged") for file in FILES},
    **{
        f"{file} cut": (
            "MGCMT",
            raw(file, lambda content: content[: len(content) // 2]),
            file,
            "cut off|damaged|tokenizer|encoder",
        )
        for file in FILES
        if file != NAME
    },
    **{
        f"{file} is a list": ("BERT-CRF", text(file, "[1, 2]"), file, r"holds \[1, 2\], which is no object")
        for file in (CONFIG, SCHEMA, PROCESSOR, ENCODER, TOKENIZER_CONFIG)
    },
    **{
        f"{file} a folder": ("BERT-CRF", as_directory(file), file, "can't be read|missing|no file")
        for file in (CONFIG, WEIGHTS)
    },
    "encoder missing": ("BERT-CRF", without_encoder, "encoder", "missing"),
    # config.json
    "config not UTF-8": ("BERT-CRF", raw(CONFIG, lambda content: b"\xff\xfe\xfd" + content), CONFIG, "no JSON"),
    "config nested": ("BERT-CRF", text(CONFIG, "[" * 100_000), CONFIG, "no JSON"),
    "class missing": ("BERT-CRF", without(CONFIG, "class"), CONFIG, "names no class"),
    "class a number": ("BERT-CRF", entry(CONFIG, "class", to=3), CONFIG, "names no class"),
    "class without module": ("BERT-CRF", entry(CONFIG, "class", to="BERTCRF"), CONFIG, "package.module:Class"),
    "class of an empty module": ("BERT-CRF", entry(CONFIG, "class", to=":BERTCRF"), CONFIG, "package.module:Class"),
    "class without end": ("BERT-CRF", entry(CONFIG, "class", to="a:" + "b" * 10**6), CONFIG, "package.module:Class"),
    "class unknown": ("BERT-CRF", entry(CONFIG, "class", to="mnergraph.models:Gone"), CONFIG, "can't be imported"),
    "class of another model": (
        "BERT-CRF",
        entry(CONFIG, "class", to="mnergraph.models.text_only:BERT"),
        CONFIG,
        "no argument 'constrain'",
    ),
    "settings missing": ("BERT-CRF", without(CONFIG, "settings"), CONFIG, "lacks 'settings'"),
    "metadata missing": ("BERT-CRF", without(CONFIG, "metadata"), CONFIG, "lacks 'metadata'"),
    "labels missing": ("BERT-CRF", without(CONFIG, "labels"), CONFIG, "lacks 'labels'"),
    "unknown entry": ("BERT-CRF", entry(CONFIG, "colour", to=1), CONFIG, "has 'colour', which is not among"),
    "settings a list": ("BERT-CRF", entry(CONFIG, "settings", to=[]), CONFIG, r"has \[\] for settings"),
    "labels a string": ("BERT-CRF", entry(CONFIG, "labels", to="O"), CONFIG, "has 'O' for labels"),
    "labels of numbers": ("BERT-CRF", entry(CONFIG, "labels", to=[1, 2]), CONFIG, "for labels"),
    "no labels": ("BERT-CRF", entry(CONFIG, "labels", to=[]), CONFIG, "one label or more"),
    "a label twice": ("BERT-CRF", edited(CONFIG, lambda c: c["labels"].append("O")), CONFIG, "has 'O' twice"),
    "a label more": ("BERT-CRF", edited(CONFIG, lambda c: c["labels"].append("B-X")), CONFIG, "was saved with"),
    "labels in another order": ("BERT-CRF", edited(CONFIG, lambda c: c["labels"].reverse()), CONFIG, "was saved with"),
    "unknown setting": ("BERT-CRF", entry(CONFIG, "settings", "colour", to=1), CONFIG, "no argument 'colour'"),
    "setting of another type": (
        "BERT-CRF",
        entry(CONFIG, "settings", "constrain", to="no"),
        CONFIG,
        "'constrain'.*bool",
    ),
    "setting null": ("BERT-CRF", entry(CONFIG, "settings", "pooling", to=None), CONFIG, "'pooling'.*'first'"),
    "setting not a number": (
        "BERT-CRF",
        raw(CONFIG, lambda c: c.replace(b'"dropout": 0.0', b'"dropout": NaN')),
        CONFIG,
        "NaN is no finite",
    ),
    "setting infinite": (
        "BERT-CRF",
        raw(CONFIG, lambda c: c.replace(b'"dropout": 0.0', b'"dropout": 1e999')),
        CONFIG,
        "no finite number",
    ),
    "setting out of range": ("BERT-CRF", entry(CONFIG, "settings", "dropout", to=7.5), CONFIG, "7.5"),
    "size negative": ("UMGF", entry(CONFIG, "settings", "hidden_size", to=-16), CONFIG, "negative dimension"),
    "size zero": ("UMGF", entry(CONFIG, "settings", "num_heads", to=0), CONFIG, "zero"),
    "size absurd": ("UMGF", entry(CONFIG, "settings", "hidden_size", to=10**12), CONFIG, LARGER),
    "size without end": ("UMGF", entry(CONFIG, "settings", "region_dim", to=10**40), CONFIG, "unpack|int"),
    "layers without end": ("UMGF", entry(CONFIG, "settings", "num_layers", to=10**12), CONFIG, LARGER),
    "size of another model": (
        "UMGF",
        entry(CONFIG, "settings", "region_dim", to=7),
        WEIGHTS,
        r"is \[.*6\], and by config",
    ),
    "layers of another model": ("UMGF", entry(CONFIG, "settings", "num_layers", to=3), WEIGHTS, "lacks weights"),
    "a file that leads out": (
        "BERT-CRF",
        entry(CONFIG, "files", "../x", to=None),
        CONFIG,
        r"'\.\./x', which leads out",
    ),
    # schema.json and processor_config.json
    "another schema": (
        "BERT-CRF",
        lambda f: (
            (f / SCHEMA).write_text(json.dumps(Schema([Relation("token", "x", "token", Complete())]).to_dict()))
            and None
        ),
        SCHEMA,
        "not the graph of the model",
    ),
    "schema of an unknown rule": (
        "BERT-CRF",
        edited(
            SCHEMA,
            lambda c: c["relations"].append({"src": "a", "name": "b", "dst": "c", "rule": "Gone", "settings": {}}),
        ),
        SCHEMA,
        "edge rule 'Gone' is not imported",
    ),
    "a relation without target": (
        "UMGF",
        edited(SCHEMA, lambda c: c["relations"][0].__delitem__("dst")),
        SCHEMA,
        "KeyError: 'dst'",
    ),
    "processor of an unknown setting": ("UMGF", entry(PROCESSOR, "colour", to=1), PROCESSOR, "'colour' is no setting"),
    "processor without a setting": ("UMGF", without(PROCESSOR, "stores"), PROCESSOR, "lacks 'stores'"),
    "objects negative": ("UMGF", entry(PROCESSOR, "top_objects", to=-1), PROCESSOR, "top_objects is -1"),
    "image nodes unknown": ("UMGF", entry(PROCESSOR, "image_nodes", to="rows"), PROCESSOR, "'grid' | 'pooled'"),
    "region encoder unknown": (
        "UMGF",
        entry(PROCESSOR, "regions", "backbone", to="vgg"),
        PROCESSOR,
        "'vgg' is not among",
    ),
    "region encoder absurd": ("UMGF", entry(PROCESSOR, "regions", "size", to=10**12), PROCESSOR, "size=1000000000000"),
    "region encoder without size": (
        "UMGF",
        edited(PROCESSOR, lambda c: c["regions"].__delitem__("size")),
        PROCESSOR,
        "regions lacks 'size'",
    ),
    "chunker a string": ("UMGF", entry(PROCESSOR, "chunker", to="RuleChunker"), PROCESSOR, "for chunker"),
    "store of an unknown entry": (
        "UMGF",
        edited(PROCESSOR, lambda c: c["stores"][0].update(colour=1)),
        PROCESSOR,
        "a manifest in stores has 'colour'",
    ),
    "store of an unknown type": (
        "UMGF",
        edited(PROCESSOR, lambda c: c["stores"][0].update(dtype="int8")),
        PROCESSOR,
        "not 'int8'",
    ),
    # model.safetensors
    "weights garbage": ("BERT-CRF", raw(WEIGHTS, lambda c: os.urandom(5000)), WEIGHTS, "no safetensors file"),
    "weights' header cut": ("BERT-CRF", raw(WEIGHTS, lambda c: c[:20]), WEIGHTS, "no safetensors file, or cut off"),
    "weights' end cut": ("BERT-CRF", raw(WEIGHTS, lambda c: c[:-4]), WEIGHTS, "no safetensors file, or cut off"),
    "weights longer": ("BERT-CRF", raw(WEIGHTS, lambda c: c + b"1234"), WEIGHTS, "no safetensors file, or cut off"),
    "weights of pickle": (
        "BERT-CRF",
        lambda f: torch.save({"a": torch.zeros(1)}, f / WEIGHTS),
        WEIGHTS,
        "no safetensors file",
    ),
    "a tensor missing": ("BERT-CRF", weights(lambda t: t.pop(HEAD)), WEIGHTS, f"lacks weights.*'{HEAD}'"),
    "a tensor extra": (
        "BERT-CRF",
        weights(lambda t: t.update(extra=torch.zeros(2))),
        WEIGHTS,
        "no part of the model takes: 'extra'",
    ),
    "a tensor transposed": (
        "BERT-CRF",
        weights(lambda t: t.update({EMBEDDINGS: t[EMBEDDINGS].t().contiguous()})),
        WEIGHTS,
        r"embeddings.weight is \[16, \d+\]",
    ),
    "a tensor of whole numbers": (
        "BERT-CRF",
        weights(lambda t: t.update({HEAD: t[HEAD].long()})),
        WEIGHTS,
        f"{HEAD} is int64; right is float32",
    ),
    "a tensor of half precision": (
        "BERT-CRF",
        weights(lambda t: t.update({HEAD: t[HEAD].half()})),
        WEIGHTS,
        f"{HEAD} is float16; right is float32",
    ),
    "all tensors of whole numbers": (
        "BERT-CRF",
        weights(lambda t: t.update({n: v.long() for n, v in t.items()})),
        WEIGHTS,
        "is int64; right is float32",
    ),
    "a weight that is no number": ("BERT-CRF", weights(nan), WEIGHTS, f"not finite: '{EMBEDDINGS}' \\(1 of "),
    "a weight infinite": (
        "BERT-CRF",
        weights(lambda t: t[HEAD].fill_(-torch.inf)),
        WEIGHTS,
        f"not finite: '{HEAD}' \\(25 of 25",
    ),
    # encoder/
    "encoder of an unknown type": ("BERT-CRF", entry(ENCODER, "model_type", to="gone"), ENCODER, "damaged|gone"),
    "encoder without type": ("BERT-CRF", without(ENCODER, "model_type"), ENCODER, "damaged|model_type"),
    "encoder of another library": ("BERT-CRF", text(ENCODER, '{"name": "ernie"}'), ENCODER, "damaged|model_type"),
    "encoder's size a string": ("BERT-CRF", entry(ENCODER, "hidden_size", to="wide"), ENCODER, "damaged|hidden_size"),
    "encoder's size negative": ("BERT-CRF", entry(ENCODER, "hidden_size", to=-16), ENCODER, "damaged|negative"),
    "encoder's size absurd": ("BERT-CRF", entry(ENCODER, "hidden_size", to=10**6), ENCODER, f"damaged|{LARGER}"),
    "encoder's vocabulary absurd": ("BERT-CRF", entry(ENCODER, "vocab_size", to=10**12), ENCODER, f"damaged|{LARGER}"),
    "encoder's positions absurd": (
        "BERT-CRF",
        entry(ENCODER, "max_position_embeddings", to=10**13),
        ENCODER,
        f"damaged|{LARGER}",
    ),
    "encoder's layers without end": (
        "BERT-CRF",
        entry(ENCODER, "num_hidden_layers", to=10**9),
        ENCODER,
        f"damaged|{LARGER}",
    ),
    "code from the hub": (
        "BERT-CRF",
        entry(ENCODER, "auto_map", to={"AutoModel": "evil--modeling.Evil"}),
        ENCODER,
        "names code to be run",
    ),
    "a kernel from the hub": (
        "BERT-CRF",
        entry(ENCODER, "attn_implementation", to="evil/kernel"),
        ENCODER,
        "names code to be run",
    ),
    "code from the hub in the tokenizer": (
        "BERT-CRF",
        entry(TOKENIZER_CONFIG, "auto_map", to={"AutoTokenizer": ["a.B", None]}),
        TOKENIZER_CONFIG,
        "names code to be run",
    ),
    "tokenizer an object": ("BERT-CRF", text(TOKENIZER, "{}"), TOKENIZER, "damaged|does not fit"),
    "tokenizer of a larger vocabulary": (
        "BERT-CRF",
        larger_vocabulary,
        TOKENIZER,
        "damaged|pieces, and the encoder has",
    ),
    "inputs of no length": (
        "BERT-CRF",
        entry(TOKENIZER_CONFIG, "model_max_length", to=0),
        TOKENIZER_CONFIG,
        "damaged|0 pieces long",
    ),
    # word vectors
    "vocabulary cut": ("BiLSTM-CRF", raw(VOCABULARY, lambda c: c[:50]), VOCABULARY, "damaged|cut off"),
    "vocabulary a list": ("BiLSTM-CRF", text(VOCABULARY, "[]"), VOCABULARY, "damaged|no object"),
    "vocabulary without words": ("BiLSTM-CRF", without(VOCABULARY, "words"), VOCABULARY, "damaged|lacks 'words'"),
    "vocabulary of negative width": (
        "BiLSTM-CRF",
        entry(VOCABULARY, "width", to=-1),
        VOCABULARY,
        "damaged|has width -1",
    ),
    "vocabulary of absurd width": (
        "BiLSTM-CRF",
        entry(VOCABULARY, "width", to=10**12),
        VOCABULARY,
        f"damaged|{LARGER}",
    ),
    "vocabulary of more rows than words": (
        "BiLSTM-CRF",
        entry(VOCABULARY, "learned", to=10**6),
        VOCABULARY,
        "damaged|1000000 learned rows",
    ),
    "a word less": (
        "BiLSTM-CRF",
        edited(VOCABULARY, lambda c: c["words"].__delitem__(-1)),
        f"{VOCABULARY}|{WEIGHTS}",
        "damaged|learned rows|is \\[",
    ),
    "a character less": (
        "CNN-BiLSTM-CRF",
        edited(VOCABULARY, lambda c: {**c, "characters": c["characters"][1:]}),
        f"{VOCABULARY}|{WEIGHTS}",
        "damaged|is \\[",
    ),
    # similar.safetensors
    "nearest words of other rows": ("MGCMT", weights(lambda t: t["rows"].add_(100), SIMILAR), SIMILAR, "damaged|rows"),
    "nearest words not finite": (
        "MGCMT",
        weights(lambda t: t["vectors"].fill_(torch.nan), SIMILAR),
        SIMILAR,
        "damaged|not finite",
    ),
    "nearest words without counts": ("MGCMT", weights(lambda t: t.pop("counts"), SIMILAR), SIMILAR, "damaged|counts"),
    "nearest words one less": (
        "MGCMT",
        weights(lambda t: t.update(rows=t["rows"][1:]), SIMILAR),
        SIMILAR,
        "damaged|rows",
    ),
}

#: Kinds that only a folder shows whose config.json lists the files with which the model was saved.
RECORDED = ("processor_config.json missing", "similar.safetensors missing", "a file that leads out")


@pytest.mark.parametrize(
    ("kind", "recorded"),
    [pytest.param(kind, True, id=kind) for kind in KINDS]
    + [pytest.param(kind, False, id=f"{kind}, without a list of files") for kind in KINDS if kind not in RECORDED],
)
def test_a_damaged_folder_is_one_line(
    kind: str, recorded: bool, folders: Callable[[str], Path], capsys: pytest.CaptureFixture[str]
) -> None:
    model, damage, file, said = KINDS[kind]
    folder = folders(model)
    if not recorded:
        without(CONFIG, "files")(folder)
    damage(folder)
    with pytest.raises((ValueError, OSError)) as caught:
        Tagger.from_pretrained(folder)
    message = str(caught.value)
    named = f"{folder} holds no {file}" if "holds no" in message else rf"{folder}/({file})\b"
    assert re.search(named, message), message
    assert re.search(said, message), message
    assert len(message) < len(str(folder)) * 2 + 600
    assert message == " ".join(message.split())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", sorted({model for model, *_ in KINDS.values()}))
@pytest.mark.parametrize("recorded", [True, False])
def test_an_undamaged_folder_is_loaded(kind: str, recorded: bool, folders: Callable[[str], Path]) -> None:
    folder = folders(kind)
    if not recorded:
        without(CONFIG, "files")(folder)
    model = Tagger.from_pretrained(folder)
    assert model.processor_config is not None
    assert set(file_checksums(folder)) == {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and path not in (folder / CONFIG, folder / "README.md", folder / "schema.png")
    }


def test_a_tokenizer_of_as_many_pieces(folders: Callable[[str], Path]) -> None:
    folder = folders("BERT-CRF")
    (folder / TOKENIZER).write_bytes((folder / TOKENIZER).read_bytes().replace(b"\n", b"\r\n"))
    Tagger.from_pretrained(folder)  # line ends of Windows
    content = json.loads((folder / TOKENIZER).read_text())
    pieces = content["model"]["vocab"]
    pieces["bob"], pieces["saw"] = pieces["saw"], pieces["bob"]
    (folder / TOKENIZER).write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"{TOKENIZER} is damaged, or not the one with which the model was saved"):
        Tagger.from_pretrained(folder)


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--text", "hi", "--model", "MODEL"],
        ["explain", "--text", "hi", "--out", "page.html", "--model", "MODEL"],
        ["evaluate", "--data", "PostFolder", "--root", ".", "--model", "MODEL"],
        ["compare", "--data", "PostFolder", "--root", ".", "--out", "page.html", "MODEL", "MODEL"],
    ],
    ids=lambda command: command[0],
)
def test_every_command(
    command: list[str],
    folders: Callable[[str], Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = folders("BERT-CRF")
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("IMGID:1\nhi\tO\n\n")
    monkeypatch.chdir(tmp_path)
    weights(nan)(folder)
    with pytest.raises(SystemExit) as ended:
        main([str(folder) if part == "MODEL" else part for part in command])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mnergraph: {folder / WEIGHTS} has weights that are not finite: '{EMBEDDINGS}'")


@pytest.mark.parametrize("line", ["raise SystemExit(3)", "raise RuntimeError('no GPU')", "this is no Python"])
def test_a_class_of_a_module_that_fails(
    line: str, folders: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = folders("BERT-CRF")
    (tmp_path / "failing_module.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    entry(CONFIG, "class", to="failing_module:Mine")(folder)
    with pytest.raises(ValueError, match=r"config\.json: the model's class failing_module:Mine can't be imported"):
        Tagger.from_pretrained(folder)


def test_a_file_in_the_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("x")
    with pytest.raises(NotADirectoryError, match=r"model is a file; give the folder that save_pretrained wrote"):
        Tagger.from_pretrained(tmp_path / "model")


def test_a_model_of_transformers(tmp_path: Path) -> None:
    BertModel(BertConfig(hidden_size=16, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=r"config\.json names no class: .*; it is a model of transformers, whose encoder"
    ):
        Tagger.from_pretrained(tmp_path)


@pytest.mark.parametrize("file", [CONFIG, SCHEMA, WEIGHTS, PROCESSOR, ENCODER, TOKENIZER])
def test_a_file_that_may_not_be_read(file: str, folders: Callable[[str], Path]) -> None:
    folder = folders("BERT-CRF")
    (folder / file).chmod(0)
    if os.access(folder / file, os.R_OK):
        pytest.skip("this user may read any file, as root")
    with pytest.raises(OSError, match=rf"{file} can't be read: Permission denied"):
        Tagger.from_pretrained(folder)


@pytest.mark.parametrize("file", [CONFIG, SCHEMA, WEIGHTS, PROCESSOR, ENCODER, TOKENIZER])
def test_a_file_on_a_failing_disk(file: str, folders: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a file that may not be read, which root can read."""
    folder = folders("BERT-CRF")
    real_bytes, real_open = Path.read_bytes, mnergraph.models.weights_file.safe_open

    def read_bytes(path: Path) -> bytes:
        if path == folder / file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_bytes(path)

    def opened(path: Path, **options: Any) -> Any:
        if path == folder / file:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, **options)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    monkeypatch.setattr(mnergraph.models.weights_file, "safe_open", opened)
    with pytest.raises(OSError, match=rf"{file} can't be read: Permission denied"):
        Tagger.from_pretrained(folder)


def test_a_damaged_folder_of_version_0_1(tmp_path: Path) -> None:
    source = Path(__file__).parent / "saved_0_1" / "umgf"
    for number, (file, change, said) in enumerate(
        [
            (CONFIG, lambda c: {k: v for k, v in c.items() if k != "record"}, "lacks 'record'"),
            (CONFIG, lambda c: c["settings"].__delitem__("form"), "KeyError: '(form|variant)'"),
            (CONFIG, lambda c: c["record"]["evidence"].__delitem__("stores"), "lacks 'stores'|KeyError"),
            (CONFIG, lambda c: c["record"]["evidence"].update(regions={"backbone": "x"}), "regions lacks"),
            (CONFIG, lambda c: c["settings"].update(width=10**12), LARGER),
            (ENCODER, lambda c: c.update(auto_map={}), "names code to be run"),
        ]
    ):
        folder = tmp_path / str(number)
        shutil.copytree(source, folder)
        edited(file, change)(folder)
        with pytest.raises(ValueError, match=rf"{folder / file}.*({said})"):
            Tagger.from_pretrained(folder)
    shutil.copytree(source, tmp_path / "nan")
    weights(lambda t: next(iter(t.values())).fill_(torch.nan))(tmp_path / "nan")
    with pytest.raises(ValueError, match="has weights that are not finite"):
        Tagger.from_pretrained(tmp_path / "nan")


# --- weights and their file ---------------------------------------------------------------------------------


def test_larger_tensors_are_refused_before_they_are_allocated() -> None:
    limit = AllocationLimit(1000, 100, "the file has 1,000")
    with limit:
        nn.Linear(10, 10)
        assert (limit.values, limit.tensors) == (110, 2)
        for create in (
            lambda: torch.empty(10**15),
            lambda: torch.zeros(10**8, 10**8),
            lambda: torch.arange(10**15),
            lambda: torch.randn(10**5, 10**9),
            lambda: [torch.ones(100) for _ in range(10**12)],
            lambda: [torch.zeros(100).clone() for _ in range(10**12)],
            lambda: [torch.zeros(1) for _ in range(10**12)],
            lambda: [torch.zeros(0) for _ in range(10**12)],
        ):
            with pytest.raises(ValueError, match=r"larger model than that of the weights: .*the file has 1,000"):
                create()
            limit.values, limit.tensors = 110, 2
    torch.empty(2000)


def test_tied_weights_are_stored_once(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    save_weights(model, tmp_path / WEIGHTS, LabelSet(("O",)))
    file = WeightsFile(tmp_path / WEIGHTS)
    assert file.labels == ["O"]
    assert set(file.shapes) == {"0.weight", "0.bias", "1.bias"}
    assert file.num_values == 15
    again = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with pytest.raises(ValueError, match=r"lacks weights .*'1\.weight'"):
        file.load_into(again)
    again[1].weight = again[0].weight
    file.load_into(again)
    assert torch.equal(again[1].weight, model[0].weight)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_weights_of_another_precision(dtype: torch.dtype, build: Build, tmp_path: Path) -> None:
    """As Lightning's true precisions leave them."""
    model = build("UMGF").to(dtype)
    model.save_pretrained(tmp_path)
    again = Tagger.from_pretrained(tmp_path)
    for name, value in again.state_dict().items():
        assert torch.equal(value, model.state_dict()[name].to(value.dtype))


def test_weights_that_are_not_finite_are_not_saved(build: Build, tmp_path: Path) -> None:
    model = build("BERT-CRF")
    model.save_pretrained(tmp_path)
    before = (tmp_path / WEIGHTS).read_bytes()
    with torch.no_grad():
        model.heads["tags"].decoder.transitions[0, 0] = torch.inf
    with pytest.raises(ValueError, match=rf"the model has weights that are not finite: '{HEAD}' \(1 of 25 values"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / WEIGHTS).read_bytes() == before


class Typed(BERTCRF):
    """A custom model with arguments of many types."""

    def __init__(
        self,
        encoder: Encoder,
        labels: LabelSet,
        *,
        sizes: tuple[int, ...] = (1,),
        pair: tuple[int, str] = (1, "a"),
        names: Sequence[str] = (),
        table: Mapping[str, float] | None = None,
        anything: Any = None,
        implicit: int = None,  # type: ignore[assignment]  # noqa: RUF013
    ) -> None:
        super().__init__(encoder, labels)


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("sizes", [1, 2], [1, "2"]),
        ("pair", [1, "a"], [1, "a", 2]),
        ("names", ["a"], "a"),
        ("table", {"a": 1}, {"a": "1"}),
        ("anything", [{"a": None}], None),
        ("implicit", None, True),
    ],
)
def test_types_of_a_models_own_settings(name: str, right: Any, wrong: Any, tmp_path: Path) -> None:
    Typed(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet(("O",))).save_pretrained(tmp_path)
    entry(CONFIG, "settings", name, to=right)(tmp_path)
    assert isinstance(Tagger.from_pretrained(tmp_path), Typed)
    if wrong is not None:
        entry(CONFIG, "settings", name, to=wrong)(tmp_path)
        with pytest.raises(ValueError, match=rf"{tmp_path}/config.json can't be used: argument '{name}' of Typed is"):
            Tagger.from_pretrained(tmp_path)


def test_code_of_the_hub_is_not_saved(tmp_path: Path) -> None:
    encoder: TextEncoderModel = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    encoder.model.config.auto_map = {"AutoModel": "modeling.Theirs"}
    encoder.tokenizer.tokenizer.init_kwargs["auto_map"] = {"AutoTokenizer": ["a.B", None]}
    BERTCRF(encoder, LabelSet(("O",))).save_pretrained(tmp_path)
    assert not [path for path in (tmp_path / "encoder").iterdir() if b"auto_map" in path.read_bytes()]
    Tagger.from_pretrained(tmp_path)
    assert encoder.model.config.auto_map
    assert "auto_map" in encoder.tokenizer.tokenizer.init_kwargs


@pytest.mark.parametrize(
    "config",
    [
        {"class": "subprocess:Popen", "settings": {"args": ["touch", "pwned"]}},
        {"class": "subprocess:run"},
        {"class": "os:system", "settings": {"command": "touch pwned"}},
        {"class": "torch:load", "settings": {"f": "pwned"}},
        {"class": "torch.nn:Linear", "settings": {"in_features": 1, "out_features": 1}},
        {"class": "mnergraph.features.text.noun_chunks:RuleChunker", "settings": {"colour": 1}},
        {"class": ":"},
    ],
)
def test_a_chunker_is_no_way_to_run_a_program(config: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subprocess, "Popen", None)
    with pytest.raises(ValueError, match=r"no chunker|no class of chunkers|can't be imported|has other settings here"):
        make_chunker(config)
