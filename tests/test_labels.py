"""Tags and spans, against their definitions."""

from __future__ import annotations

import itertools
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mnergraph.labels import (
    LabelSet,
    Span,
    fix_bio,
    invalid_inside_tags,
    is_tag,
    span_label,
    spans_to_tags,
    tags_to_spans,
)

TAGS = ("O", "B-A", "I-A", "B-B", "I-B")


def plain_spans(tags: tuple[str, ...], *, strict: bool) -> list[Span]:
    """Every start and end tried: a span begins where it may and runs as far as I-T does."""
    found = []
    for start, tag in enumerate(tags):
        kind = tag[2:]
        continues = start > 0 and tags[start - 1][2:] == kind and tags[start - 1] != "O"
        if not (tag.startswith("B-") or (tag.startswith("I-") and not continues and not strict)):
            continue
        end = start + 1
        while end < len(tags) and tags[end] == f"I-{kind}":
            end += 1
        found.append(Span(start, end, kind))
    return found


@pytest.mark.parametrize("strict", [False, True])
def test_spans_of_every_short_sequence(strict: bool) -> None:
    for length in range(5):
        for tags in itertools.product(TAGS, repeat=length):
            assert tags_to_spans(tags, strict=strict) == plain_spans(tags, strict=strict), tags


def test_lenient_spans_are_seqevals() -> None:
    from seqeval.metrics.sequence_labeling import get_entities

    for tags in itertools.product(TAGS, repeat=5):
        assert tags_to_spans(tags) == [(start, end + 1, kind) for kind, start, end in get_entities(list(tags))], tags


@given(st.lists(st.sampled_from(TAGS), max_size=12))
def test_round_trip_and_repair(tags: list[str]) -> None:
    repaired = fix_bio(tags)
    assert invalid_inside_tags(repaired) == []
    assert tags_to_spans(repaired) == tags_to_spans(repaired, strict=True) == tags_to_spans(tags)
    assert spans_to_tags(tags_to_spans(tags), len(tags)) == repaired
    assert (repaired == tags) == (not invalid_inside_tags(tags))


def test_invalid_inside_tags() -> None:
    assert invalid_inside_tags(["I-A", "I-A", "O", "I-B", "B-A", "I-B"]) == [0, 3, 5]
    assert fix_bio(["I-A", "I-A", "O", "B-B", "I-A"]) == ["B-A", "I-A", "O", "B-B", "B-A"]


def test_is_tag_and_boundary() -> None:
    assert [is_tag(tag) for tag in ("O", "B-PER", "I-x", "B-", "I", "X", "", "E-PER", "o")] == (
        [True, True, True] + [False] * 6
    )
    assert [span_label(tag) for tag in ("O", "B-PER", "I-LOC", "X", "[CLS]")] == ["O", "B", "I", "X", "[CLS]"]


@pytest.mark.parametrize("span", [(-1, 1, "A"), (1, 1, "A"), (2, 1, "A"), (0, 4, "A")])
def test_spans_that_do_not_fit(span: tuple[int, int, str]) -> None:
    with pytest.raises(ValueError, match=rf"span {span[0]}:{span[1]} \(A\) does not fit a sentence of 3 words"):
        spans_to_tags([span], 3)


def test_spans_that_overlap() -> None:
    with pytest.raises(ValueError, match=r"span 1:3 \(B\) overlaps another span"):
        spans_to_tags([(0, 2, "A"), (1, 3, "B")], 3)


def test_labels() -> None:
    labels = LabelSet.from_types(["PER", "LOC"])
    assert list(labels) == ["O", "B-PER", "I-PER", "B-LOC", "I-LOC"]
    assert [labels.index(tag) for tag in labels] == list(range(len(labels)))
    assert labels.types == ("PER", "LOC")
    assert LabelSet(("O", "X", "I-B", "B-A", "B-B")).types == ("B", "A")
    assert LabelSet.from_data([["O", "B-PER"], ["I-LOC"], []]) == LabelSet.from_types(["LOC", "PER"])
    assert pickle.loads(pickle.dumps(labels)).index("B-LOC") == 3


def test_boundaries() -> None:
    assert LabelSet.from_types(["PER", "LOC"]).span_labels.tags == ("O", "B", "I")
    assert LabelSet(("I-A", "X", "B-A", "O", "B-B", "[CLS]", "I-B")).span_labels.tags == (
        "I",
        "X",
        "B",
        "O",
        "[CLS]",
    )
    assert LabelSet(("O",)).span_labels.tags == ("O",)
    assert LabelSet.from_types(["A"]).span_labels.span_labels == LabelSet.from_types(["A"]).span_labels


def test_label_errors() -> None:
    with pytest.raises(ValueError, match="labels must be unique, but one occurs twice in"):
        LabelSet(("O", "B-A", "O"))
    with pytest.raises(KeyError, match="'B-ORG' is not among the labels O, B-PER, I-PER"):
        LabelSet.from_types(["PER"]).index("B-ORG")
