"""What a report says above its posts, against the scores that are computed elsewhere."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from fakes import post

from mnergraph.explain.report import report_data, summarize
from mnergraph.explain.report.summary import BINS, model_facts
from mnergraph.labels import Entity, Span, spans_to_tags, tags_to_spans
from mnergraph.metrics.errors import ERROR_KINDS, classify_errors
from mnergraph.metrics.scores import score
from mnergraph.models import UMGF
from mnergraph.pair import Pair


def random_tags(generator: random.Random, length: int) -> list[str]:
    spans, at = [], 0
    while at < length:
        end = min(length, at + generator.randint(1, 3))
        if generator.random() < 0.5:
            spans.append(Span(at, end, generator.choice(["PER", "LOC", "ORG"])))
        at = end
    return spans_to_tags(spans, length)


def test_numbers_equal_the_scores() -> None:
    generator = random.Random(0)
    gold = [random_tags(generator, 12) for _ in range(80)]
    # half of the posts are predicted right
    predicted = [tags if generator.random() < 0.5 else random_tags(generator, 12) for tags in gold]
    pairs = [Pair(tuple("abcdefghijkl"), tuple(tags)) for tags in gold]
    entities = [
        [Entity(span.start, span.end, span.type, generator.random()) for span in tags_to_spans(tags)]
        for tags in predicted
    ]
    summary = summarize(pairs, entities).to_dict()
    expected = score(gold, predicted)
    by_type = {"all": expected.lenient, **expected.lenient_by_type}
    assert [row[0] for row in summary["scores"]] == ["all", "LOC", "ORG", "PER"]
    for name, *numbers in summary["scores"]:
        of = by_type[name]
        assert numbers == pytest.approx([of.precision, of.recall, of.f1, of.gold], abs=1e-6)
    kinds: Counter[str] = Counter()
    with_errors = 0
    for known, found in zip(gold, predicted, strict=True):
        gold_errors, predicted_errors = classify_errors(tags_to_spans(known), tags_to_spans(found))
        kinds.update(gold_errors)
        kinds["spurious"] += predicted_errors.count("spurious")
        with_errors += {*gold_errors, *predicted_errors} - {"right"} != set()
    assert summary["errors"] == {kind: kinds[kind] for kind in ERROR_KINDS}
    assert all(summary["errors"].values())
    assert (summary["posts"], summary["labelled"], summary["with_errors"]) == (80, 80, with_errors)
    counted = Counter(min(BINS - 1, int(entity.score * BINS)) for post in entities for entity in post)
    confidence = summary["confidence"]
    assert [sum(both) for both in zip(confidence["right"], confidence["wrong"], strict=True)] == [
        counted[number] for number in range(BINS)
    ]
    assert sum(confidence["right"]) == kinds["right"]
    assert not any(confidence["unknown"])


def test_posts_without_gold() -> None:
    summary = summarize([Pair(("a", "b"))], [[Entity(0, 1, "PER", 1.0), Entity(1, 2, "PER", 0.05)]]).to_dict()
    assert summary["scores"] == []
    assert summary["confidence"]["unknown"] == [1, *[0] * 8, 1]
    assert (summary["posts"], summary["labelled"], summary["without_image"]) == (1, 0, 1)


def test_a_report_summarizes_its_posts_or_those_given(umgf: Callable[[], UMGF]) -> None:
    model, pairs = umgf(), [post(5, 3, seed=1), post(4, 1, seed=2)]
    model.metadata = {"data": {"name": "Twitter2017"}}
    content = report_data(model, pairs)
    expected = summarize(pairs, model.predict(pairs)).to_dict()
    assert content["summary"] == expected
    other = summarize([Pair(("a",), ("O",))] * 9, [[]] * 9)
    given = report_data(model, pairs, summary=other, facts=[("data", "Twitter2017, test")])
    assert given["summary"]["posts"] == 9
    assert given["facts"][-1] == ["data", "Twitter2017, test"]
    facts = dict(model_facts(model))
    assert facts["model"] == "UMGF"
    assert facts["trained on"] == "Twitter2017"
    assert facts["text encoder"] == "tiny-random"
