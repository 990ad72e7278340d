"""Span head: gold spans, loss, decoding and probabilities against plain loops, and a stack of one's own with it."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from fakes import LABELS, SCHEMA, awkward_posts, make_builder, post, without_objects
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from mnergraph.explain import occlusion
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import GraphBuilder, Schema, Tokens, collate
from mnergraph.inference.predictor import Predictor
from mnergraph.labels import SPECIAL_TAGS, Entity, LabelSet, Span, tags_to_spans
from mnergraph.models import Tagger
from mnergraph.nn import SpanHead, TaggingScores, TextEncoder
from mnergraph.nn.heads.spans import GoldSpans, best_disjoint, paired_ends, span_probability
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair
from mnergraph.training import OptimizerConfig, TrainerConfig, evaluate, fit

TAG = st.sampled_from(LABELS.tags)
PROBABILITY = st.floats(0.0, 1.0)


def graph_of(posts: Sequence[Pair], labels: LabelSet = LABELS, unit: str = "words") -> GraphState:
    builder = make_builder(SCHEMA, labels=labels, tokenizer=tiny_encoder().tokenizer, tokens=unit)
    return GraphState.from_batch(collate(builder.build_all(posts)), SCHEMA)


def scored(posts: Sequence[Pair], *, labels: LabelSet = LABELS, unit: str = "words", std: float = 2.0) -> GraphState:
    """A graph with random scores of spans."""
    graph = graph_of(posts, labels, unit)
    generator = torch.Generator().manual_seed(5)
    shape = (graph.layouts["token"].num_nodes, 2 * len(labels.types))
    return graph.with_scores("tags", std * torch.randn(shape, generator=generator, dtype=torch.float64))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def words_of(graph: GraphState, posts: Sequence[Pair]) -> list[list[list[float]]]:
    """For every post the rows of its words' scores."""
    rows, found, begin = graph.emissions["tags"].tolist(), [], 0
    for pair, count in zip(posts, graph.layouts["token"].counts.tolist(), strict=True):
        first = graph.data["token"].starts_word[begin : begin + count].tolist()
        mine = [row for row, is_first in zip(rows[begin : begin + count], first, strict=True) if is_first]
        assert len(mine) == len(pair.words)
        found.append(mine)
        begin += count
    return found


@given(st.lists(st.lists(TAG, min_size=1, max_size=7), min_size=1, max_size=4))
def test_gold_spans_are_those_of_the_tags(tags: list[list[str]]) -> None:
    posts = [Pair(tuple(f"w{i}" for i in range(len(row))), tuple(row)) for row in tags]
    first, last, words = GoldSpans(LABELS)(graph_of(posts))
    assert words.counts.tolist() == [len(row) for row in tags]
    expected = [torch.zeros(len(first), 2, dtype=torch.bool) for _ in range(2)]
    for begin, row in zip(words.ptr.tolist(), tags, strict=False):
        for start, end, name in tags_to_spans(row):
            expected[0][begin + start, LABELS.types.index(name)] = True
            expected[1][begin + end - 1, LABELS.types.index(name)] = True
    assert torch.equal(first, expected[0])
    assert torch.equal(last, expected[1])


UNITS = ("words", "pieces")
SPECIAL = LabelSet((*SPECIAL_TAGS, *LABELS))


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("posts", [awkward_posts(), without_objects(), [post(1)]], ids=["awkward", "bare", "one"])
def test_loss_against_a_loop(unit: str, posts: list[Pair]) -> None:
    labels = LABELS if unit == "words" else SPECIAL
    graph = scored(posts, labels=labels, unit=unit)
    head = SpanHead(labels)
    expected = []
    for pair, rows in zip(posts, words_of(graph, posts), strict=True):
        total = 0.0
        for kind, name in enumerate(("PER", "LOC")):
            spans = [span for span in tags_to_spans(pair.labels or ()) if span.type == name]
            for word, row in enumerate(rows):
                for score, is_it in (
                    (row[2 * kind], any(span.start == word for span in spans)),
                    (row[2 * kind + 1], any(span.end - 1 == word for span in spans)),
                ):
                    total -= math.log(sigmoid(score) if is_it else 1 - sigmoid(score))
        expected.append(total / len(pair.words) / 2)
    torch.testing.assert_close(head.loss(graph), torch.tensor(expected, dtype=torch.float64), rtol=0, atol=1e-10)
    # the axis of types may stand on its own
    by_type = graph.with_scores("tags", graph.emissions["tags"].unflatten(-1, (2, 2)))
    assert torch.equal(head.loss(by_type), head.loss(graph))
    assert not list(head.parameters())
    assert not head.state_dict()


def test_posts_without_labels_are_refused() -> None:
    graph = scored([Pair(("a",), ("O",), "1"), Pair(("b",), None, "2")])
    with pytest.raises(ValueError, match=r"posts without labels can't be trained on or scored: '2'$"):
        SpanHead(LABELS).loss(graph)


def plain_decode(rows: list[list[float]], threshold: float) -> list[Entity]:
    """The class's docstring, one span at a time."""
    found = []
    for kind, name in enumerate(("PER", "LOC")):
        first, last = ([sigmoid(row[2 * kind + side]) for row in rows] for side in (0, 1))
        for i in range(len(rows)):
            if first[i] < threshold:
                continue
            j = next((j for j in range(i, len(rows)) if last[j] >= threshold), None)
            if j is None:
                continue
            p = first[i] * last[j]
            for k in range(i, j):
                p *= (1 - first[k + 1]) * (1 - last[k])
            found.append(Entity(i, j + 1, name, p))
    kept: list[Entity] = []
    while found:
        best = max(found, key=lambda it: it.score)
        kept.append(best)
        found = [it for it in found if it.end <= best.start or best.end <= it.start]
    return sorted(kept, key=lambda it: it.start)


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("threshold", [0.5, 0.2, 0.9])
def test_decoding_against_a_loop(unit: str, threshold: float) -> None:
    posts, labels = awkward_posts(), LABELS if unit == "words" else SPECIAL
    graph = scored(posts, labels=labels, unit=unit)
    head = SpanHead(labels, threshold=threshold)
    decoded, tags = head.decode(graph), head.decode_tags(graph)
    assert sum(map(len, decoded)) > 10
    for pair, rows, entities, row in zip(posts, words_of(graph, posts), decoded, tags, strict=True):
        expected = plain_decode(rows, threshold)
        assert [(it.start, it.end, it.type) for it in entities] == [(it.start, it.end, it.type) for it in expected]
        assert [it.score for it in entities] == pytest.approx([it.score for it in expected], abs=1e-12)
        assert len(row) == len(pair.words)
        assert tags_to_spans(row, strict=True) == [Span(it.start, it.end, it.type) for it in entities]
    assert head.decode_tags(graph, special_tags="entities") == tags
    # each entity's score is the probability of its span
    spans = [[Span(it.start, it.end, it.type) for it in entities] for entities in decoded]
    assert head.span_probabilities(graph, spans, tags) == [[it.score for it in entities] for entities in decoded]


@given(st.lists(st.tuples(PROBABILITY, PROBABILITY), min_size=1, max_size=3))
def test_probability_is_that_of_independent_ends(words: list[tuple[float, float]]) -> None:
    """The mass of all first and last words in which a span has exactly its two ends and none within."""
    first, last = zip(*words, strict=True)
    count = len(words)
    for start, end in itertools.combinations(range(count + 1), 2):
        mass = 0.0
        for events in itertools.product((True, False), repeat=2 * count):
            begins, ends = events[:count], events[count:]
            inside = sum(begins[start:end]) == sum(ends[start:end]) == 1
            if inside and begins[start] and ends[end - 1]:
                pairs = zip(events, (*first, *last), strict=True)
                mass += math.prod(p if happens else 1 - p for happens, p in pairs)
        assert span_probability(first, last, start, end) == pytest.approx(mass, abs=1e-12)


def test_nearest_end() -> None:
    high, low = 0.9, 0.1
    assert paired_ends([high, low, high, low], [low, high, low, high], 0.5) == [(0, 2), (2, 4)]
    assert paired_ends([high, low, low], [high, low, high], 0.5) == [(0, 1)]
    assert paired_ends([low, low, high], [high, high, low], 0.5) == [], "no last word follows"
    assert paired_ends([high, high, low], [low, low, high], 0.5) == [(0, 3), (1, 3)]
    assert paired_ends([0.5], [0.5], 0.5) == [(0, 1)]


def test_overlaps_of_types_go_to_the_better_one() -> None:
    a, b, c = Entity(0, 2, "PER", 0.6), Entity(1, 4, "LOC", 0.9), Entity(3, 5, "PER", 0.8)
    assert best_disjoint([a, b, c]) == [b]
    assert best_disjoint([a, c]) == [a, c]
    assert best_disjoint([Entity(0, 1, "LOC", 0.5), Entity(0, 1, "PER", 0.5)]) == [Entity(0, 1, "LOC", 0.5)]


def test_spans_that_were_not_decoded() -> None:
    posts = [post(4), post(2, seed=1)]
    graph, head = scored(posts), SpanHead(LABELS)
    spans = [[Span(s, e, name) for s, e in itertools.combinations(range(5), 2) for name in LABELS.types], []]
    probabilities = head.span_probabilities(graph, spans, [[], []])
    assert all(0 < p < 1 for p in probabilities[0])
    assert probabilities[1] == []
    # of all spans that begin with a word at most one is there
    assert sum(p for p, span in zip(probabilities[0], spans[0], strict=True) if span[::2] == (0, "PER")) < 1
    with pytest.raises(ValueError, match="there is no type ORG; there is PER, LOC"):
        head.span_probabilities(graph, [[Span(0, 1, "ORG")], []], [[], []])


@pytest.mark.filterwarnings("ignore:post .* is cut")
def test_words_that_are_cut_off_are_outside() -> None:
    tokens = Tokens(tiny_encoder(["a"]).tokenizer, SPECIAL, unit="pieces", max_pieces=4)
    schema, pair = Schema([]), Pair(("a",) * 5, ("B-PER",) * 5)
    graph = GraphState.from_batch(collate([GraphBuilder(schema, [tokens])(pair)]), schema)
    graph = graph.with_scores("tags", torch.full((4, 4), 3.0))
    head = SpanHead(SPECIAL)
    assert head.decode_tags(graph)[0][2:] == ["O"] * 3
    assert len(head.decode(graph)[0]) == 2
    spans = [Span(1, 2, "PER"), Span(1, 3, "PER")]
    assert [p > 0 for p in head.span_probabilities(graph, [spans], [[]])[0]] == [True, False]
    assert head.loss(graph).isfinite().all()


@pytest.mark.parametrize("threshold", [0.0, -0.1, 1.5])
def test_thresholds_are_probabilities(threshold: float) -> None:
    with pytest.raises(ValueError, match="the threshold is a probability, more than 0, not"):
        SpanHead(LABELS, threshold=threshold)


def test_labels_without_types() -> None:
    graph, head = scored([Pair(("a", "b"), ("O", "O"))], labels=LabelSet(("O",))), SpanHead(LabelSet(("O",)))
    assert head.loss(graph).tolist() == [0.0]
    assert head.decode_tags(graph) == [["O", "O"]]


# --- in a stack of one's own ------------------------------------------------------------------------------


class Spans(Tagger):
    """A text encoder, and a linear map to first and last words."""

    def __init__(self, encoder: TextEncoderModel, labels: LabelSet, *, threshold: float = 0.5) -> None:
        super().__init__(
            schema=Schema([]),
            layers=[TextEncoder(encoder), TaggingScores("tags", encoder.hidden_size, 2 * len(labels.types))],
            heads=[SpanHead(labels, threshold=threshold)],
            encoder=encoder,
            labels=labels,
        )


def test_a_model_of_ones_own(tmp_path: Path) -> None:
    rng, names = random.Random(0), ("ann lee", "bob", "new york", "oslo")
    posts = []
    for index in range(24):
        words: list[str] = []
        tags: list[str] = []
        for name in rng.sample(names, 2):
            parts, kind = name.split(), "PER" if name in names[:2] else "LOC"
            words += [*parts, "saw"]
            tags += [f"B-{kind}", *[f"I-{kind}"] * (len(parts) - 1), "O"]
        posts.append(Pair(tuple(words), tuple(tags), str(index)))
    torch.manual_seed(0)
    encoder = tiny_encoder([*" ".join(names).split(), "saw"], hidden_size=16, num_layers=1, heads=2)
    model = Spans(encoder, LABELS)
    fast = OptimizerConfig(encoder_lr=2e-2, lr=2e-2, warmup=0.0)
    loop = TrainerConfig(epochs=20, batch_size=8, accelerator="cpu", logger="none", progress=False, save_every=0)
    fitted = fit(model, posts[:16], posts[16:], tmp_path / "run", optimizer=fast, trainer=loop)
    scores, tags_found = evaluate(fitted, posts, progress=False)
    assert scores.lenient.f1 == scores.strict.f1 == 1.0
    assert [tuple(row) for row in tags_found] == [pair.labels for pair in posts]
    fitted.save_pretrained(tmp_path / "model")
    loaded = Spans.from_pretrained(tmp_path / "model")
    assert loaded.predict(posts) == fitted.predict(posts)
    (line,) = Predictor(loaded)(posts[:1])
    assert [entity["type"] for entity in line["entities"]] == [s.type for s in tags_to_spans(posts[0].labels or ())]
    assert all(0.5 < entity["score"] <= 1 for entity in line["entities"])
    assert len(occlusion(loaded, posts[0]).entities) == 2
    graph: Tensor = loaded.forward_examples(posts[:2]).emissions["tags"]
    assert graph.shape == (len(posts[0].words) + len(posts[1].words), 4)
