"""Saving, loading, the card and the hub."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from fakes import uses_word_vectors
from hub import TOKEN, local_hub, use_hub
from huggingface_hub import ModelCard
from huggingface_hub.errors import HfHubHTTPError
from PIL import Image

import mnergraph.models.hub
from mnergraph.data.processor import ProcessorConfig
from mnergraph.features.text.encoder import TINY, Encoder, tiny_encoder
from mnergraph.graph import Schema, collate
from mnergraph.labels import LabelSet
from mnergraph.metrics.scores import score
from mnergraph.models import BERT, BERTCRF, MODELS, UMGF, Tagger
from mnergraph.models.card import draw_schema, model_card
from mnergraph.models.umt import UMTVariant
from mnergraph.nn.heads.scheduled_sampling import ScheduledSamplingConfig as Sampling
from mnergraph.pair import Pair

Build = Callable[..., Tagger]
#: Every model, every form of it, and those with BERT or LSTM with each.
KINDS = [
    *MODELS,
    *("UMT released", "UMGF released", "MGCMT released", "HVPNeT released"),
    *("GVATT words", "AdaCAN words", "OCSGA words", "Object-AGBAN words"),
]


@pytest.fixture
def saved(build: Build, tmp_path: Path) -> Path:
    model = build("BERT-CRF")
    model.save_pretrained(tmp_path / "saved")
    return tmp_path / "saved"


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_is_the_same_to_the_bit(
    kind: str, build: Build, everything: list[Pair], awkward: dict[str, list[Pair]], tmp_path: Path
) -> None:
    model = build(
        kind, encoder=tiny_encoder(["bob"], hidden_size=16, num_layers=1, heads=2, max_length=40), dropout=0.3
    ).eval()
    model.save_pretrained(tmp_path)
    torch.manual_seed(99)
    again = Tagger.from_pretrained(tmp_path)
    own = type(model).from_pretrained(str(tmp_path))
    posts = [post for case, batch in awkward.items() if case != "128 words" for post in batch] + everything
    emissions = model(collate(model.builder.build_all(posts))).emissions["tags"]
    for other in (again, own):
        assert type(other) is type(model)
        assert not other.training
        assert {name: value.dtype for name, value in other.state_dict().items()} == {
            name: value.dtype for name, value in model.state_dict().items()
        }
        assert all(torch.equal(value, other.state_dict()[name]) for name, value in model.state_dict().items())
        assert torch.equal(other(collate(other.builder.build_all(posts))).emissions["tags"], emissions)
        assert other.predict(posts) == model.predict(posts)
        assert other.labels == model.labels
        assert other.schema == model.schema
        assert other.hparams() == model.hparams()
        assert type(other.encoder) is type(model.encoder)
        assert other.encoder.name == model.encoder.name == ("random:16" if uses_word_vectors(kind) else TINY)
        if not uses_word_vectors(kind):
            assert other.encoder.max_length == 40


def test_saved_twice_is_the_same_folder(build: Build, tmp_path: Path) -> None:
    build("UMGF").save_pretrained(tmp_path / "a")
    Tagger.from_pretrained(tmp_path / "a").save_pretrained(tmp_path / "b")
    for file in ("model.safetensors", "config.json", "schema.json", "README.md", "encoder/config.json"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_saved_files(build: Build, tmp_path: Path) -> None:
    model = build("UMGF")
    model.save_pretrained(tmp_path)
    written = {str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*") if file.is_file()}
    assert {"model.safetensors", "config.json", "schema.json", "README.md", "encoder/config.json"} <= written
    assert not [name for name in written if name.endswith((".bin", ".pt", ".pkl", ".ckpt"))]
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class"] == "mnergraph.models.umgf.model:UMGF"
    assert config["labels"] == list(model.labels.tags)
    assert config["encoder"] == TINY
    assert config["versions"].keys() == {"mnergraph", "torch", "torch-geometric", "transformers"}
    assert config["settings"] == {
        "variant": "paper",
        "ablate": [],
        "region_dim": 6,
        "image_dim": None,
        "resnet": None,
        "label_features": None,
        "hidden_size": 16,
        "num_layers": 2,
        "num_heads": 4,
        "dropout": 0.0,
        "context": None,
        "grounding": None,
    }
    assert Schema.from_dict(json.loads((tmp_path / "schema.json").read_text())) == model.schema


def test_positional_arguments_are_saved(tmp_path: Path) -> None:
    labels = LabelSet.from_types(["PER"])
    model = BERTCRF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), labels, constrain=True, pooling="mean")
    assert model.hparams() == {"dropout": 0.1, "pooling": "mean", "constrain": True, "context": None, "grounding": None}
    model.save_pretrained(tmp_path)
    loaded = BERTCRF.from_pretrained(tmp_path)
    assert loaded.heads["tags"].decoder.constrain
    assert loaded.layers[0].pooling == "mean"


class Deeper(BERTCRF):
    """A custom model with an argument of any type."""

    def __init__(self, encoder: Encoder, labels: LabelSet, *, extra: Any = None, sampling: Sampling = None) -> None:  # type: ignore[assignment]
        super().__init__(encoder, labels)
        self.sampling = sampling


def own(**arguments: Any) -> Deeper:
    return Deeper(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"]), **arguments)


def test_custom_class_is_loaded_from_its_module(tmp_path: Path) -> None:
    own(sampling=Sampling(1, 3, 0.5), extra={"a": [1, None]}).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["class"] == f"{__name__}:Deeper"
    again = Tagger.from_pretrained(tmp_path)
    assert type(again) is Deeper
    assert again.sampling == Sampling(1, 3, 0.5)
    assert again.hparams() == config["settings"]


@pytest.mark.parametrize("value", [torch.zeros(1), {1: "a"}, [object()], Path("a")])
def test_argument_that_is_not_serializable(value: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"argument 'extra' of Deeper is a \w+, which can't be saved; take numbers"):
        own(extra=value).save_pretrained(tmp_path)
    assert not list(tmp_path.iterdir())


def test_custom_class_named_like_a_built_in_one(tmp_path: Path) -> None:
    class UMGF(BERTCRF):
        """Not ours."""

    UMGF(tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"])).save_pretrained(tmp_path)
    assert type(Tagger.from_pretrained(tmp_path)) is UMGF

    first = UMGF

    def again() -> type[Tagger]:
        class UMGF(BERTCRF):
            """Another one."""

        UMGF.__qualname__ = first.__qualname__
        return UMGF

    kept = again()
    with pytest.raises(ValueError, match=r"2 classes are named .*UMGF; give each a name of its own"):
        Tagger.from_pretrained(tmp_path)
    assert kept is not first


def test_settings_of_dataclasses(labels: LabelSet, tmp_path: Path) -> None:
    variant = UMTVariant(conversion_matrix="fixed", tag_weight=0.3)
    ablate = {"w/o Visual Gate", "w/o Image-Aware WR"}
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    model = MODELS["UMT"](encoder, labels, image_dim=5, num_heads=2, variant=variant, ablate=ablate)
    assert model.hparams()["ablate"] == ["w/o Image-Aware WR", "w/o Visual Gate"]
    model.save_pretrained(tmp_path)
    again = Tagger.from_pretrained(tmp_path)
    assert again.init_arguments["variant"] == variant
    assert again.hparams() == model.hparams()


def test_card(build: Build, tmp_path: Path) -> None:
    model = build("UMGF")
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    assert card.count("Not recorded.") == 3
    assert "Licence: not recorded; ask those who provide the posts." in card
    assert "(object, guides, token): " in card
    assert "library_name: mnergraph" in card
    assert "model-index" not in card
    model.metadata = {
        "data": {"name": "Lookalikes", "train": "400 posts {all}", "license": "MIT, as mnergraph."},
        "scores": {"test": score([["B-PER", "O"]], [["B-PER", "B-PER"]]).to_dict()},
        "tables": {"test": "| type | P |\n|---|--:|\n| all | 61.80 |"},
    }
    model.processor_config = ProcessorConfig(top_objects=7)
    model.save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    for expected in (
        "- objects per post: 7",
        "- name: Lookalikes",
        "400 posts {all}",
        "Licence: MIT, as mnergraph.\n",
        "### test",
        "| all | 61.80 |",
        "B-PER",
        TINY,
        "num_heads=4",
    ):
        assert expected in card
    assert "Not recorded" not in card
    again = Tagger.from_pretrained(tmp_path)
    assert (again.metadata, again.processor_config) == (model.metadata, model.processor_config)


def test_scores_on_the_card_as_the_hub_lists_them(build: Build) -> None:
    model = build("UMGF")
    model.metadata = {"data": {"name": "Lookalikes"}, "scores": {}}
    for split, predicted in (("valid", ["B-PER", "O"]), ("test", ["B-PER", "I-LOC"])):
        model.metadata["scores"][split] = score([["B-PER", "O"]], [predicted]).to_dict()
    data = ModelCard(str(model_card(model))).data
    found = {(it.dataset_name, it.dataset_split, it.metric_name): it.metric_value for it in data.eval_results}
    assert len(found) == 12
    assert found["Lookalikes", "valid", "lenient f1"] == 1.0
    assert found["Lookalikes", "test", "lenient f1"] == 0.6667
    assert found["Lookalikes", "test", "strict f1"] == 1.0


def test_known_limits_on_the_card(build: Build) -> None:
    def limits(model: Tagger, **options: Any) -> str:
        return str(model_card(model, **options)).partition("## Known limits")[2].partition("## Use")[0]

    text = limits(build("BERT-CRF"))
    assert f"the types {', '.join(build('BERT-CRF').labels.types)} alone" in text
    assert "Of a post and its image" not in text
    assert TINY in text
    assert "Of a post and its image it reads detected objects" in limits(build("UMGF"))
    released = build("UMT released")
    pieces = released.builder.node_types["token"].max_pieces  # type: ignore[attr-defined]
    assert f"Words after the first {pieces} word pieces of a post are cut off" in limits(released)
    own = limits(build("BERT-CRF"), limits=["One.", "Two."])
    assert own.rstrip().endswith("- One.\n- Two.")
    own = str(model_card(build("BERT-CRF"), data_license="research use"))
    assert "Licence: research use\n" in own


def test_the_card_shows_the_drawn_schema(build: Build, tmp_path: Path) -> None:
    for name in ("UMGF", "BERT-CRF"):
        build(name).save_pretrained(tmp_path / name)
        assert "](schema.png)" in (tmp_path / name / "README.md").read_text()
        with Image.open(tmp_path / name / "schema.png") as image:
            assert image.format == "PNG"
    one, other = ((tmp_path / name / "schema.png").read_bytes() for name in ("UMGF", "BERT-CRF"))
    assert one != other
    assert draw_schema(build("UMGF").schema) == one


def test_from_pretrained_of_another_class(saved: Path) -> None:
    assert isinstance(BERTCRF.from_pretrained(saved), BERTCRF)
    with pytest.raises(ValueError, match=r"config.json is a BERTCRF, not a UMGF"):
        UMGF.from_pretrained(saved)
    with pytest.raises(ValueError, match=r"config.json is a BERTCRF, not a BERT$"):
        BERT.from_pretrained(saved)


@pytest.mark.parametrize("name", ["no_such_package.models:Sixth", "mnergraph.models:Sixth"])
def test_a_class_that_cannot_be_imported(saved: Path, name: str) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "class": name}))
    with pytest.raises(ValueError, match=f"the model's class {name} can't be imported; put the folder of"):
        Tagger.from_pretrained(saved)


def test_class_that_is_not_a_tagger(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (saved / "config.json").write_text(json.dumps({**config, "class": "pathlib:Path"}))
    with pytest.raises(ValueError, match="pathlib:Path is no Tagger"):
        Tagger.from_pretrained(saved)


def test_folder_without_a_model(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no config.json"):
        Tagger.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ValueError, match=r"config\.json names no class"):
        Tagger.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["runs/my/model", "no-user/no-such-model"])
def test_neither_a_folder_nor_on_the_hub(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    real = mnergraph.models.hub.snapshot_download

    def offline(repo: str, **options: Any) -> str:
        if repo.count("/") > 1:
            return real(repo, **options)
        raise LocalEntryNotFoundError("offline")

    monkeypatch.setattr(mnergraph.models.hub, "snapshot_download", offline)
    with pytest.raises(FileNotFoundError, match=f"no model at '{name}': it is no folder here, and the hub"):
        Tagger.from_pretrained(name)


def test_load_from_the_hub(saved: Path, everything: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def download(name: str, **options: Any) -> str:
        calls.append((name, options))
        return str(saved)

    monkeypatch.setattr(mnergraph.models.hub, "snapshot_download", download)
    model = Tagger.from_pretrained("someone/model", revision="v1", token="secret", local_files_only=True)
    assert isinstance(model, BERTCRF)
    options = {"revision": "v1", "token": "secret", "cache_dir": None, "local_files_only": True}
    assert calls == [("someone/model", options)]
    assert model.predict(everything) == BERTCRF.from_pretrained(saved).predict(everything)


def test_to_the_hub_and_back(
    build: Build, everything: list[Pair], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = build("UMGF").eval()
    with local_hub(tmp_path / "hub") as (address, fetched):
        use_hub(monkeypatch, address, tmp_path / "cache")
        card = {"license": "mit", "language": "en", "limits": ["It was trained on nothing."]}
        commit = model.push_to_hub("me/umgf", private=True, token=TOKEN, model_card_kwargs=card)
        assert commit.startswith(f"{address}/me/umgf/commit/")
        uploaded = tmp_path / "hub" / "me" / "umgf"
        model.save_pretrained(tmp_path / "saved", model_card_kwargs=card)
        for path in (path for path in (tmp_path / "saved").rglob("*") if path.is_file()):
            assert (uploaded / path.relative_to(tmp_path / "saved")).read_bytes() == path.read_bytes()

        again = Tagger.from_pretrained("me/umgf", token=TOKEN)
        assert {"config.json", "model.safetensors", "README.md", "schema.png"} <= set(fetched)
        assert again.predict(everything) == model.predict(everything)
        saved = model.save_pretrained(tmp_path / "other", push_to_hub=True, repo_id="me/other", token=TOKEN)
        assert saved is not None
        assert Tagger.from_pretrained("me/other").hparams() == model.hparams()
        with pytest.raises(HfHubHTTPError, match="401"):
            model.push_to_hub("me/third", token="hf_wrong")
        with pytest.raises(FileNotFoundError, match="no model at 'me/third': it is no folder here, and the hub"):
            Tagger.from_pretrained("me/third")
    front = yaml.safe_load((uploaded / "README.md").read_text().split("---")[1])
    assert (front["license"], front["language"], front["pipeline_tag"]) == ("mit", "en", "token-classification")
    assert "- It was trained on nothing." in (uploaded / "README.md").read_text()


def test_predict_reads_no_labels() -> None:
    model = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"]))
    other_labels = Pair(words=("a", "b"), labels=("B-OTHER", "O"), id="labelled otherwise")
    assert model.predict([other_labels]) == model.predict([Pair(words=("a", "b"))])
