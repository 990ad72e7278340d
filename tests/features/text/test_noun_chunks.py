import sys
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnergraph.features.text.noun_chunks import (
    CAPTION_VERBS,
    CLOSED_CLASS_WORDS,
    DETERMINERS,
    RuleChunker,
    SpacyChunker,
    phrase_labels,
)


@pytest.mark.parametrize(
    ("caption", "labels"),
    [
        ("a soccer player in action on the field", "soccer player|action|field"),
        ("a man is standing in front of a ferris wheel", "man|ferris wheel"),
        ("a smiling man standing next to the building", "smiling man|building"),
        ("a hockey team sitting in the stands watching the game", "hockey team|stands|game"),
        ("lady gaga's thank you letter to her fans", "lady gaga's thank|letter|fans"),
        ("a television is on in a living room", "television|living room"),
        ("two men with beards and one with a beard", "two men|beards|beard"),
        ("a man and another man", "man"),
        ("yellow t - shirt, blue - <unk> car", "yellow t-shirt|blue|car"),
        ("a 'little diva'", "little diva"),
        ("on the", ""),
        ("", ""),
    ],
)
def test_labels_of_captions(caption: str, labels: str) -> None:
    assert "|".join(phrase_labels(caption, RuleChunker())) == labels


def test_a_sentence_with_separate_apostrophes() -> None:
    words = ["Kevin", "Love", "'", "s", "19", "Pts", "are", "the", "most"]
    assert RuleChunker()(words) == [(0, 6), (7, 9)]


@given(st.lists(st.sampled_from(["man", "the", "a", "of", "walking", "stands", "'s", "!", "<unk>", "front", "in"])))
def test_spans_are_in_order_disjoint_and_have_a_noun(words: list[str]) -> None:
    found = RuleChunker()(words)
    assert all(0 <= start < end <= len(words) for start, end in found)
    assert all(before[1] <= after[0] for before, after in pairwise(found))
    assert all(set(words[start:end]) - DETERMINERS for start, end in found)


def test_word_lists_are_disjoint() -> None:
    assert not DETERMINERS & CLOSED_CLASS_WORDS
    assert not DETERMINERS & CAPTION_VERBS
    assert not CLOSED_CLASS_WORDS & CAPTION_VERBS


def test_missing_spacy_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy", None)
    with pytest.raises(ImportError, match=r"pip install 'mnergraph\[phrases\]', or use RuleChunker"):
        SpacyChunker()


def test_missing_spacy_model_is_an_import_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = ModuleType("spacy")

    def load(name: str, exclude: list[str]) -> None:
        raise OSError(f"[E050] Can't find model {name!r}")

    fake.load = load  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "spacy", fake)
    with pytest.raises(ImportError, match="python -m spacy download en_core_web_sm, or use RuleChunker"):
        SpacyChunker()


def train_pipeline(folder: Path) -> Path:
    """Train a spaCy parser on one sentence, save the pipeline, and return its folder."""
    spacy = pytest.importorskip("spacy", reason="needs spaCy, an extra: pip install 'mnergraph[phrases]'")
    from spacy.training import Example

    pipeline = spacy.blank("en")
    pipeline.add_pipe("morphologizer")
    pipeline.add_pipe("parser", config={"min_action_freq": 1})
    annotations = {
        "heads": [2, 2, 2, 2, 5, 3],
        "deps": ["det", "compound", "ROOT", "prep", "det", "pobj"],
        "pos": ["DET", "NOUN", "NOUN", "ADP", "DET", "NOUN"],
    }
    examples = [Example.from_dict(pipeline.make_doc("a soccer player on the field"), annotations)]
    optimizer = pipeline.initialize(lambda: examples)
    for _ in range(30):
        pipeline.update(examples, sgd=optimizer)
    pipeline.to_disk(folder)
    return folder


def test_spacys_noun_chunks(tmp_path: Path) -> None:
    chunker = SpacyChunker(str(train_pipeline(tmp_path / "pipeline")))
    words = ["a", "soccer", "player", "on", "the", "field"]
    assert chunker(words) == [(0, 3), (4, 6)]
    assert phrase_labels(" ".join(words), chunker) == ["soccer player", "field"]
    assert chunker([]) == []
