"""Results as spaCy's documents: the text to the character, entities with what is known of them."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mnergraph import LabelSet, Pair, pipeline, tiny_encoder
from mnergraph.inference import NERResult, to_displacy, to_spacy
from mnergraph.inference.spacy_docs import _tokens
from mnergraph.models import BERTCRF
from mnergraph.pair import DetectedObject

spacy = pytest.importorskip("spacy", reason="the extra phrases is not installed")
MODEL = BERTCRF(tiny_encoder(), LabelSet.from_types(["PER", "LOC"]))
#: Doubled spaces, a line break, an emoji of several code points, combining marks, right-to-left words.
TEXTS = ("Ann  Lee\nsang 👩‍🚀 here ", "  José vive", "שלום Ann", "a", "Ann,Lee:x")


def result_of(text: str, *entities: dict[str, object]) -> NERResult:
    pair = pipeline(MODEL)(text).pair
    return NERResult(entities, pair=pair, model=MODEL, reader=None)


@pytest.mark.parametrize("text", TEXTS)
def test_the_document_has_the_text_and_its_words(text: str) -> None:
    found = pipeline(MODEL)(text)
    doc = to_spacy(found)
    assert doc.text == text == found.text
    assert [token.text for token in doc if not token.is_space] == [text[a:b] for a, b in found.pair.word_offsets]
    assert [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] == [
        (entity["start"], entity["end"], entity["label"]) for entity in found
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.text(" \n\t", max_size=3), st.text("aé👩,", min_size=1, max_size=4))),
    st.text(" \n", max_size=3),
)
def test_tokens_join_to_the_text(parts: list[tuple[str, str]], tail: str) -> None:
    text, offsets = "", []
    for gap, word in parts:
        offsets.append((len(text) + len(gap), len(text) + len(gap) + len(word)))
        text += gap + word
    text += tail
    words, spaces, places = _tokens(text, offsets)
    doc = spacy.tokens.Doc(spacy.vocab.Vocab(), words=words, spaces=spaces)
    assert doc.text == text
    assert [doc[place].text for place in places] == [word for _, word in parts]
    assert [doc[place].idx for place in places] == [start for start, _ in offsets]


def test_entities_have_score_and_boxes() -> None:
    entity = {"word": "Ann Lee", "entity_group": "PER", "score": 0.75, "start": 0, "end": 8, "word_start": 0}
    entity |= {"word_end": 2, "box": (1.0, 2.0, 3.0, 4.0), "box_label": "woman", "box_probability": 0.5}
    other = {
        "word": "here",
        "entity_group": "LOC",
        "score": 0.25,
        "start": 18,
        "end": 22,
        "word_start": 4,
        "word_end": 5,
    }
    nlp = spacy.blank("en")
    result = result_of(TEXTS[0], entity, other)
    doc = to_spacy(result, nlp.vocab)
    assert doc.vocab is nlp.vocab
    first, second = doc.ents
    assert (first.text, first.label_, second.text, second.label_) == ("Ann  Lee", "PER", "here", "LOC")
    assert (first._.score, first._.box, first._.box_label, first._.box_probability) == (
        0.75,
        (1.0, 2.0, 3.0, 4.0),
        "woman",
        0.5,
    )
    assert (second._.score, second._.box, second._.attention_box) == (0.25, None, None)
    assert to_displacy(result) == {
        "text": TEXTS[0],
        "ents": [{"start": 0, "end": 8, "label": "PER"}, {"start": 18, "end": 22, "label": "LOC"}],
        "title": None,
    }
    assert [ent["label"] for ent in to_displacy(result, scores=True)["ents"]] == ["PER 0.75", "LOC 0.25"]
    drawn = spacy.displacy.render(to_displacy(result), style="ent", manual=True, jupyter=False)
    assert drawn.count("<mark") == 2


def test_words_without_a_text_and_a_post_with_an_error() -> None:
    pair = Pair(("Ann", "sang"), objects=(DetectedObject("woman"),))
    assert to_spacy(pipeline(MODEL)(pair)).text == "Ann sang"
    failed = NERResult([], pair=pair, model=MODEL, reader=None, error="the image can't be read")
    doc = to_spacy(failed)
    assert (doc.ents, doc._.mnergraph_error) == ((), "the image can't be read")


def test_without_spacy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "spacy.tokens", None)
    with pytest.raises(ImportError, match=r"to_spacy needs spaCy: pip install 'mnergraph\[phrases\]'"):
        to_spacy(result_of("a"))
