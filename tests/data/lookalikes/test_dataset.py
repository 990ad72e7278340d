"""Lookalikes: the words leave the types of names open, the images settle them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mnergraph.data.lookalikes.dataset import Lookalikes, vocabulary
from mnergraph.data.lookalikes.grammar import NAMES, TYPES
from mnergraph.data.lookalikes.sketches import NEUTRAL, TYPED_CLASSES
from mnergraph.labels import Span, tags_to_spans
from mnergraph.pair import Pair

Made = dict[str, Lookalikes]
TYPE_OF = {label: kind for kind, labels in TYPED_CLASSES.items() for label in labels}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The default benchmark, in small images."""
    folder = tmp_path_factory.mktemp("lookalikes")
    return {name: Lookalikes(folder, name, size=64) for name in ("train", "valid", "test")}


def ambiguous(data: Lookalikes) -> list[tuple[Pair, Span]]:
    """Every ambiguous name with its post."""
    known = data.truth
    return [(p, s) for p in data.pairs for s in tags_to_spans(p.labels or ()) if s[:2] in known[p.id].ambiguous]


def test_splits_have_their_sizes_and_ids_of_their_own(made: Made) -> None:
    pairs = [made[name].pairs for name in ("train", "valid", "test")]
    assert [len(posts) for posts in pairs] == [1600, 200, 400]
    assert len({pair.id for posts in pairs for pair in posts}) == 2200


def test_shares_of_pictures_are_exact(made: Made) -> None:
    data = made["train"]
    pictured = [pair for pair in data.pairs if pair.image_path]
    assert len(pictured) == 1440
    silent = sum(bool(data.truth[p.id].ambiguous) and not data.truth[p.id].resolved for p in pictured)
    assert 80 < silent < 144  # a tenth of 1440, less those without an ambiguous name


def test_images_agree_with_the_ground_truth(made: Made) -> None:
    data = made["train"]
    for pair in data.pairs:
        known = data.truth[pair.id]
        message = {s.type for s in tags_to_spans(pair.labels or ()) if s[:2] in known.resolved}
        assert {TYPE_OF[o.label] for o in pair.objects if o.label in TYPE_OF} == message
        grounded = {o.span: TYPE_OF[o.label] for o in pair.objects if o.span}
        assert all(Span(*words, kind) in tags_to_spans(pair.labels or ()) for words, kind in grounded.items() if words)
        assert len(known.resolved) < 2 or len(grounded) == 2
        assert all(o.label in NEUTRAL or o.label in TYPE_OF for o in pair.objects)
        assert bool(pair.objects) == bool(pair.image_path) == bool(pair.caption)
        assert all(0.6 <= o.score <= 0.99 for o in pair.objects)
        assert all(o.label in (pair.caption or "") for o in pair.objects)


def test_vocabulary_lists_every_word(made: Made) -> None:
    words = set(vocabulary())
    for name in ("train", "test"):
        for pair in made[name].pairs:
            assert words.issuperset(pair.words)
            assert words.issuperset((pair.caption or "").split())
            assert all(words.issuperset(o.label.split()) for o in pair.objects)


def test_names_are_words_of_their_own(made: Made) -> None:
    assert 40 <= len(NAMES) <= 60
    in_names = {word for name in NAMES for word in name.split()}
    for pair in made["train"].pairs:
        outside = {word for word, tag in zip(pair.words, pair.labels or (), strict=True) if tag == "O"}
        assert not outside & in_names


def test_types_are_balanced_for_every_name(made: Made) -> None:
    counts = Counter((p.words[s.start : s.end], s.type) for p, s in ambiguous(made["train"]))
    for name in NAMES:
        observed = [counts[tuple(name.split()), kind] for kind in TYPES]
        assert max(observed) - min(observed) <= 1


@pytest.mark.parametrize("features", ["name", "words", "place"])
def test_words_do_not_determine_the_type(made: Made, features: str) -> None:
    read: dict[str, Callable[[Pair, Span], str]] = {
        "name": lambda p, s: "_".join(p.words[s.start : s.end]),
        "words": lambda p, s: " ".join(p.words),
        "place": lambda p, s: f"at{s.start} of{len(p.words)} {' '.join(p.words[max(0, s.start - 2) : s.end + 2])}",
    }
    train, test = ambiguous(made["train"]), ambiguous(made["test"])
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=2000))
    model.fit([read[features](p, s) for p, s in train], [s.type for _, s in train])
    score = model.score([read[features](p, s) for p, s in test], [s.type for _, s in test])
    assert abs(score - 1 / 4) < 3 * (3 / 16 / len(test)) ** 0.5


def test_objects_determine_the_type(made: Made) -> None:
    def seen(pair: Pair, span: Span) -> str:
        return " ".join(o.label.replace(" ", "_") for o in pair.objects if o.span in (None, span[:2])) or "none"

    data = made["test"]
    train, test = ambiguous(made["train"]), ambiguous(data)
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=2000, C=10))
    model.fit([seen(p, s) for p, s in train], [s.type for _, s in train])
    right = (model.predict([seen(p, s) for p, s in test]) == [s.type for _, s in test]).sum()
    entities = sum(len(tags_to_spans(pair.labels or ())) for pair in data.pairs)
    reached = (entities - len(test) + right) / entities
    assert abs(reached - data.image_ceiling.accuracy) < 3 * data.image_ceiling.spread
    assert data.image_ceiling.accuracy > data.ceiling.best_constant + 0.3


def test_ceilings_are_those_of_the_counts(made: Made) -> None:
    data = made["test"]
    unsure = len(ambiguous(data))
    sure = sum(len(tags_to_spans(pair.labels or ())) for pair in data.pairs) - unsure
    assert data.ceiling.accuracy == data.ceiling.f1 == (sure + unsure / 4) / (sure + unsure)
    assert data.ceiling.accuracy <= data.ceiling.best_constant < data.ceiling.accuracy + 3 * data.ceiling.spread


@pytest.mark.parametrize("misleading", [False, True])
def test_irrelevant_pictures_lift_no_ceiling(tmp_path: Path, misleading: bool) -> None:
    def test_split(name: str, irrelevant: float) -> Lookalikes:
        return Lookalikes(
            tmp_path / name,
            "test",
            sizes=(1, 1, 120),
            image_irrelevant_ratio=irrelevant,
            size=64,
            irrelevant_images_mislead=misleading,
        )

    usual, all_irrelevant = test_split("usual", 0.1), test_split("irrelevant", 1.0)
    assert usual.image_ceiling.accuracy > usual.ceiling.best_constant + 0.2
    assert all_irrelevant.image_ceiling == all_irrelevant.ceiling == usual.ceiling
    assert [pair.words for pair in usual.pairs] == [pair.words for pair in all_irrelevant.pairs]
    assert any(o.label in TYPE_OF for pair in all_irrelevant.pairs for o in pair.objects) == misleading
