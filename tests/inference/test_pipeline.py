"""`mnergraph.pipeline`: inputs, results, and their methods."""

from __future__ import annotations

import gc
import io
import json
from collections.abc import Callable
from html.parser import HTMLParser
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from fakes import post
from odd_images import noise
from PIL import Image
from runs import Run

import mnergraph
from mnergraph.explain import PairRecord
from mnergraph.inference.output import NERResult
from mnergraph.inference.pipeline import NERPipeline
from mnergraph.models import UMGF
from mnergraph.pair import DetectedObject, Pair

#: The module; the package exports the function of this name.
reading = import_module("mnergraph.inference.pipeline")

TEXT = "RT @BBC:  <b>Kevin</b>\tDurant & $5 wins… 😀 at O2"
KEYS = {"entity_group", "label", "score", "word", "text", "start", "end", "word_start", "word_end"}
SUPPORT = {"attention_box", "attention_box_label", "attention_box_score", "attention_weight"}


@pytest.fixture
def reader(umgf: Callable[[], UMGF]) -> NERPipeline:
    return mnergraph.pipeline(umgf(), batch_pieces=32)


def found_in(reader: NERPipeline, *given: Any, **how: Any) -> NERResult:
    """Result of a call on one post; these models find an entity in any post."""
    found = reader(*given, **how)
    assert isinstance(found, NERResult)
    assert found
    return found


def test_entities_of_a_text(reader: NERPipeline) -> None:
    found = found_in(reader, TEXT)
    for entity in found:
        assert set(entity) == KEYS | SUPPORT
        assert entity["word"] == entity["text"] == TEXT[entity["start"] : entity["end"]]
        assert entity["label"] == entity["entity_group"]
        assert 0 <= entity["score"] <= 1
        words = found.pair.words[entity["word_start"] : entity["word_end"]]
        assert "".join(words) == "".join(entity["word"].split())
        assert all(entity[key] is None for key in SUPPORT)
    assert json.loads(json.dumps(found)) == list(found)


def test_words_texts_and_pairs_one_or_many(reader: NERPipeline) -> None:
    words = ["Kevin", "Durant", "wins"]
    one = found_in(reader, "Kevin Durant wins")
    assert found_in(reader, words, is_split_into_words=True) == one
    assert found_in(reader, Pair(tuple(words))) == one
    assert reader(["Kevin Durant wins"] * 3) == [one] * 3
    assert reader([words, words], is_split_into_words=True) == [one] * 2
    assert reader([Pair(tuple(words)), "Kevin Durant wins"]) == [one] * 2
    assert reader([]) == []
    with pytest.raises(ValueError, match="are these words"):
        reader([words])
    with pytest.raises(ValueError, match="holds no word"):
        reader(" ")


def test_supporting_object(reader: NERPipeline) -> None:
    pair = post(5, 4, seed=3)
    found = found_in(reader, pair)
    record = found.explain()
    assert isinstance(record, PairRecord)
    for entity in found:
        attention = record.attention_to((entity["word_start"], entity["word_end"]))
        assert attention is not None
        best = found.pair.objects[int(attention.argmax())]
        assert (entity["attention_box_label"], entity["attention_box_score"]) == (best.label, best.score)
        assert entity["attention_box"] == (None if best.box is None else list(best.box))
        assert entity["attention_weight"] == pytest.approx(float(attention.max()), abs=1e-5)
    without_boxes = found_in(mnergraph.pipeline(reader.model, return_boxes=False), pair)
    assert all(entity["attention_weight"] is None for entity in without_boxes)


def test_image_inputs(trained: Run, tmp_path: Path) -> None:
    reader = mnergraph.pipeline(trained.model)
    source = noise(64, 48)
    source.save(tmp_path / "1.png")
    data = (tmp_path / "1.png").read_bytes()
    forms: list[Any] = [tmp_path / "1.png", str(tmp_path / "1.png"), data, Image.open(io.BytesIO(data))]
    found = reader(["Jordan wins"] * 4, image=forms)
    assert isinstance(found, list)
    regions = [one.pair.objects[0].region for one in found]
    assert all(one.pair.size == (64, 48) for one in found)
    assert all(region is not None and region.equal(regions[0]) for region in regions)
    assert found[1:] == found[:-1]
    folder = reader._folder
    assert folder is not None
    assert len(list(folder.iterdir())) == 2
    del reader, found
    gc.collect()
    assert not folder.exists(), "temporary image files are removed"


def test_invalid_image_inputs(reader: NERPipeline, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="there is no image "):
        reader("hi", image=tmp_path / "gone.png")
    with pytest.raises(ValueError, match=r"2 posts, so image is a list of as many; there are 1"):
        reader(["hi", "you"], image=[None])
    with pytest.raises(ValueError, match=r"2 posts, so image is a list of as many"):
        reader(["hi", "you"], image=tmp_path / "1.png")
    with pytest.raises(ValueError, match="a Pair has its own image"):
        reader(Pair(("hi",)), image=b"")
    with pytest.raises(ValueError, match=r"is an address; pipeline\(model, allow_urls=True\) fetches"):
        reader("hi", image="http://x.invalid/1.png")


@pytest.mark.filterwarnings("ignore:1 of 1 posts has no")
def test_image_url(umgf: Callable[[], UMGF], monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO()
    noise(8, 6).save(file, "PNG")
    asked = []

    def fetch(url: str, *, allow_private_addresses: bool) -> bytes:
        asked.append((url, allow_private_addresses))
        return file.getvalue()

    monkeypatch.setattr(reading, "fetch_image", fetch)
    for allowed in (False, True):
        reader = mnergraph.pipeline(umgf(), allow_urls=True, allow_private_addresses=allowed)
        found = found_in(reader, "hi", image="https://x.invalid/1.png")
        assert found.pair.image_path is not None
        assert found.pair.image_path.read_bytes() == file.getvalue()
    assert asked == [("https://x.invalid/1.png", False), ("https://x.invalid/1.png", True)]


class Shown(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.filterwarnings("ignore:1 of 1 posts has no")
def test_html_representation(reader: NERPipeline, tmp_path: Path) -> None:
    noise(40, 30).save(tmp_path / "1.png")
    hostile = DetectedObject("<script>x</script>", box=(0, 0, 20, 30))
    pair = Pair(("<img", "src=x>", "Kevin"), image_path=tmp_path / "1.png", size=(40, 30), objects=(hostile,))
    found = found_in(reader, pair)
    shown = Shown(found._repr_html_())
    assert set(shown.tags) == {"div", "mark", "span", "img"}
    assert shown.tags.count("mark") == len(found)
    assert shown.tags.count("img") == 1
    assert all(f"{entity['label']} {entity['score']:.2f}" in shown.text for entity in found)
    assert "<script>x</script>" in shown.text
    # a box that several entities attend to is drawn once, with a line for each
    assert found._repr_html_().count("outline:1px") == 1
    assert shown.text.count(": <script>x</script>") == len(found)
    plain = found_in(reader, "Kevin wins")
    assert "img" not in Shown(plain._repr_html_()).tags
