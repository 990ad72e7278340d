"""Drawn images: exact boxes, no overlap, distinguishable classes."""

from __future__ import annotations

import random

import numpy as np
import pytest
from PIL import Image
from sklearn.neighbors import KNeighborsClassifier

from mnergraph.data.lookalikes import drawing
from mnergraph.data.lookalikes.drawing import background, draw_image, object_size, sprite
from mnergraph.data.lookalikes.grammar import TYPES
from mnergraph.data.lookalikes.sketches import NEUTRAL, SKETCHES, TYPED_CLASSES

LABELS = list(SKETCHES)


def test_every_type_has_several_classes_of_its_own() -> None:
    assert tuple(TYPED_CLASSES) == TYPES
    assert min(map(len, TYPED_CLASSES.values())) >= 4
    classes = [*NEUTRAL, *(label for labels in TYPED_CLASSES.values() for label in labels)]
    assert sorted(classes) == sorted(LABELS)


def test_same_seed_same_pixels_other_seed_other_pixels() -> None:
    images = [draw_image(LABELS[:4], 160, random.Random(seed))[0].tobytes() for seed in (1, 1, 2)]
    assert images[0] == images[1] != images[2]


@pytest.mark.parametrize("label", LABELS)
def test_a_box_encloses_exactly_the_pixels_of_its_object(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # On a background in a color that no sketch has, all drawn pixels differ from it.
    monkeypatch.setattr(drawing, "background", lambda size, rng: Image.new("RGB", (size, size), (1, 254, 1)))
    for seed in range(8):
        image, (box,) = draw_image([label], 160, random.Random(seed))
        drawn = (np.asarray(image) != (1, 254, 1)).any(axis=2)
        columns, rows = drawn.any(axis=0).nonzero()[0], drawn.any(axis=1).nonzero()[0]
        assert box == (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)


@pytest.mark.parametrize("size", [64, 160, 224])
def test_boxes_lie_inside_the_image_without_overlap(size: int) -> None:
    for seed in range(60):
        rng = random.Random(seed)
        image, boxes = draw_image(rng.sample(LABELS, rng.randint(1, 6)), size, rng)
        assert image.size == (size, size)
        coverage = np.zeros((size, size), dtype=int)
        for left, top, right, bottom in boxes:
            assert 0 <= left < right <= size
            assert 0 <= top < bottom <= size
            assert min(right - left, bottom - top) >= size / 16
            coverage[top:bottom, left:right] += 1
        assert coverage.max() == 1


def test_an_unknown_label_raises_an_error_that_lists_the_labels() -> None:
    with pytest.raises(KeyError, match="no sketch of 'unicorn'; there are man, woman"):
        draw_image(["unicorn"], 160, random.Random(0))


def test_backgrounds_are_pale_and_differ() -> None:
    drawn = [np.asarray(background(64, random.Random(seed))) for seed in range(20)]
    assert min(canvas.min() for canvas in drawn) > 140
    assert len({canvas.tobytes() for canvas in drawn}) == 20


def test_classes_differ_in_their_pixels() -> None:
    def crops(seeds: range) -> tuple[list[np.ndarray], list[str]]:
        pixels, labels = [], []
        for seed in seeds:
            for label in LABELS:
                rng = random.Random(f"{seed} {label}")
                image, (box,) = draw_image([label], 160, rng)
                pixels.append(np.asarray(image.crop(box).resize((12, 12))).ravel() / 255)
                labels.append(label)
        return pixels, labels

    train, test = crops(range(20)), crops(range(100, 106))
    assert KNeighborsClassifier(1).fit(*train).score(*test) > 0.97


def test_a_sprite_fills_its_frame() -> None:
    for label in LABELS:
        width, height = object_size(label, 60)
        box = sprite(label, width, height, random.Random(0)).getbbox()
        assert box is not None
        assert box[2] - box[0] >= 0.8 * width
        assert box[3] - box[1] >= 0.8 * height
