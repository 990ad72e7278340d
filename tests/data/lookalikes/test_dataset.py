"""Lookalikes: the images determine the types of ambiguous names, the words do not."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from mnergraph.data.lookalikes.dataset import Lookalikes, vocabulary
from mnergraph.data.lookalikes.grammar import AMBIGUOUS_NAMES, TYPES
from mnergraph.data.lookalikes.sketches import NEUTRAL, TYPED_CLASSES
from mnergraph.labels import Span, tags_to_spans
from mnergraph.pair import Pair

Splits = dict[str, Lookalikes]
TYPE_OF = {label: entity_type for entity_type, labels in TYPED_CLASSES.items() for label in labels}


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> Splits:
    """Return the splits of the default benchmark with small images."""
    folder = tmp_path_factory.mktemp("lookalikes")
    return {name: Lookalikes(folder, name, size=64) for name in ("train", "valid", "test")}


def ambiguous(data: Lookalikes) -> list[tuple[Pair, Span]]:
    """Return every ambiguous name with its post."""
    truth = data.truth
    return [(p, s) for p in data.pairs for s in tags_to_spans(p.labels or ()) if s[:2] in truth[p.id].ambiguous]


def test_splits_have_their_sizes_and_disjoint_ids(splits: Splits) -> None:
    pairs = [splits[name].pairs for name in ("train", "valid", "test")]
    assert [len(posts) for posts in pairs] == [1600, 200, 400]
    assert len({pair.id for posts in pairs for pair in posts}) == 2200


def test_shares_of_images_are_exact(splits: Splits) -> None:
    data = splits["train"]
    with_image = [pair for pair in data.pairs if pair.image_path]
    assert len(with_image) == 1440
    num_unresolved = sum(bool(data.truth[p.id].ambiguous) and not data.truth[p.id].resolved for p in with_image)
    assert 80 < num_unresolved < 144  # a tenth of 1440, less those without an ambiguous name


def test_images_agree_with_the_ground_truth(splits: Splits) -> None:
    data = splits["train"]
    for pair in data.pairs:
        truth = data.truth[pair.id]
        resolved_types = {s.type for s in tags_to_spans(pair.labels or ()) if s[:2] in truth.resolved}
        assert {TYPE_OF[o.label] for o in pair.objects if o.label in TYPE_OF} == resolved_types
        grounded = {o.span: TYPE_OF[o.label] for o in pair.objects if o.span}
        assert all(
            Span(*span, entity_type) in tags_to_spans(pair.labels or ())
            for span, entity_type in grounded.items()
            if span
        )
        assert len(truth.resolved) < 2 or len(grounded) == 2
        assert all(o.label in NEUTRAL or o.label in TYPE_OF for o in pair.objects)
        assert bool(pair.objects) == bool(pair.image_path) == bool(pair.caption)
        assert all(0.6 <= o.score <= 0.99 for o in pair.objects)
        assert all(o.label in (pair.caption or "") for o in pair.objects)


def test_vocabulary_lists_every_word(splits: Splits) -> None:
    words = set(vocabulary())
    for name in ("train", "test"):
        for pair in splits[name].pairs:
            assert words.issuperset(pair.words)
            assert words.issuperset((pair.caption or "").split())
            assert all(words.issuperset(o.label.split()) for o in pair.objects)


def test_words_of_names_occur_only_in_names(splits: Splits) -> None:
    assert 40 <= len(AMBIGUOUS_NAMES) <= 60
    in_names = {word for name in AMBIGUOUS_NAMES for word in name.split()}
    for pair in splits["train"].pairs:
        outside = {word for word, tag in zip(pair.words, pair.labels or (), strict=True) if tag == "O"}
        assert not outside & in_names


def test_types_are_balanced_for_every_name(splits: Splits) -> None:
    counts = Counter((p.words[s.start : s.end], s.type) for p, s in ambiguous(splits["train"]))
    for name in AMBIGUOUS_NAMES:
        observed = [counts[tuple(name.split()), entity_type] for entity_type in TYPES]
        assert max(observed) - min(observed) <= 1


@pytest.mark.parametrize("features", ["name", "words", "position"])
def test_words_do_not_determine_the_type(splits: Splits, features: str) -> None:
    texts: dict[str, Callable[[Pair, Span], str]] = {
        "name": lambda p, s: "_".join(p.words[s.start : s.end]),
        "words": lambda p, s: " ".join(p.words),
        "position": lambda p, s: f"at{s.start} of{len(p.words)} {' '.join(p.words[max(0, s.start - 2) : s.end + 2])}",
    }
    train, test = ambiguous(splits["train"]), ambiguous(splits["test"])
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=2000))
    model.fit([texts[features](p, s) for p, s in train], [s.type for _, s in train])
    score = model.score([texts[features](p, s) for p, s in test], [s.type for _, s in test])
    assert abs(score - 1 / 4) < 3 * (3 / 16 / len(test)) ** 0.5


def test_objects_determine_the_type(splits: Splits) -> None:
    def labels(pair: Pair, span: Span) -> str:
        return " ".join(o.label.replace(" ", "_") for o in pair.objects if o.span in (None, span[:2])) or "none"

    data = splits["test"]
    train, test = ambiguous(splits["train"]), ambiguous(data)
    model = make_pipeline(CountVectorizer(token_pattern=r"\S+"), LogisticRegression(max_iter=2000, C=10))
    model.fit([labels(p, s) for p, s in train], [s.type for _, s in train])
    correct = (model.predict([labels(p, s) for p, s in test]) == [s.type for _, s in test]).sum()
    entities = sum(len(tags_to_spans(pair.labels or ())) for pair in data.pairs)
    accuracy = (entities - len(test) + correct) / entities
    assert abs(accuracy - data.image_ceiling.accuracy) < 3 * data.image_ceiling.spread
    assert data.image_ceiling.accuracy > data.ceiling.best_constant + 0.3


def test_ceilings_follow_from_the_counts(splits: Splits) -> None:
    data = splits["test"]
    num_ambiguous = len(ambiguous(data))
    num_plain = sum(len(tags_to_spans(pair.labels or ())) for pair in data.pairs) - num_ambiguous
    assert data.ceiling.accuracy == data.ceiling.f1 == (num_plain + num_ambiguous / 4) / (num_plain + num_ambiguous)
    assert data.ceiling.accuracy <= data.ceiling.best_constant < data.ceiling.accuracy + 3 * data.ceiling.spread


@pytest.mark.parametrize("misleading", [False, True])
def test_irrelevant_images_do_not_raise_the_ceiling(tmp_path: Path, misleading: bool) -> None:
    def test_split(name: str, irrelevant: float) -> Lookalikes:
        return Lookalikes(
            tmp_path / name,
            "test",
            sizes=(1, 1, 120),
            image_irrelevant_ratio=irrelevant,
            size=64,
            irrelevant_images_mislead=misleading,
        )

    default, all_irrelevant = test_split("default", 0.1), test_split("irrelevant", 1.0)
    assert default.image_ceiling.accuracy > default.ceiling.best_constant + 0.2
    assert all_irrelevant.image_ceiling == all_irrelevant.ceiling == default.ceiling
    assert [pair.words for pair in default.pairs] == [pair.words for pair in all_irrelevant.pairs]
    assert any(o.label in TYPE_OF for pair in all_irrelevant.pairs for o in pair.objects) == misleading
