"""Tag schemes, converted to BIO2 and back."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnergraph.data.formats.tag_schemes import (
    Scheme,
    TagConversion,
    TagSchemeError,
    detect_scheme,
    from_bio2,
    to_bio2,
)
from mnergraph.labels import spans_to_tags

SCHEMES: tuple[Scheme, ...] = get_args(Scheme)


@st.composite
def tags(draw: st.DrawFn) -> list[str]:
    """Valid BIO2 tags of a sentence."""
    lengths = draw(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["", "A", "B-x", "I"])), max_size=6))
    spans, at = [], 0
    for length, kind in lengths:
        spans += [(at, at + length, kind)] * bool(kind)
        at += length
    return spans_to_tags(spans, at)


@pytest.mark.parametrize("scheme", SCHEMES)
@given(sentence=tags())
def test_round_trip(scheme: Scheme, sentence: list[str]) -> None:
    conversion = TagConversion(scheme)
    assert to_bio2(from_bio2(sentence, scheme), conversion) == sentence
    assert (conversion.opened, conversion.unclosed) == (0, 0)


SENTENCE = ["B-A", "B-A", "I-A", "O", "B-B", "B-A", "I-A", "I-A"]


@pytest.mark.parametrize(
    ("scheme", "written"),
    [
        ("BIO2", ["B-A", "B-A", "I-A", "O", "B-B", "B-A", "I-A", "I-A"]),
        ("IOB1", ["I-A", "B-A", "I-A", "O", "I-B", "I-A", "I-A", "I-A"]),
        ("BIOES", ["S-A", "B-A", "E-A", "O", "S-B", "B-A", "I-A", "E-A"]),
        ("BILOU", ["U-A", "B-A", "L-A", "O", "U-B", "B-A", "I-A", "L-A"]),
        ("BMES", ["S-A", "B-A", "E-A", "O", "S-B", "B-A", "M-A", "E-A"]),
    ],
)
def test_the_schemes(scheme: Scheme, written: list[str]) -> None:
    assert from_bio2(SENTENCE, scheme) == written
    assert detect_scheme([written]) == scheme
    assert to_bio2(written, TagConversion(scheme)) == SENTENCE


def test_what_was_converted_is_one_line() -> None:
    conversion = TagConversion("BIOES")
    assert to_bio2(["S-A", "E-A", "B-A", "O", "I-B"], conversion) == ["B-A", "B-A", "B-A", "O", "B-B"]
    assert str(conversion) == (
        "tags of BIOES converted to BIO2: 1 E- to B-, 1 I- to B-, 1 S- to B-; "
        "2 tags that continue no entity begin one; 2 entities have no tag of an end"
    )
    assert str(TagConversion("BIO2")) == "tags of BIO2 converted to BIO2: no tag differs"


def test_orphan_inside_tags_of_bio2_stay() -> None:
    assert detect_scheme([["I-A", "O", "B-A"]]) == "BIO2"
    assert to_bio2(["I-A", "O", "B-A"], TagConversion("BIO2")) == ["I-A", "O", "B-A"]


@pytest.mark.parametrize(
    ("found", "fault"),
    [
        (["L-A", "M-A"], "prefixes 'L', 'M' are of no one scheme"),
        (["B_A"], "'B_A' is no tag"),
        (["noun"], "'noun' is no tag"),
        (["B-"], "'B-' is no tag"),
    ],
)
def test_no_scheme(found: list[str], fault: str) -> None:
    with pytest.raises(TagSchemeError, match=fault):
        detect_scheme([found])


def test_a_tag_of_another_scheme() -> None:
    with pytest.raises(TagSchemeError, match="'E-A' is no tag of BIO2; right is O, or one of B, I"):
        to_bio2(["B-A", "E-A"], TagConversion("BIO2"))
    with pytest.raises(TagSchemeError, match="'E-A' is no tag of BIO2"):
        from_bio2(["E-A"], "BMES")
