"""The training script on tiny posts: result files, seeds, image features, other data to test on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.experiment import SETTINGS
from benchmarks.grounded_pictures import NOTE
from benchmarks.table import grounding_figures, table
from benchmarks.train import main, other_contexts, summary
from mnergraph.cli.extract import features
from mnergraph.data import Lookalikes
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.graph import Context
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, EVG, Tagger
from mnergraph.pair import ContextText, Pair
from mnergraph.training.evaluate import evaluate_grounding

UMGF = ("--system=UMGF", "--model=UMGF", "--arguments={hidden_size: 16, num_heads: 2, num_layers: 1}")
GVATT = ("--system=GVATT-BERT-CRF", "--model=GVATT", "--arguments={query_size: 8, attention_size: 8}")
#: A small Lookalikes data set.
DRAWN = (
    "--data=Lookalikes",
    "--data_options={sizes: [16, 6, 8], size: 64, image_irrelevant_ratio: 1.0}",
    "--encoder=tiny-random",
    "--trainer.epochs=1",
)


def run(settings: Path, root: Path, out: Path, *further: str) -> dict[str, Any]:
    main([f"--settings={settings}", f"--root={root}", f"--out={out}", "--seeds=[0]", *further])
    return json.loads(out.read_text(encoding="utf-8"))


def test_a_result_file(settings: Path, root: Path, tmp_path: Path) -> None:
    found = run(settings, root, tmp_path / "new" / "r.json", "--seeds=[3, 4]")
    assert found["benchmark"] == "train"
    assert (found["system"], found["data"], found["test data"]) == ("BERT-CRF", "PostFolder", "PostFolder")
    assert found["posts"] == {"train": 40, "valid": 12, "test": 15}
    assert found["checksums"]["test"] == file_sha256(root / "test.txt")
    assert found["experiment"]["trainer"]["epochs"] == 2
    assert found["evidence"]["test"]["captions"] == 10
    assert found["evidence"]["test"]["objects"] == 0  # unless caption_phrases asks for them
    assert list(found["seeds"]) == ["3", "4"]
    for one in found["seeds"].values():
        assert {"versions", "threads", "processor", "cores"} <= set(one["machine"])
        assert one["commit"]
        assert one["seconds"] >= one["training seconds"] > 0
        posts = {name: [*map(int, line.split())] for name, line in one["entities by test post"].items()}
        assert {len(numbers) for numbers in posts.values()} == {15}
        right, predicted, gold = (sum(posts[name]) for name in ("right", "predicted", "gold"))
        lenient = one["test"]["lenient"]
        assert gold == lenient["gold"]
        assert right == pytest.approx(lenient["recall"] * gold)
        assert right == pytest.approx(lenient["precision"] * predicted)
    values = [one["test"]["lenient"]["f1"] for one in found["seeds"].values()]
    assert max(values) > 0.3
    assert found["test"]["lenient"]["f1"] == pytest.approx(sum(values) / 2)
    assert found["test"] == summary([one["test"] for one in found["seeds"].values()])


def test_further_seeds_are_added_to_a_result(settings: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    first = run(settings, root, out)
    more = run(settings, root, out, "--seeds=[0, 1]", "--trainer.progress=false")
    assert more["seeds"]["0"] == first["seeds"]["0"]
    assert list(more["seeds"]) == ["0", "1"]
    again = run(settings, root, tmp_path / "other.json", "--seeds=[1]")["seeds"]["1"]
    same = ("valid", "test", "entities by test post")
    assert [again[key] for key in same] == [more["seeds"]["1"][key] for key in same]
    with pytest.raises(FileExistsError, match=r"r.json is a result with another experiment; give"):
        run(settings, root, out, "--optimizer.lr=1e-4")
    assert json.loads(out.read_text(encoding="utf-8")) == more


@pytest.mark.parametrize("image", ["vector", "grid"])
def test_caption_features_as_image_features(settings: Path, root: Path, tmp_path: Path, image: str) -> None:
    found = run(settings, root, tmp_path / "r.json", *GVATT, f"--image={image}", "--image_features=caption")
    assert found["evidence"]["train"]["image vectors"] == found["evidence"]["train"]["captions"] == 26


def test_captions_read_by_another_encoder(settings: Path, root: Path, encoder: Path, tmp_path: Path) -> None:
    caption = (*GVATT, "--encoder=random:8", "--image=grid", "--image_features=caption")
    with pytest.raises(ValueError, match="random:8 encodes no captions: give --caption_encoder"):
        run(settings, root, tmp_path / "r.json", *caption)
    small = "--arguments={hidden_size: 4, char_dim: 4, char_hidden_size: 2, query_size: 4, attention_size: 4}"
    found = run(settings, root, tmp_path / "r.json", *caption, small, f"--caption_encoder={encoder}")
    assert found["evidence"]["test"]["image vectors"] == 10
    assert found["experiment"]["caption_encoder"] == "small", "a result names the folder, not where it lies"


def test_phrases_of_captions_become_objects(settings: Path, root: Path, tmp_path: Path) -> None:
    phrases = (*UMGF, "--caption_phrases=true", "--allow_missing=[grounded objects, region features, detected objects]")
    found = run(settings, root, tmp_path / "r.json", *phrases)
    assert found["evidence"]["train"]["objects"] == 26
    elsewhere = tmp_path / "captions.jsonl"
    elsewhere.write_text('{"id": "train0", "caption": "a cat"}\n', encoding="utf-8")
    captions = f"--captions={elsewhere}"
    found = run(settings, root, tmp_path / "s.json", *phrases, captions)
    assert found["evidence"]["train"]["objects"] == 1


def test_missing_evidence_is_an_error(settings: Path, root: Path, tmp_path: Path) -> None:
    out = tmp_path / "r.json"
    for source in ("file", "backbone"):
        with pytest.raises(ValueError, match="reads image features, which no post of train, valid, test has"):
            run(settings, root, out, *GVATT, "--image=grid", f"--image_features={source}")
    with pytest.raises(ValueError, match=r"grounded objects, .*; the model reads region features, which no post"):
        run(settings, root, out, *UMGF, "--regions.backbone=resnet18")
    with pytest.raises(ValueError, match="looks 4 similar words up: give --word_vectors"):
        run(settings, root, out, "--similar=4")
    with pytest.raises(ValueError, match="there is no data set 'Twitter'; there is PostFolder"):
        run(settings, root, out, "--data=Twitter")
    assert not out.exists()


def test_other_data_to_test_on(settings: Path, root: Path, write: Callable[..., Path], tmp_path: Path) -> None:
    """Twitter-2015's OTHER is Twitter-2017's MISC, whichever way one trains."""
    other = write(tmp_path / "there", other="MISC")
    test = ("--test_data=PostFolder", f"--test.root={other}")
    here = run(settings, root, tmp_path / "r.json", *test)["seeds"]["0"]["test"]["lenient_by_type"]
    assert set(here) == {"PER", "LOC", "ORG", "OTHER"}
    assert here["OTHER"]["gold"] > 0
    found = run(settings, other, tmp_path / "s.json", "--test_data=PostFolder", f"--test.root={root}")
    assert set(found["seeds"]["0"]["test"]["lenient_by_type"]) == {"PER", "LOC", "ORG", "MISC"}
    assert found["checksums"]["test"] == file_sha256(root / "test.txt")
    assert found["checksums"]["valid"] == file_sha256(other / "valid.txt")
    with pytest.raises(ValueError, match=r"test_data, the other data set, and test.root, its folder"):
        run(settings, root, tmp_path / "t.json", "--test_data=PostFolder")


def test_generated_pictures_are_named_as_such(settings: Path, root: Path, tmp_path: Path) -> None:
    shutil.copytree(root, tmp_path / "posts")
    (tmp_path / "posts" / NOTE).write_text("generated")
    found = run(settings, tmp_path / "posts", tmp_path / "r.json", "--trainer.epochs=1")
    assert found["data"] == found["test data"] == "PostFolder, generated pictures"


def test_lookalikes_posts(settings: Path, tmp_path: Path) -> None:
    regions = "--regions={backbone: resnet18, weights: random, size: 32}"
    allowed = "--allow_missing=[grounded objects]"  # no image shows a name
    found = run(settings, tmp_path / "posts", tmp_path / "r.json", *DRAWN, *UMGF, regions, allowed)
    assert found["experiment"]["data_options"]["image_irrelevant_ratio"] == 1.0
    assert found["evidence"]["train"]["region vectors"] == found["evidence"]["train"]["pictures"] == 14


@pytest.mark.parametrize("image", ["vector", "grid"])
def test_lookalikes_images_by_a_backbone(settings: Path, tmp_path: Path, image: str) -> None:
    backbone_option = "--map={backbone: resnet18, weights: random, size: 32, stage: 1, pool_size: 3}"
    how = (*DRAWN, *GVATT, f"--image={image}", "--image_features=backbone", backbone_option)
    found = run(settings, tmp_path / "posts", tmp_path / "r.json", *how)
    assert found["evidence"]["test"]["image vectors"] == 7


def test_ablations(settings: Path, root: Path, tmp_path: Path) -> None:
    with settings.open("a", encoding="utf-8") as file:
        file.write("ablations: {w/o dropout: {arguments: {dropout: 0.0}}}\n")
    found = run(settings, root, tmp_path / "r.json", "--ablation=w/o dropout")
    assert found["system"] == "BERT-CRF, w/o dropout"
    assert found["experiment"]["arguments"] == {"dropout": 0.0}


def test_faults_of_settings(settings: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        run(settings, root, tmp_path / "r.json", "--trainer.epoch=3")
    assert "epoch" in capsys.readouterr().err
    with pytest.raises(ValueError, match=r"arguments of BERT-CRF: .*width"):
        run(settings, root, tmp_path / "r.json", "--arguments.width=3")


def test_features_of_a_store_and_kept_models(settings: Path, tmp_path: Path) -> None:
    root = tmp_path / "posts"
    images = ("--image=grid", "--image_features=file", "--allow_missing=[image features]")
    without = run(settings, root, tmp_path / "none.json", *DRAWN, *GVATT, *images)
    features(
        root / "raw" / "images", tmp_path / "store", BackboneGrid("resnet18", size=32, pool_size=2), progress=False
    )
    stores, models = f"--stores=[{tmp_path / 'store'}]", tmp_path / "models"
    found = run(settings, root, tmp_path / "r.json", *DRAWN, *GVATT, *images[:2], stores, f"--keep_models={models}")
    missing = {split: counts.get("image features", 0) for split, counts in found["posts without evidence"].items()}
    assert missing == {
        split: found["posts"][split] - found["evidence"][split]["image vectors"] for split in found["posts"]
    }
    assert sum(missing.values()) < sum(found["posts"].values())
    assert without["posts without evidence"]["train"] == {"image features": 16}
    model = Tagger.from_pretrained(models / "seed0")
    assert model.metadata["scores"]["test"] == found["seeds"]["0"]["test"]
    assert model.processor_config is not None
    assert [manifest["extractor"] for manifest in model.processor_config.stores] == ["BackboneGrid"]


def test_context(settings: Path, root: Path, tmp_path: Path) -> None:
    """What of it is left out, and scores without it and with another post's."""
    found = run(settings, root, tmp_path / "r.json", "--context={sources: [caption], budget: 8}")
    assert found["experiment"]["context"] == {"sources": ["caption"], "budget": 8, "agreement": None}
    assert found["posts without evidence"]["test"] == {"context (caption)": 5}
    assert found["context left out"]["test"].keys() == {"posts", "words", "total", "budget"}
    others = found["seeds"]["0"]["test with other context"]
    assert others.keys() == {"none", "another post's"}
    assert all(
        scores["lenient"]["gold"] == found["seeds"]["0"]["test"]["lenient"]["gold"] for scores in others.values()
    )
    plain = run(settings, root, tmp_path / "plain.json")
    assert "context" not in plain["experiment"]
    assert "context left out" not in plain
    assert "test with other context" not in plain["seeds"]["0"]


def test_other_contexts() -> None:
    texts = [(ContextText("caption", "a man"),), (), (ContextText("ocr", "SALE"),)]
    pairs = [Pair(("a",), context=text, caption="rain") for text in texts]
    model = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"]), context=Context(sources=("caption", "ocr")))
    found = other_contexts(model, pairs)
    assert model.context is not None
    read = {name: [model.context.texts(pair) for pair in other] for name, other in found.items()}
    assert read["none"] == [(), (), ()]
    captions = [
        (ContextText("caption", "a man"),),
        (ContextText("caption", "rain"),),
        (ContextText("caption", "rain"), *texts[2]),
    ]
    assert read["another post's"] == [captions[1], captions[2], captions[0]]
    assert other_contexts(BERTCRF(tiny_encoder(), LabelSet.from_types(["PER"])), pairs) == {}


def test_a_grounder_is_trained_and_scored_beside_the_system(settings: Path, tmp_path: Path) -> None:
    drawn = [*DRAWN, "--data_options={sizes: [16, 6, 8], size: 64, grounded: true}"]
    evg, keep = "--grounder={num_heads: 2, intermediate_size: 8}", f"--keep_models={tmp_path / 'kept'}"
    out, root = tmp_path / "results" / "r.json", tmp_path / "drawn"
    found = run(settings, root, out, *drawn, evg, keep, "--seeds=[0, 1]")
    runs = [one["grounding"] for one in found["seeds"].values()]
    for metric in ("gmner", "mner", "eeg"):
        values = [one[metric]["f1"] for one in runs]
        assert found["grounding"][metric]["f1"] == pytest.approx(sum(values) / 2)
    assert all(one["ceiling"] == 1 for one in runs)
    assert found["seeds"]["0"]["test"]["lenient"]["f1"] == pytest.approx(runs[0]["mner"]["f1"])
    model, grounder = (tmp_path / "kept" / name for name in ("seed0", "seed0_grounder"))
    test = Lookalikes(root, "test", grounded=True, sizes=(16, 6, 8), size=64, progress=False).pairs
    ground = EVG.from_pretrained(grounder).ground
    scores, _ = evaluate_grounding(Tagger.from_pretrained(model), test, ground=ground, progress=False)
    assert scores.to_dict() == runs[0]
    printed = table(out.parent, tmp_path)
    assert "; grounded entities" in printed
    assert f"| BERT-CRF | – | – | – | {100 * found['grounding']['gmner']['f1']:.2f} ± " in printed
    assert printed.splitlines()[-1].endswith("| 100.00 | 2 |")


def test_reported_figures_of_grounded_entities() -> None:
    figures = grounding_figures(SETTINGS)
    reported = figures["UMGF-VinVL-EVG", "GroundedTwitter"]
    assert {name: one.f1 for name, one in reported.items()} == {"GMNER": 51.67, "MNER": 78.83, "EEG": 55.74}
