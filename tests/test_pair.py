"""A pair as JSON data, and without its picture."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from fakes import awkward_posts, post

from mnergraph.pair import DetectedObject, Pair

FULL = Pair(
    words=("Ann", "é\u2028"),
    labels=("B-PER", "O"),
    id="7",
    image_path=Path("a folder") / "7.jpg",
    size=(40, 30),
    objects=(DetectedObject("hat", (0, 1.5, 4, 9), 0.25, (0, 1), torch.ones(3)), DetectedObject()),
    caption="a hat",
    image_features=torch.ones(1, 4),
    entities=((0, 1), (0, 2)),
)


@pytest.mark.parametrize("pair", [FULL, Pair(("a",)), *awkward_posts()], ids=lambda pair: pair.id)
def test_to_json_and_back(pair: Pair) -> None:
    again = Pair.from_dict(json.loads(json.dumps(pair.to_dict(), allow_nan=False)))
    assert again == pair
    assert hash(again) == hash(pair), "tuples, not lists"
    assert again.image_features is None
    assert all(thing.region is None for thing in again.objects)
    assert Pair.from_dict(pair.to_dict()) == pair


def test_nothing_but_vectors_is_left_out() -> None:
    left_out = {entry.name for entry in fields(Pair)} - FULL.to_dict().keys()
    assert left_out == {"image_features", "extra"}
    assert {entry.name for entry in fields(DetectedObject)} - FULL.to_dict()["objects"][0].keys() == {"region"}


def test_without_its_picture() -> None:
    blind = FULL.without_image()
    assert blind == Pair(FULL.words, FULL.labels, "7", entities=FULL.entities)
    assert blind.image_features is None
    assert post(3, 2).without_image() == replace(
        post(3, 0, picture=False), **{name: getattr(post(3, 2), name) for name in ("words", "labels", "id")}
    )
