"""What the page is told: entities with their errors, pictures, and weights that are the record's."""

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
from PIL import Image
from wild import noise

from mnergraph.explain import record_attention
from mnergraph.explain.report import report_data
from mnergraph.labels import Span
from mnergraph.metrics.scores import classify_errors
from mnergraph.models import UMGF


def test_kinds_of_errors() -> None:
    gold = [Span(0, 2, "PER"), Span(3, 4, "LOC"), Span(5, 7, "ORG"), Span(9, 10, "PER")]
    said = [Span(0, 2, "PER"), Span(3, 4, "ORG"), Span(6, 8, "ORG"), Span(8, 9, "LOC")]
    assert classify_errors(gold, said) == (
        ["right", "type", "boundary", "missed"],
        ["right", "type", "boundary", "spurious"],
    )
    assert classify_errors([], []) == ([], [])


def test_weights_are_the_records(umgf: Callable[[], UMGF]) -> None:
    model, pairs = umgf(), [post(5, 3, seed=1), post(2), post(4, 1, seed=2)]
    content = report_data(model, pairs, batch_size=2)
    with record_attention(model) as record:
        model.predict(pairs)
    assert content["layers"] == sorted(content["layers"], key=float)
    for told, seen in zip(content["posts"], record.posts, strict=True):
        for part in told["parts"]:
            (weights,) = seen.select(("object", part["relation"], "token"), layer=part["layer"])
            shape = (part["heads"], len(told["words"]), part["count"])
            numbers = np.frombuffer(base64.b64decode(part["data"]), np.uint8).reshape(shape)
            found = torch.from_numpy(numbers / 255 * part["most"]).float()
            torch.testing.assert_close(found, weights.matrix(), rtol=0, atol=part["most"] / 255)
    assert [bool(told["parts"]) for told in content["posts"]] == [True, False, True]


def test_pictures_are_scaled_and_boxes_are_shares(tmp_path: Path, umgf: Callable[[], UMGF]) -> None:
    noise(1200, 900).save(tmp_path / "1.png")
    pair = post(3, 2, boxes=1.0)
    boxes = ((0.0, 0.0, 60.0, 45.0), (30.0, 0.0, 999.0, 90.0))
    objects = tuple(replace(thing, box=box) for thing, box in zip(pair.objects, boxes, strict=True))
    pair = replace(pair, image_path=tmp_path / "1.png", size=(120, 90), objects=objects)
    gone = replace(pair, image_path=tmp_path / "gone.png")
    with_it, without = report_data(umgf(), [pair, gone])["posts"]
    head, _, data = with_it["picture"].partition(",")
    assert head == "data:image/jpeg;base64"
    assert Image.open(io.BytesIO(base64.b64decode(data))).size == (480, 360)
    assert [thing["box"] for thing in with_it["objects"]] == [[0, 0, 0.5, 0.5], [0.25, 0, 1, 1]]
    assert without["picture"] is None
    assert [thing["box"] for thing in without["objects"]] == [None, None]


def test_entities_of_both_sides(umgf: Callable[[], UMGF]) -> None:
    model, unlabelled = umgf(), replace(post(6, 2), labels=None)
    found = model.predict([unlabelled])[0]
    if not found:
        pytest.fail("the model of these tests finds entities")
    labels = ["O"] * 6
    labels[found[0].start : found[0].end] = ["B-X"] + ["I-X"] * (found[0].end - found[0].start - 1)
    told, bare = report_data(model, [replace(unlabelled, labels=tuple(labels)), unlabelled])["posts"]
    assert told["gold"] == [[found[0].start, found[0].end, "X", "type"]]
    assert told["said"][0][:4] == [found[0].start, found[0].end, found[0].type, "type"]
    assert told["said"][0][4] == pytest.approx(found[0].score, abs=1e-3)
    assert "type" in told["errors"]
    assert (bare["gold"], bare["errors"]) == (None, [])
