"""Grounded Lookalikes: words say where a name's object is, and the derived ceilings are those of the best strategy."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from mnergraph.data.lookalikes.cues import CUE_TEMPLATES, WORDINGS, Place
from mnergraph.data.lookalikes.dataset import Lookalikes, vocabulary
from mnergraph.data.lookalikes.generate import generate
from mnergraph.data.lookalikes.grammar import AMBIGUOUS_NAMES, TYPE_WORDS, TYPES
from mnergraph.data.lookalikes.sketches import TYPED_CLASSES
from mnergraph.metrics.grounding import score_grounding
from mnergraph.pair import Box, DetectedObject, GroundedEntity, Pair

TYPE_OF = {label: entity_type for entity_type, labels in TYPED_CLASSES.items() for label in labels}
SIZE = 64


@pytest.fixture(scope="module")
def default(tmp_path_factory: pytest.TempPathFactory) -> Lookalikes:
    """Return grounded posts with default settings and small images."""
    folder = tmp_path_factory.mktemp("grounded")
    return Lookalikes(folder, "train", sizes=(600, 1, 1), size=SIZE, grounded=True, progress=False)


def typed(pair: Pair) -> list[DetectedObject]:
    """Return the post's proposals of a type."""
    return [item for item in pair.objects if item.label in TYPE_OF]


def lies_in(box: Box | None, place: Place) -> bool:
    """Return whether a box lies in a half or quarter of the image."""
    assert box is not None
    left, top, right, bottom = place.area(SIZE)
    return left <= box[0] and top <= box[1] and box[2] <= right and box[3] <= bottom


def named_place(words: tuple[str, ...], start: int, end: int) -> Place | None:
    """Return the place that the words around a name say, by the longest wording that fits."""
    fitting = []
    for place, wordings in WORDINGS.items():
        for wording in wordings:
            for template in CUE_TEMPLATES:
                before, after = (half.split() for half in template.format(place=wording).split("{}"))
                if words[max(0, start - len(before)) : start] + words[end : end + len(after)] == (*before, *after):
                    fitting.append((len(before) + len(after), place))
    return max(fitting)[1] if fitting else None


class Guess(NamedTuple):
    """What the best strategy predicts, and whether leaving it out raises no score."""

    entity: GroundedEntity
    type_known: bool
    box_known: bool


def best_guess(pair: Pair, entity: GroundedEntity, rng: random.Random) -> Guess:
    """Return what a model that knows the grammar predicts from words and proposals alone."""

    def guess(entity_type: str, box: Box | None, *, type_known: bool = True, box_known: bool = True) -> Guess:
        boxes = () if box is None else (box,)
        return Guess(GroundedEntity(entity.start, entity.end, entity_type, boxes), type_known, box_known)

    words = pair.words[entity.start : entity.end]
    for entity_type, forms in TYPE_WORDS.items():
        if {form.replace("{}", "").strip() for form in forms} & set(words):
            return guess(entity_type, None)
    names = [" ".join(pair.words[item.start : item.end]) for item in pair.grounding or ()]
    two = sum(name in AMBIGUOUS_NAMES for name in names) == 2
    place = named_place(pair.words, entity.start, entity.end)
    own = [item for item in typed(pair) if not two or place is None or lies_in(item.box, Place(place.row))]
    if not own:
        return guess(rng.choice(TYPES), None, type_known=False, box_known=not typed(pair))
    entity_type = TYPE_OF[own[0].label]
    if place is None:
        return guess(entity_type, rng.choice(own).box)
    there = [item.box for item in own if lies_in(item.box, place)]
    return guess(entity_type, there[0] if there else None, box_known=bool(there))


SETTINGS = [
    {},
    {"cue_missing_ratio": 0.5},
    {"proposal_missing_ratio": 0.3},
    {"same_kind_distractors": 0.5, "cue_missing_ratio": 0.3, "proposal_missing_ratio": 0.2},
]


@pytest.mark.parametrize("settings", SETTINGS)
def test_the_best_strategy_reaches_the_ceilings(tmp_path: Path, settings: dict[str, float]) -> None:
    data = Lookalikes(tmp_path, "test", sizes=(1, 1, 700), size=SIZE, grounded=True, progress=False, **settings)
    rng = random.Random(0)
    gold = [pair.grounding or () for pair in data.pairs]
    guesses = [[best_guess(pair, entity, rng) for entity in pair.grounding or ()] for pair in data.pairs]

    def scores(kept: Callable[[Guess], bool]) -> tuple[float, float, float]:
        found = score_grounding(gold, [[one.entity for one in post if kept(one)] for post in guesses])
        return found.gmner.f1, found.mner.f1, found.eeg.f1

    ceiling = data.grounding_ceiling
    assert scores(lambda one: one.type_known and one.box_known)[0] == pytest.approx(ceiling.gmner, abs=0.025)
    assert scores(lambda one: one.type_known)[1] == pytest.approx(ceiling.mner, abs=0.025)
    assert scores(lambda one: one.box_known)[2] == pytest.approx(ceiling.eeg, abs=0.025)
    assert scores(lambda one: True)[0] == pytest.approx(ceiling.gmner_of_all, abs=0.025)
    assert scores(lambda one: True)[1] == pytest.approx(ceiling.mner_of_all, abs=0.025)
    assert ceiling.gmner <= min(ceiling.mner, ceiling.eeg)
    if not settings:
        assert (ceiling.eeg, ceiling.gmner) == (1, ceiling.mner)


def test_without_the_words_or_the_places_half_of_the_boxes_are_wrong(default: Lookalikes) -> None:
    rng = random.Random(0)
    gold = [pair.grounding or () for pair in default.pairs]
    predicted = []
    for pair in default.pairs:
        own = [item.box for item in typed(pair) if item.box is not None]
        boxes = {item: (rng.choice(own),) if item.boxes else () for item in pair.grounding or ()}
        predicted.append(
            [GroundedEntity(item.start, item.end, item.type, boxes[item]) for item in pair.grounding or ()]
        )
    assert score_grounding(gold, predicted).localization == pytest.approx(0.46, abs=0.06)  # two names: a quarter


def test_every_depicted_name_has_one_box_in_its_place_and_another_object_of_its_type(default: Lookalikes) -> None:
    several = 0
    for pair in default.pairs:
        truth = default.truth[pair.id]
        entities = {(item.start, item.end): item for item in pair.grounding or ()}
        assert {span for span, item in entities.items() if item.boxes} == truth.depicted == truth.proposed
        assert truth.distracted == truth.depicted == truth.resolved
        assert truth.cued == truth.ambiguous
        assert len(typed(pair)) == 2 * len(truth.depicted)
        several += len(truth.depicted) == 2
        for span in truth.depicted:
            (box,) = entities[span].boxes
            place = named_place(pair.words, *span)
            assert place is not None
            (item,) = (item for item in pair.objects if item.box == box)
            assert TYPE_OF[item.label] == entities[span].type
            assert [other for other in typed(pair) if lies_in(other.box, place)] == [item]
            row = [other for other in typed(pair) if len(truth.depicted) == 1 or lies_in(other.box, Place(place.row))]
            assert [TYPE_OF[other.label] for other in row] == [entities[span].type] * 2
    assert several > 20


def test_objects_are_not_linked_to_spans_and_their_order_and_scores_tell_nothing(default: Lookalikes) -> None:
    assert not any(item.span for pair in default.pairs for item in pair.objects)
    ranks = [
        [item.box for item in typed(pair)].index(entity.boxes[0])
        for pair in default.pairs
        for entity in pair.grounding or ()
        if entity.boxes and len(typed(pair)) == 2
    ]
    assert abs(sum(ranks) / len(ranks) - 0.5) < 3 * 0.5 / len(ranks) ** 0.5


def test_sentences_are_the_default_ones_with_cues(default: Lookalikes, tmp_path: Path) -> None:
    plain = Lookalikes(tmp_path, "train", sizes=(600, 1, 1), size=SIZE, progress=False)
    for pair, other in zip(default.pairs, plain.pairs, strict=True):
        left = iter(pair.words)
        assert all(word in left for word in other.words)  # in this order
        assert [tag for tag in pair.labels or () if tag != "O"] == [tag for tag in other.labels or () if tag != "O"]


def test_vocabulary_lists_every_word_of_grounded_posts(default: Lookalikes) -> None:
    words = set(vocabulary(grounded=True))
    assert words > set(vocabulary())
    for pair in default.pairs:
        assert words.issuperset(pair.words)
        assert words.issuperset((pair.caption or "").split())


def test_places_and_wordings_do_not_depend_on_names(default: Lookalikes) -> None:
    seen = {place: set() for place in WORDINGS}
    for pair in default.pairs:
        for span in default.truth[pair.id].ambiguous:
            place = named_place(pair.words, *span)
            assert place is not None
            seen[place].add(pair.words[slice(*span)])
    assert all(len(names) > 15 for names in seen.values())


def test_left_out_proposals_stay_gold(tmp_path: Path) -> None:
    data = Lookalikes(tmp_path, sizes=(60, 1, 1), size=SIZE, grounded=True, proposal_missing_ratio=1, progress=False)
    entities = [entity for pair in data.pairs for entity in pair.grounding or () if entity.boxes]
    assert len(entities) > 20
    for pair in data.pairs:
        assert not {item.box for item in pair.objects} & {box for item in pair.grounding or () for box in item.boxes}
        assert not data.truth[pair.id].proposed
        assert all(item.label in (pair.caption or "") for item in pair.objects)
    assert data.grounding_ceiling.gmner < data.grounding_ceiling.mner


def test_shares_of_cues_and_distractors(tmp_path: Path) -> None:
    settings = {"same_kind_distractors": 0.25, "cue_missing_ratio": 0.4}
    data = Lookalikes(tmp_path, sizes=(600, 1, 1), size=SIZE, grounded=True, progress=False, **settings)
    truths = data.truth.values()
    depicted = sum(len(truth.depicted) for truth in truths)
    assert sum(len(truth.distracted) for truth in truths) / depicted == pytest.approx(0.25, abs=0.07)
    single = [truth for truth in truths if len(truth.ambiguous) == 1]
    assert sum(not truth.cued for truth in single) / len(single) == pytest.approx(0.4, abs=0.07)
    assert all(truth.cued == truth.ambiguous for truth in truths if len(truth.ambiguous) == 2)
    for pair in data.pairs:
        spoken = {span for span in data.truth[pair.id].ambiguous if named_place(pair.words, *span)}
        assert spoken == data.truth[pair.id].cued


def test_misleading_images_have_no_gold_boxes(tmp_path: Path) -> None:
    data = Lookalikes(
        tmp_path,
        sizes=(120, 1, 1),
        size=SIZE,
        grounded=True,
        irrelevant_images_mislead=True,
        image_irrelevant_ratio=0.5,
        progress=False,
    )
    for pair in data.pairs:
        truth = data.truth[pair.id]
        assert {(item.start, item.end) for item in pair.grounding or () if item.boxes} == truth.resolved
        assert len(typed(pair)) == 2 * len(truth.depicted)
    assert data.grounding_ceiling.gmner < data.grounding_ceiling.eeg < 1


def test_other_lookalikes_have_no_boxes_and_no_ceiling_of_them(tmp_path: Path) -> None:
    data = Lookalikes(tmp_path, sizes=(3, 1, 1), size=SIZE, progress=False)
    assert data.pairs[0].grounding is None
    with pytest.raises(ValueError, match="give grounded=True"):
        _ = data.grounding_ceiling


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"same_kind_distractors": 1.5, "grounded": True}, "same_kind_distractors is a share, from 0 to 1, not 1.5"),
        ({"same_kind_distractors": 0.5}, "same_kind_distractors is a setting of grounded posts; give grounded=True"),
        ({"cue_missing_ratio": 0.5}, "cue_missing_ratio is a setting of grounded posts"),
        ({"proposal_missing_ratio": -0.5, "grounded": True}, "proposal_missing_ratio is a share"),
    ],
)
def test_invalid_settings_of_grounded_posts(tmp_path: Path, invalid: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, **invalid)


def test_folders_without_grounding_are_as_they_were(tmp_path: Path) -> None:
    raw = generate(tmp_path, seed=3, sizes=(30, 8, 12), irrelevant_images_mislead=True, progress=False)
    digest = hashlib.sha256()
    for path in sorted(raw.glob("*.*")):
        digest.update(path.name.encode() + path.read_bytes())
    # The checksum of the same folder written before grounded posts were added; images depend on Pillow's version.
    assert digest.hexdigest() == "6847742fbd37e75c9cccd75e51fc281bd7b60f99c141fa2b9666bdb13562f738"


def test_the_same_seed_gives_the_same_grounded_posts(tmp_path: Path) -> None:
    def files(name: str) -> dict[str, bytes]:
        raw = generate(tmp_path / name, sizes=(12, 2, 2), size=SIZE, grounded=True, seed=5, progress=False)
        return {str(path.relative_to(raw)): path.read_bytes() for path in raw.rglob("*") if path.is_file()}

    first = files("a")
    assert first == files("b")
    assert {"boxes.jsonl", "objects.jsonl"} <= first.keys()
    entries = [json.loads(line) for line in first["boxes.jsonl"].splitlines()]
    assert all(box["words"] and box["entity"] for entry in entries for box in entry["boxes"])
