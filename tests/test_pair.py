"""A pair as JSON data, and without its image."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from fakes import awkward_posts, post

from mnergraph.pair import ContextText, DetectedObject, GroundedEntity, Pair, SourceText

FULL = Pair(
    words=("Ann", "é\u2028"),
    labels=("B-PER", "O"),
    id="7",
    image_path=Path("a folder") / "7.jpg",
    size=(40, 30),
    objects=(DetectedObject("hat", (0, 1.5, 4, 9), 0.25, (0, 1), torch.ones(3)), DetectedObject()),
    caption="a hat",
    image_features=torch.ones(1, 4),
    context=(ContextText("ocr", "SALE"), ContextText("knowledge", "Ann is a name")),
    entities=((0, 1), (0, 2)),
    grounding=(GroundedEntity(0, 1, "PER", ((0.0, 1.0, 5.5, 9.0), (2.0, 2.0, 3.0, 3.0))), GroundedEntity(1, 2, "LOC")),
)


@pytest.mark.parametrize("pair", [FULL, Pair(("a",)), *awkward_posts()], ids=lambda pair: pair.id)
def test_to_json_and_back(pair: Pair) -> None:
    again = Pair.from_dict(json.loads(json.dumps(pair.to_dict(), allow_nan=False)))
    assert again == pair
    assert hash(again) == hash(pair), "tuples, not lists"
    assert again.image_features is None
    assert all(obj.region is None for obj in again.objects)
    assert Pair.from_dict(pair.to_dict()) == pair


def test_only_vectors_are_left_out() -> None:
    source = SourceText("Ann, é\u2028", ((0, 3), (5, 7)))
    full = replace(FULL, source=source, extra={"tags": ["#a"], "x": torch.ones(1)})
    assert {entry.name for entry in fields(Pair)} - full.to_dict().keys() == {"image_features"}
    assert full.to_dict()["extra"] == {"tags": ["#a"]}, "what is plain JSON"
    again = Pair.from_dict(json.loads(json.dumps(full.to_dict())))
    assert (again, dict(again.extra)) == (full, {"tags": ["#a"]})
    assert {entry.name for entry in fields(DetectedObject)} - FULL.to_dict()["objects"][0].keys() == {"region"}


@pytest.mark.parametrize("grounding", [None, ()])
def test_no_annotation_is_not_an_annotation_without_entities(grounding: tuple[GroundedEntity, ...] | None) -> None:
    pair = Pair(("a", "b"), grounding=grounding)
    assert Pair.from_dict(json.loads(json.dumps(pair.to_dict()))).grounding == grounding


def test_a_grounded_entity_beyond_the_words_is_refused() -> None:
    with pytest.raises(ValueError, match="span 1:3 leaves its 2 words"):
        Pair(("a", "b"), grounding=(GroundedEntity(1, 3, "PER"),))


def test_without_image() -> None:
    without_image = FULL.without_image()
    kept = {"entities": FULL.entities, "grounding": FULL.grounding}
    assert without_image == Pair(FULL.words, FULL.labels, "7", context=FULL.context[1:], **kept)
    assert without_image.image_features is None
    assert post(3, 2).without_image() == replace(
        post(3, 0, image=False), **{name: getattr(post(3, 2), name) for name in ("words", "labels", "id")}
    )


def test_text_and_word_offsets() -> None:
    pair = Pair.from_text("  Ann  saw\tRome! ", id="7", extra={"lines": 2})
    assert (pair.words, pair.id, pair.extra) == (("Ann", "saw", "Rome", "!"), "7", {"lines": 2})
    assert [pair.text[start:end] for start, end in pair.word_offsets] == list(pair.words)
    assert pair.text == "  Ann  saw\tRome! "
    plain = Pair.from_words(["Ann", "é", "Rome"])
    assert plain.text == "Ann é Rome"
    assert plain.word_offsets == ((0, 3), (4, 5), (6, 10))
    with pytest.raises(ValueError, match="holds no word"):
        Pair.from_text(" ")
    with pytest.raises(ValueError, match="does not have its words at"):
        replace(pair, words=("Ann",))
