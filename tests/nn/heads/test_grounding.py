"""Grounding of entities against loops over entities and objects, with every awkward post."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fakes import awkward_posts, make_builder, without_objects
from torch import Tensor, nn
from torch.nn import functional as F
from torchvision.ops import box_iou

from mnergraph.graph import Complete, Relation, Schema, collate
from mnergraph.graph.layout import Edges, Layout
from mnergraph.labels import Entity, LabelSet, Region, Span, spans_to_tags, tags_to_spans
from mnergraph.models.grounding import GROUNDING_SCHEMA
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import (
    EntityGrounding,
    Grounding,
    SentenceReader,
    assign_distinct,
    distance_buckets,
    target_distribution,
)
from mnergraph.nn.heads.scheduled_sampling import ScheduledSamplingConfig
from mnergraph.nn.heads.tagging import TAGS, TaggingHead
from mnergraph.nn.layers.placed_objects import grounding_objects
from mnergraph.nn.state import GraphState
from mnergraph.pair import Box, DetectedObject, GroundedEntity, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
SCHEMA = Schema([Relation("token", "attends", "token", Complete())]) | GROUNDING_SCHEMA
WIDTH = 8
SMALL = Grounding(hidden_size=WIDTH, num_heads=2, dropout=0.0)


class Whole(nn.Module):
    """The layers that encode objects, and the head."""

    def __init__(self, settings: Grounding = SMALL, *, seed: int = 3) -> None:
        super().__init__()
        torch.manual_seed(seed)
        size, heads, dropout = settings.hidden_size, settings.num_heads, settings.dropout
        self.layers = nn.Sequential(*grounding_objects(size, heads, dropout, region_dim=6, label_dim=None))
        self.head = EntityGrounding(TaggingHead(CRF(LABELS.tags), LABELS), settings, WIDTH)

    def loss(self, graph: GraphState) -> Tensor:
        return self.head.loss(self.layers(graph))

    def ground(self, graph: GraphState, entities: list[list[Entity]]) -> list[list[Entity]]:
        return self.head.ground(self.layers(graph), entities)

    def decode(self, graph: GraphState) -> list[list[GroundedEntity]]:
        return self.head.decode(self.layers(graph))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def graph_of(pairs: Sequence[Pair]) -> GraphState:
    builder = make_builder(SCHEMA, labels=LABELS, region_dim=6)
    graph = GraphState.from_batch(collate(builder.build_all(pairs)), SCHEMA)
    rows = [torch.randn(len(pair.words), WIDTH, generator=seeded(len(pair.words))) for pair in pairs]
    scores = [torch.randn(len(pair.words), len(LABELS), generator=seeded(1)) for pair in pairs]
    return graph.update(token=torch.cat(rows)).with_scores(TAGS, torch.cat(scores))


def posts() -> list[Pair]:
    """The awkward posts with gold boxes: those of an object, beside one, several, none."""
    drawn = random.Random(5)
    found = []
    for pair in awkward_posts():
        labels = tuple(drawn.choice(LABELS.tags) for _ in pair.words)
        entities = []
        for number, span in enumerate(tags_to_spans(labels)):
            boxes = [item.box for item in pair.objects if item.box is not None]
            chosen: list[Box] = drawn.sample(boxes, min(len(boxes), number % 3))
            if pair.size and number % 4 == 3:
                chosen = [(0.0, 0.0, 1.0, 1.0)]
            entities.append(GroundedEntity(*span, tuple(chosen)))
        found.append(replace(pair, labels=labels, grounding=tuple(entities)))
    return found


def tokens_of(graph: GraphState, number: int) -> Tensor:
    ptr = graph.data["token"].ptr
    return graph.x["token"][ptr[number] : ptr[number + 1]]


def plain_bucket(position: int, span: tuple[int, int]) -> int:
    """The bucket of a word's distance to an entity of whole words."""
    start, end = span
    distance = start - position if position < start else max(0, position - end + 1)
    bucket = sum(distance >= bound for bound in (1, 2, 3, 4, 5, 9, 17))
    return bucket + 7 if position < start else bucket


def plain_reader(reader: SentenceReader, x: Tensor, tokens: Tensor, span: tuple[int, int]) -> Tensor:
    size = WIDTH // reader.num_heads
    buckets = [plain_bucket(position, span) for position in range(len(tokens))]
    query, message = reader.query(x).view(-1, size), []
    for head in range(reader.num_heads):
        keys = torch.stack([reader.key(token).view(-1, size)[head] for token in tokens])
        values = torch.stack([reader.value(token).view(-1, size)[head] for token in tokens])
        near = torch.stack([reader.distance[bucket, head] for bucket in buckets])
        message.append((keys @ query[head] / size**0.5 + near).softmax(0) @ values)
    x = reader.residual.norm(x + reader.output(torch.cat(message)))
    return reader.feed_forward.residual.norm(x + reader.feed_forward.outer(torch.relu(reader.feed_forward.inner(x))))


def plain_log_probabilities(whole: Whole, graph: GraphState, number: int, span: tuple[int, int]) -> Tensor:
    """log p of one entity of one post, first for nowhere, one object after another."""
    head, (encode, layer) = whole.head, whole.layers
    pair = graph.data.pair[number]
    tokens, objects = graph.data["token"].ptr, graph.data["object"].ptr
    words = graph.x["token"][tokens[number] : tokens[number + 1]][slice(*span)]
    entity = plain_reader(head.reader, head.entity(words.max(0).values), tokens_of(graph, number), span)
    rows = []
    for index in range(int(objects[number]), int(objects[number + 1])):
        region = graph.data["object"].x[index]
        standard = (region - encode.encoder.mean) / encode.encoder.deviation
        x = encode.encoder.region(standard) * graph.data["object"].has_x[index]
        box = graph.data["object"].box[index].tolist()
        place = [0.0] * 5
        if pair.size and not math.isnan(box[0]):
            width, height = pair.size
            left, top, right, bottom = box[0] / width, box[1] / height, box[2] / width, box[3] / height
            shares = [left, top, right, bottom, (right - left) * (bottom - top)]
            place = [4 * (2 * share - 1) for share in shares]
        rows.append(x + encode.place(torch.tensor(place)))
    choices = [head.nowhere]
    for x in rows:
        heads, size = layer.attention.num_heads, WIDTH // layer.attention.num_heads
        query = layer.attention.query(x).view(heads, size)
        message = []
        for which in range(heads):
            keys = torch.stack([layer.attention.key(other).view(heads, size)[which] for other in rows])
            values = torch.stack([layer.attention.value(other).view(heads, size)[which] for other in rows])
            message.append((keys @ query[which] / size**0.5).softmax(0) @ values)
        x = layer.residual.norm(x + layer.attention.output(torch.cat(message)))
        inner = torch.relu(layer.feed_forward.inner(x))
        choices.append(layer.feed_forward.residual.norm(x + layer.feed_forward.outer(inner)))
    scores = []
    for number_of, choice in enumerate(choices):
        hidden = head.scores.node(entity) + head.scores.candidate(choice) + head.scores.product(entity * choice)
        value = (F.gelu(hidden) * head.scores.score.weight[0]).sum()
        has_box = number_of == 0 or pair.objects[number_of - 1].box is not None
        scores.append(value if has_box else torch.tensor(-math.inf))
    return torch.stack(scores).log_softmax(0)


def plain_target(entity: GroundedEntity, pair: Pair, settings: Grounding) -> list[float] | None:
    if not entity.boxes:
        return [1.0] + [0.0] * len(pair.objects)
    iou = []
    for item in pair.objects:
        best = 0.0
        for gold in entity.boxes:
            if item.box is not None:
                best = max(best, float(box_iou(torch.tensor([item.box]).double(), torch.tensor([gold]).double())))
        iou.append(best if best > 0.5 else 0.0)
    if not any(iou):
        return [1.0] + [0.0] * len(pair.objects) if settings.uncovered == "nowhere" else None
    if settings.targets == "best":
        iou = [float(index == iou.index(max(iou))) for index in range(len(iou))]
    return [0.0, *(value / sum(iou) for value in iou)]


@pytest.mark.parametrize("targets", ["all", "best"])
@pytest.mark.parametrize("uncovered", ["skip", "nowhere"])
def test_probabilities_and_loss_equal_loops(targets: Any, uncovered: Any) -> None:
    settings = Grounding(hidden_size=WIDTH, num_heads=2, dropout=0.0, targets=targets, uncovered=uncovered, weight=2.5)
    whole, pairs = Whole(settings).double(), posts()
    torch.nn.init.normal_(whole.head.reader.distance)
    graph = graph_of(pairs)
    graph = graph.update(token=graph.x["token"].double())
    for name in ("x", "box"):
        graph.data["object"][name] = graph.data["object"][name].double()
    torch.set_default_dtype(torch.float64)
    try:
        spans = [[(entity.start, entity.end) for entity in pair.grounding or ()] for pair in pairs]
        log_p, post, is_whole, _ = whole.head.entity_scores(whole.layers(graph), spans)
        losses = whole.loss(graph)
        expected, row = [], 0
        for number, pair in enumerate(pairs):
            total = torch.zeros(())
            for entity in pair.grounding or ():
                plain = plain_log_probabilities(whole, graph, number, (entity.start, entity.end))
                assert post[row] == number
                assert is_whole[row]
                torch.testing.assert_close(log_p[row, : len(plain)], plain, rtol=1e-10, atol=1e-10)
                assert (log_p[row, len(plain) :] == -math.inf).all()
                target = plain_target(entity, pair, settings)
                for share, value in zip(target or (), plain, strict=target is not None):
                    total = total + (share * (math.log(share) - value) if share else 0.0)
                row += 1
            expected.append(2.5 * total)
        assert row == len(log_p)
        torch.testing.assert_close(losses, torch.stack(expected), rtol=1e-9, atol=1e-9)
    finally:
        torch.set_default_dtype(torch.float32)


def test_alone_equals_batched_in_both_modes() -> None:
    pairs = posts()
    for mode in (True, False):
        head = Whole().train(mode)
        together = head.loss(graph_of(pairs))
        alone = torch.cat([head.loss(graph_of([pair])) for pair in pairs])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        found = head.decode(graph_of(pairs))
        assert found == [head.decode(graph_of([pair]))[0] for pair in pairs]


def test_every_parameter_learns() -> None:
    head = Whole()
    head.loss(graph_of(posts())).sum().backward()
    still = [
        name
        for name, weight in head.named_parameters()
        if weight.grad is None or (not weight.grad.any() and not name.endswith("key.bias"))
    ]
    assert not still


def test_predicted_spans_are_grounded_by_their_schedule() -> None:
    pairs = posts()
    schedule = ScheduledSamplingConfig(start_epoch=0, end_epoch=1, max_ratio=1.0)
    gold, sampled = Whole(), Whole(replace(SMALL, scheduled_sampling=schedule))
    sampled.load_state_dict(gold.state_dict() | {"head.predicted_spans.share": torch.zeros(())})
    graph = graph_of(pairs)
    torch.testing.assert_close(sampled.loss(graph), gold.loss(graph))
    sampled.head.predicted_spans.on_epoch_start(1)
    # every gold entity has the decoded span that shares most words with it, and its own boxes
    decoded = [tags_to_spans(tags) for tags in gold.head.entities.decode_tags(graph)]
    moved = []
    for pair, found in zip(pairs, decoded, strict=True):
        entities = []
        for entity in pair.grounding or ():
            inside = [{*range(span.start, span.end)} & {*range(entity.start, entity.end)} for span in found]
            most = max(map(len, inside), default=0)
            span = found[[*map(len, inside)].index(most)] if most else entity
            entities.append(replace(entity, start=span.start, end=span.end))
        moved.append(replace(pair, grounding=tuple(entities)))
    assert [pair.grounding for pair in moved] != [pair.grounding for pair in pairs]
    torch.testing.assert_close(sampled.loss(graph), gold.loss(graph_of(moved)))
    sampled.eval()
    torch.testing.assert_close(sampled.loss(graph), gold.eval().loss(graph))


def test_without_objects_nothing_is_in_the_image() -> None:
    pairs = [replace(pair, labels=("B-PER",) + ("O",) * (len(pair.words) - 1)) for pair in without_objects()]
    head, graph = Whole(), graph_of(pairs)
    entities = [[Entity(0, 1, "PER", 1.0)] for _ in pairs]
    assert [[found.region for found in post] for post in head.ground(graph, entities)] == [[Region(1.0)]] * 2
    absent = [replace(pair, grounding=(GroundedEntity(0, 1, "PER"),)) for pair in pairs]
    assert head.loss(graph_of(absent)).tolist() == [0.0, 0.0]
    assert head.ground(graph, [[], []]) == [[], []]
    assert head.loss(graph_of([replace(pair, grounding=()) for pair in pairs])).tolist() == [0.0, 0.0]


def test_an_object_without_a_box_is_never_chosen() -> None:
    objects = (DetectedObject("man", region=torch.full((6,), 9.0)), DetectedObject("man", (0, 0, 5, 5)))
    pair = Pair(("a", "b"), ("O", "O"), "1", size=(9, 9), objects=objects)
    for seed in range(20):
        head = Whole(seed=seed).eval()
        [[found]] = head.ground(graph_of([pair]), [[Entity(0, 1, "PER", 1.0)]])
        assert found.region is not None
        assert found.region.object in (None, 1)
        assert found.region.boxes == (() if found.region.object is None else ((0, 0, 5, 5),))


def test_objects_that_a_type_may_not_be_shown_by() -> None:
    objects = (DetectedObject("Man", (0, 0, 5, 5)), DetectedObject("flag", (5, 5, 9, 9)))
    pair = Pair(("a", "b"), ("O", "O"), "1", size=(9, 9), objects=objects)
    entities = [[Entity(0, 1, "PER", 1.0), Entity(1, 2, "LOC", 1.0)]]
    settings = Grounding(hidden_size=WIDTH, num_heads=2, allowed={"PER": ["flag"], "LOC": []})
    for seed in range(10):
        head = Whole(settings)
        torch.manual_seed(seed)
        torch.nn.init.normal_(head.head.scores.candidate.weight, std=3.0)
        [[person, place]] = head.eval().ground(graph_of([pair]), entities)
        assert person.region is not None
        assert place.region is not None
        assert person.region.object in (None, 1)
        assert place.region.object is None


def test_posts_without_gold_boxes_are_named() -> None:
    with pytest.raises(ValueError, match="without gold boxes can't be trained on or scored: 'post-1'; give"):
        Whole().loss(graph_of(awkward_posts()[:1]))


def test_words_that_are_cut_off_teach_nothing() -> None:
    pair = replace(posts()[0], labels=("O",) * 7)
    found = Whole().head.entity_scores(Whole().layers(graph_of([pair])), [[(0, 2), (6, 7), (6, 9)]])
    assert found.is_whole.tolist() == [True, True, False]


def test_targets_are_spread_by_iou_above_one_half() -> None:
    boxes: list[Box | None] = [(0, 0, 10, 10), None, (0, 0, 10, 9), (0, 0, 10, 5), (50, 50, 60, 60)]
    assert target_distribution([(0, 0, 10, 10)], boxes).tolist() == pytest.approx([1 / 1.9, 0, 0.9 / 1.9, 0, 0])
    assert target_distribution([(0, 0, 10, 10)], boxes, "best").tolist() == [1, 0, 0, 0, 0]
    assert target_distribution([(0, 0, 10, 5.0)], boxes[:1]).tolist() == [0], "an IoU of exactly 0.5 does not cover"
    assert target_distribution([(70, 70, 80, 80)], boxes).tolist() == [0] * 5
    assert target_distribution([], boxes).tolist() == [0] * 5
    assert target_distribution([(0, 0, 1, 1)], []).tolist() == []
    several = target_distribution([(0, 0, 10, 10), (50, 50, 60, 60)], boxes)
    assert several.tolist() == pytest.approx([1 / 2.9, 0, 0.9 / 2.9, 0, 1 / 2.9])


def test_the_best_assignment_without_an_object_twice() -> None:
    numbers = np.random.default_rng(0)
    for _ in range(200):
        entities, objects = numbers.integers(1, 4), numbers.integers(0, 4)
        scores = np.log(numbers.dirichlet(np.ones(objects + 1), entities))
        scores[:, 1:][numbers.random((entities, objects)) < 0.2] = -np.inf
        found = assign_distinct(list(scores))
        best = -math.inf
        for choice in itertools.product(range(objects + 1), repeat=int(entities)):
            used = [one for one in choice if one]
            if len(set(used)) == len(used):
                best = max(best, sum(scores[row, one] for row, one in enumerate(choice)))
        assert len({one for one in found if one}) == sum(one > 0 for one in found)
        assert sum(scores[row, one] for row, one in enumerate(found)) == pytest.approx(best)


def test_distinct_entities_share_no_object() -> None:
    objects = (DetectedObject("man", (0, 0, 5, 5)),)
    pair = Pair(("a", "a"), ("O", "O"), "1", size=(9, 9), objects=objects)
    entities = [[Entity(0, 1, "PER", 1.0), Entity(1, 2, "PER", 1.0)]]
    graph = graph_of([pair])
    graph = graph.update(token=torch.ones(2, WIDTH))
    for distinct, expected in ((False, [0, 0]), (True, [0, None])):
        head = Whole(Grounding(hidden_size=WIDTH, num_heads=2, distinct=distinct)).eval()
        with torch.no_grad():
            head.head.scores.score.weight.zero_()
            head.head.scores.score.weight[0, 0] = 5.0
            head.head.scores.candidate.weight.zero_()
            head.head.nowhere.zero_()
            head.layers[1].feed_forward.residual.norm.weight.zero_()
            head.layers[1].feed_forward.residual.norm.bias.fill_(1.0)
            head.head.scores.candidate.weight[0].fill_(1.0)
        [found] = head.ground(graph, entities)
        regions = [entity.region.object if entity.region else -1 for entity in found]
        assert sorted(regions, key=str) == sorted(expected, key=str)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"targets": "some"}, "targets are all or best"),
        ({"uncovered": "x"}, "uncovered is"),
        ({"weight": -1}, "^weight is 0"),
        ({"types_weight": -1}, "types_weight is 0"),
    ],
)
def test_settings_out_of_range(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grounding(**settings)


def test_metrics_are_those_of_the_scorer() -> None:
    gold = [(GroundedEntity(0, 1, "PER", ((0.0, 0.0, 5.0, 5.0),)), GroundedEntity(2, 3, "LOC"))]
    predicted = [[GroundedEntity(0, 1, "PER", ((0.0, 0.0, 5.0, 4.0),)), GroundedEntity(2, 3, "PER")]]
    metrics = Whole().head.metrics(gold, predicted)
    assert (metrics["gmner"], metrics["mner"], metrics["eeg"]) == (0.5, 0.5, 1.0)


def test_types_from_regions_equal_loops() -> None:
    settings = replace(SMALL, types="regions")
    whole, pairs = Whole(settings), posts()
    graph = graph_of(pairs)
    last = whole.layers(graph)
    losses, bare = whole.loss(graph), Whole(settings)
    bare.load_state_dict(whole.state_dict())
    bare.head.types = None
    divergences = bare.loss(graph)
    objects = last.x["placed_objects"].split([len(pair.objects) for pair in pairs])
    for number, pair in enumerate(pairs):
        cross_entropy = torch.zeros(())
        for entity in pair.grounding or ():
            log_p = plain_log_probabilities(whole, graph, number, (entity.start, entity.end))
            choices = [whole.head.nowhere, *objects[number]]
            shown = sum((p * choice for p, choice in zip(log_p.exp(), choices, strict=True)), torch.zeros(WIDTH))
            x = whole.head.entity(tokens_of(graph, number)[entity.start : entity.end].max(0).values)
            x = plain_reader(whole.head.reader, x, tokens_of(graph, number), (entity.start, entity.end))
            probabilities = whole.head.types(torch.cat([x, shown])).softmax(0)
            cross_entropy = cross_entropy - probabilities[LABELS.types.index(entity.type)].log()
        torch.testing.assert_close(losses[number], divergences[number] + cross_entropy, rtol=1e-4, atol=1e-4)


def test_typed_entities_have_the_probability_of_span_and_type() -> None:
    whole, pairs = Whole(replace(SMALL, types="regions")).eval(), posts()
    graph = graph_of(pairs)
    last = whole.layers(graph)
    entities = whole.head.entities.decode(graph)
    found = whole.head.ground(last, entities)
    for number, (post, typed) in enumerate(zip(entities, found, strict=True)):
        assert [(e.start, e.end) for e in post] == [(e.start, e.end) for e in typed]
        for entity in typed:
            every = [Span(entity.start, entity.end, name) for name in LABELS.types]
            asked = [[[span] if n == number else [] for n in range(len(pairs))] for span in every]
            of_types = [whole.head.span_probabilities(last, spans)[number][0] for spans in asked]
            best = max(of_types)
            assert entity.score == pytest.approx(best, abs=1e-5)
            assert entity.type == LABELS.types[of_types.index(best)]
            alone, length = graph_of([pairs[number]]), len(pairs[number].words)
            marginals = [
                whole.head.entities.span_probabilities(alone, [[span]], [spans_to_tags([span], length)])[0][0]
                for span in every
            ]
            assert sum(of_types) == pytest.approx(min(1.0, sum(marginals)), abs=1e-4)


def test_every_parameter_of_types_learns() -> None:
    whole = Whole(replace(SMALL, types="regions"))
    whole.loss(graph_of(posts())).sum().backward()
    assert whole.head.types is not None
    assert whole.head.types.weight.grad is not None
    assert whole.head.types.weight.grad.any()


def test_types_are_learned_by_their_weight_and_do_not_move_the_choice() -> None:
    graph, settings = graph_of(posts()), replace(SMALL, types="regions", dropout=0.0)
    torch.manual_seed(0)
    whole = Whole(settings).eval()

    def loss(weight: float, types_weight: float) -> Tensor:
        whole.head.settings = replace(settings, weight=weight, types_weight=types_weight)
        return whole.loss(graph)

    torch.testing.assert_close(loss(3.0, 0.5), 3.0 * loss(1.0, 0.0) + 0.5 * loss(0.0, 1.0))
    last, pairs = whole.layers(graph), posts()
    spans = [[(entity.start, entity.end) for entity in pair.grounding or ()] for pair in pairs]
    found = whole.head.entity_scores(last, spans)
    assert found.types is not None
    expected = [torch.zeros(())] * len(pairs)
    gold = [entity.type for pair in pairs for entity in pair.grounding or ()]
    for row, (post, entity_type) in enumerate(zip(found.post.tolist(), gold, strict=True)):
        expected[post] = expected[post] - found.types[row, LABELS.types.index(entity_type)]
    torch.testing.assert_close(loss(0.0, 1.0), torch.stack(expected))
    loss(0.0, 1.0).sum().backward()
    scores = [weight.grad for weight in whole.head.scores.parameters()]
    assert all(grad is None or not grad.any() for grad in scores)


def test_tokens_are_by_their_distance_to_an_entity() -> None:
    tokens, entities = Layout(torch.tensor([0, 24, 26])), Layout(torch.tensor([0, 2, 4]))
    # two entities of a post; one of the second post, and one whose words are cut off
    index = torch.tensor([[3, 4, 20, 25], [0, 0, 1, 2]])
    found = distance_buckets(Edges(tokens, entities, index)).tolist()
    assert found[0] == [plain_bucket(position, (3, 5)) for position in range(24)]
    assert found[1] == [plain_bucket(position, (20, 21)) for position in range(24)]
    assert found[2][:2] == [8, 0]
    assert found[3][:2] == [0, 1]


def test_tags_learn_spans_alone_where_regions_give_types() -> None:
    whole, graph = Whole(replace(SMALL, types="regions")), graph_of(posts())
    entities = whole.head.entities
    retyped = [
        replace(pair, labels=tuple(tag.replace("PER", "x").replace("LOC", "PER").replace("x", "LOC") for tag in tags))
        for pair in posts()
        if (tags := pair.labels) is not None
    ]
    torch.testing.assert_close(entities.loss(graph), entities.loss(graph_of(retyped)))
    entities.gives_types = True
    assert not torch.allclose(entities.loss(graph), entities.loss(graph_of(retyped)))
