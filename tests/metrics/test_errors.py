"""Errors by kind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mnergraph.data.formats.conll import read_conll
from mnergraph.labels import Span, tags_to_spans
from mnergraph.metrics.errors import ERROR_KINDS, classify_errors, count_errors


def test_every_kind() -> None:
    gold = [Span(0, 2, "PER"), Span(3, 4, "LOC"), Span(5, 7, "ORG"), Span(9, 10, "PER"), Span(11, 13, "LOC")]
    predicted = [Span(0, 2, "PER"), Span(3, 4, "ORG"), Span(6, 8, "ORG"), Span(8, 9, "LOC"), Span(12, 13, "PER")]
    assert classify_errors(gold, predicted) == (
        ["right", "type", "boundary", "missed", "both"],
        ["right", "type", "boundary", "spurious", "both"],
    )
    assert classify_errors([], []) == ([], [])


def test_an_overlap_of_the_same_type_is_a_boundary_error_whatever_else_overlaps() -> None:
    gold = [Span(0, 4, "PER")]
    assert classify_errors(gold, [Span(0, 1, "LOC"), Span(2, 4, "PER")]) == (["boundary"], ["both", "boundary"])
    assert classify_errors(gold, [Span(0, 4, "LOC"), Span(0, 4, "PER")]) == (["right"], ["type", "right"])


def test_counts_table_and_json() -> None:
    gold = [["B-PER", "I-PER", "O"], ["B-LOC", "O", "B-PER"], ["O"]]
    predicted = [["B-PER", "B-PER", "O"], ["B-ORG", "O", "O"], ["B-LOC"]]
    found = count_errors(gold, predicted)
    assert found.gold["PER"] == {"right": 0, "boundary": 1, "type": 0, "both": 0, "missed": 1}
    assert found.predicted["PER"] == {"right": 0, "boundary": 2, "type": 0, "both": 0, "spurious": 0}
    assert found.table().splitlines() == [
        "| type | gold | right | boundary | type | both | missed | predicted | spurious |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
        "| all | 3 | 0 | 1 | 1 | 0 | 1 | 4 | 1 |",
        "| LOC | 1 | 0 | 0 | 1 | 0 | 0 | 1 | 1 |",
        "| ORG | 0 | 0 | 0 | 0 | 0 | 0 | 1 | 0 |",
        "| PER | 2 | 0 | 1 | 0 | 0 | 1 | 2 | 0 |",
    ]
    assert json.loads(json.dumps(found.to_dict())) == {"gold": found.gold, "predicted": found.predicted}
    assert count_errors([["O"]], [["O"]]).types == []


def test_every_entity_is_counted_once(shared: Path) -> None:
    gold = [list(pair.labels or ()) for pair in read_conll(shared / "twitter2017" / "test.txt")]
    moved = [tags[-1:] + tags[:-1] for tags in gold]
    found = count_errors(gold, moved)
    for counted, tags in ((found.gold_total, gold), (found.predicted_total, moved)):
        assert sum(counted.values()) == sum(len(tags_to_spans(each)) for each in tags)
    assert min(found.gold_total[kind] + found.predicted_total.get(kind, 0) for kind in ERROR_KINDS[:4]) > 0
    right = sum(
        len(set(tags_to_spans(one)) & set(tags_to_spans(other))) for one, other in zip(gold, moved, strict=True)
    )
    assert found.gold_total["right"] == found.predicted_total["right"] == right
    with pytest.raises(ValueError, match="2 sentences of gold tags, 1 of predicted ones"):
        count_errors([["O"], ["O"]], [["O"]])
