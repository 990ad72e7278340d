"""Content of reports: entities with their errors, images, and the recorded weights."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from fakes import post
from odd_images import noise
from PIL import Image

from mnergraph import BatchConfig, tiny_encoder
from mnergraph.explain import record_attention
from mnergraph.explain.report import report_data
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, UMGF
from mnergraph.nn import Grounding
from mnergraph.pair import DetectedObject, GroundedEntity, Pair


def test_weights_equal_the_record(umgf: Callable[[], UMGF]) -> None:
    model, pairs = umgf(), [post(5, 3, seed=1), post(2), post(4, 1, seed=2)]
    content = report_data(model, pairs, batching=BatchConfig(batch_pieces=32))
    with record_attention(model) as record:
        model.predict(pairs)
    assert content["layers"] == sorted(content["layers"], key=float)
    for shown, post_record in zip(content["posts"], record.posts, strict=True):
        for part in shown["parts"]:
            (weights,) = post_record.select(("object", part["relation"], "token"), layer=part["layer"])
            shape = (part["heads"], len(shown["words"]), part["count"])
            numbers = np.frombuffer(base64.b64decode(part["data"]), np.uint8).reshape(shape)
            result = torch.from_numpy(numbers / 255 * part["most"]).float()
            torch.testing.assert_close(result, weights.matrix(), rtol=0, atol=part["most"] / 255)
    assert [bool(shown["parts"]) for shown in content["posts"]] == [True, False, True]


def test_images_are_scaled_and_boxes_are_shares(tmp_path: Path, umgf: Callable[[], UMGF]) -> None:
    noise(1200, 900).save(tmp_path / "1.png")
    pair = post(3, 2, boxes=1.0)
    boxes = ((0.0, 0.0, 60.0, 45.0), (30.0, 0.0, 999.0, 90.0))
    objects = tuple(replace(item, box=box) for item, box in zip(pair.objects, boxes, strict=True))
    pair = replace(pair, image_path=tmp_path / "1.png", size=(120, 90), objects=objects)
    missing = replace(pair, image_path=tmp_path / "gone.png")
    with_it, without = report_data(umgf(), [pair, missing])["posts"]
    head, _, data = with_it["image"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 360)
    assert [item["box"] for item in with_it["objects"]] == [[0, 0, 0.5, 0.5], [0.25, 0, 1, 1]]
    assert without["image"] is None
    assert [item["box"] for item in without["objects"]] == [None, None]


def test_entities_of_both_sides(umgf: Callable[[], UMGF]) -> None:
    model, unlabelled = umgf(), replace(post(6, 2), labels=None)
    result = model.predict([unlabelled])[0]
    if not result:
        pytest.fail("the model of these tests finds entities")
    labels = ["O"] * 6
    labels[result[0].start : result[0].end] = ["B-X"] + ["I-X"] * (result[0].end - result[0].start - 1)
    shown, bare = report_data(model, [replace(unlabelled, labels=tuple(labels)), unlabelled])["posts"]
    assert shown["gold"] == [[result[0].start, result[0].end, "X", "type", None]]
    assert shown["predicted"][0][:4] == [result[0].start, result[0].end, result[0].type, "type"]
    assert shown["predicted"][0][4:] == [pytest.approx(result[0].score, abs=1e-3), None]
    assert "type" in shown["errors"]
    assert (bare["gold"], bare["errors"]) == (None, [])


def test_where_the_image_shows_an_entity() -> None:
    torch.manual_seed(0)
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    model = BERTCRF(encoder, LabelSet.from_types(["PER"]), grounding=Grounding(hidden_size=8, num_heads=2)).eval()
    objects = (DetectedObject("hat", (0, 0, 5, 10)), DetectedObject("man", (5, 5, 10, 20)))
    gold = (GroundedEntity(0, 1, "PER", ((0, 0, 5, 10), (-3, 0, 20, 20))), GroundedEntity(2, 3, "PER"))
    pair = Pair(("Ann", "saw", "Bob"), ("B-PER", "O", "B-PER"), size=(10, 20), objects=objects, grounding=gold)
    [shown] = report_data(model, [pair])["posts"]
    assert [entity[4] for entity in shown["gold"]] == [[[0, 0, 0.5, 0.5], [0, 0, 1, 1]], []]
    [predicted] = [model.predict([pair])[0]]
    assert predicted
    for entity, (*_, region) in zip(predicted, shown["predicted"], strict=True):
        assert entity.region is not None
        assert region == [entity.region.object, pytest.approx(entity.region.score, abs=1e-3)]
