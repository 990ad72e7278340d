"""EVG against loops over entities and objects, and as the second step after any tagger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from fakes import awkward_posts
from torch import Tensor
from torch.nn import functional as F

import mnergraph
from mnergraph import BatchConfig, Predictor
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import collate
from mnergraph.labels import Entity, LabelSet, tags_to_spans
from mnergraph.models import BERTCRF, EVG
from mnergraph.models.evg import EntitySequences, known_spans
from mnergraph.nn.heads.grounding import GROUNDING, target_distribution
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])


def encoder_of(max_length: int = 512) -> TextEncoderModel:
    torch.manual_seed(4)
    return tiny_encoder(["the", "man", "saw"], hidden_size=16, num_layers=1, heads=2, max_length=max_length)


def evg_of(max_length: int = 512) -> EVG:
    encoder = encoder_of(max_length)
    for part in encoder.model.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0
    return EVG(encoder, LABELS, region_dim=6, num_heads=2, intermediate_size=24, dropout=0.0)


@pytest.fixture
def posts() -> list[Pair]:
    """Awkward posts whose entities have the box of an object, none, one of no object, or two."""
    found = []
    for pair in awkward_posts():
        boxes = [item.box for item in pair.objects if item.box is not None]
        labels = tuple("B-PER" if index % 2 == 0 else "O" for index in range(min(7, len(pair.words))))
        labels += ("O",) * (len(pair.words) - len(labels))
        golds = [tuple(boxes[:1]), (), ((0.0, 0.0, 1.0, 1.0),) if pair.size else (), tuple(boxes[:2])]
        entities = [GroundedEntity(*span, golds[index % 4]) for index, span in enumerate(tags_to_spans(labels))]
        found.append(replace(pair, labels=labels, grounding=tuple(entities)))
    return found


def plain_scores(model: EVG, pair: Pair, span: tuple[int, int]) -> list[Tensor]:
    """The score of every object for one entity, one after another."""
    [layer] = model.layers
    tokenizer = model.encoder.tokenizer
    pieces = tokenizer(pair.words)
    sentence = [piece for word in pieces for piece in word]
    entity = [piece for word in pieces[slice(*span)] for piece in word]
    first = [*tokenizer.start, *sentence, *tokenizer.between]
    second = [*entity, *tokenizer.end]
    ids, segment = torch.tensor([first + second]), torch.tensor([[0] * len(first) + [1] * len(second)])
    states = layer.model(input_ids=ids, token_type_ids=segment).last_hidden_state[0]
    scores = []
    for item in pair.objects:
        place = torch.zeros(5)
        if item.box is not None and pair.size is not None:
            left, top, right, bottom = (side / pair.size[index % 2] for index, side in enumerate(map(float, item.box)))
            place = 4 * (2 * torch.tensor([left, top, right, bottom, (right - left) * (bottom - top)]) - 1)
        x = layer.objects.place(place)
        if item.region is not None:
            x = x + layer.objects.encoder.region(item.region)
        label = [piece for word in tokenizer(item.label.split()) for piece in word]
        if label:
            mean = layer.model.get_input_embeddings()(torch.tensor(label)).mean(0)
            x = x + layer.objects.encoder.label(layer.objects.encoder.norm(mean))
        heads, size = 2, 8
        query = layer.attention.query(x).view(heads, size)
        keys, values = (f(states).view(-1, heads, size) for f in (layer.attention.key, layer.attention.value))
        message = [(keys[:, head] @ query[head] / size**0.5).softmax(0) @ values[:, head] for head in range(heads)]
        x = layer.residual.norm(x + layer.attention.output(torch.cat(message)))
        forward = layer.feed_forward
        x = forward.residual.norm(x + forward.outer(torch.relu(forward.inner(x))))
        scores.append(layer.score(x)[0])
    return scores


def test_scores_and_loss_equal_loops(posts: list[Pair]) -> None:
    model = evg_of(2048)
    graph = model(collate(model.builder.build_all(posts)))
    losses = model.heads[GROUNDING].loss(graph)
    scores = iter(graph.emissions[GROUNDING])
    for pair, loss in zip(posts, losses, strict=True):
        total = torch.zeros(())
        for entity in pair.grounding or ():
            plain = plain_scores(model, pair, (entity.start, entity.end))
            target = target_distribution(entity.boxes, [item.box for item in pair.objects]) > 0
            each = []
            for item, score, right in zip(pair.objects, plain, target, strict=True):
                torch.testing.assert_close(next(scores), score, rtol=1e-4, atol=1e-5)
                if item.box is not None:
                    each.append(F.binary_cross_entropy_with_logits(score, torch.tensor(float(right))))
            if each:
                total = total + torch.stack(each).mean()
        torch.testing.assert_close(loss, total, rtol=1e-4, atol=1e-5)
    assert next(scores, None) is None


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("max_length", [512, 16])
def test_alone_equals_batched(posts: list[Pair], mode: bool, max_length: int) -> None:
    model = evg_of(max_length).train(mode)
    together = model.heads[GROUNDING].loss(model(collate(model.builder.build_all(posts))))
    alone = [model.heads[GROUNDING].loss(model(collate([model.builder(pair)])))[0] for pair in posts]
    torch.testing.assert_close(together, torch.stack(alone), rtol=1e-4, atol=1e-5)


def test_every_parameter_learns_and_posts_without_entities_have_gradients(posts: list[Pair]) -> None:
    model = evg_of()
    model.loss(model(collate(model.builder.build_all(posts)))).backward()
    still = [
        name
        for name, weight in model.named_parameters()
        if weight.grad is None or (not weight.grad.any() and not name.endswith("key.bias") and "pooler" not in name)
    ]
    assert not still
    for some in ([replace(posts[0], labels=("O",) * 7, grounding=())], [replace(posts[1], objects=())]):
        model.zero_grad()
        loss = model.loss(model(collate(model.builder.build_all(some))))
        loss.backward()
        assert loss.item() == 0.0
        assert all(weight.grad is not None for weight in model.parameters())


def test_the_best_object_above_the_threshold(posts: list[Pair]) -> None:
    model = evg_of().eval()
    torch.nn.init.constant_(model.layers[0].score.bias, 0.4)
    chosen = set()
    for pair in [pair for pair in posts if len(pair.words) < 20]:
        entities = [Entity(e.start, e.end, e.type, 0.5) for e in pair.grounding or ()]
        [found] = model.ground([pair], [entities])
        for entity in found:
            scores = [
                float(score.detach().sigmoid()) if item.box is not None else 0.0
                for item, score in zip(pair.objects, plain_scores(model, pair, (entity.start, entity.end)), strict=True)
            ]
            best = max(scores, default=0.0)
            assert entity.region is not None
            if best >= 0.5:
                item = pair.objects[scores.index(best)]
                assert (entity.region.object, entity.region.box) == (scores.index(best), item.box)
                assert entity.region.score == pytest.approx(best, abs=1e-5)
            else:
                assert (entity.region.object, entity.region.box) == (None, None)
                assert entity.region.score == pytest.approx(1 - best, abs=1e-5)
            chosen.add(entity.region.object is None)
    assert chosen == {True, False}


@pytest.mark.parametrize("max_length", [12, 16, 24])
def test_of_a_long_sentence_the_words_near_the_entity_are_kept(max_length: int) -> None:
    encoder = encoder_of()
    sequences = EntitySequences(encoder.tokenizer, max_length)
    words = tuple(["saw"] * 30 + ["man"] + ["the"] * 30)
    ids = encoder.tokenizer(["saw", "man", "the"])
    for start, end in ((30, 31), (0, 1), (60, 61), (10, 40)):
        pair = Pair(words, entities=((start, end),))
        from torch_geometric.data import HeteroData

        data = HeteroData()
        sequences.add_to(data, pair)
        found = data["sequence_piece"].input_ids.tolist()
        assert len(found) <= max_length
        assert data["sequence_piece"].segment.tolist() == sorted(data["sequence_piece"].segment.tolist())
        second = [
            piece for piece, segment in zip(found, data["sequence_piece"].segment.tolist(), strict=True) if segment
        ]
        expected = [piece for word in words[start:end] for piece in ids[("saw", "man", "the").index(word)]]
        assert second[: -len(encoder.tokenizer.end)] == expected[: len(second) - len(encoder.tokenizer.end)]
        first = found[: len(found) - len(second)]
        if (start, end) == (30, 31):
            assert ids[1][0] in first


def test_known_entities() -> None:
    pair = Pair(("a", "b", "c"), ("B-PER", "I-PER", "B-LOC"))
    assert known_spans(pair) == [(0, 2), (2, 3)]
    assert known_spans(replace(pair, grounding=(GroundedEntity(0, 1, "PER"),))) == [(0, 1)]
    assert known_spans(replace(pair, grounding=(), entities=((1, 2),))) == [(1, 2)]
    model = evg_of()
    with pytest.raises(
        ValueError, match="EVG finds no entities, it grounds those of another model: give it as grounder"
    ):
        model.predict([pair])
    graph = model(collate([model.builder(replace(pair, grounding=()))]))
    with pytest.raises(ValueError, match="built for other entities"):
        model.heads[GROUNDING].ground(graph, [[Entity(0, 1, "PER", 1.0)]])


def some_posts() -> list[Pair]:
    objects = (DetectedObject("man", (1, 2, 30, 40), 0.9), DetectedObject("hat", (5, 5, 8, 8), 0.5))
    words = ("Ann", "saw", "Bob", "Lee", "in", "Rome")
    return [Pair(words[: 2 + n % 5], id=str(n), size=(50, 50), objects=objects[: n % 3]) for n in range(11)]


def test_second_step_of_predictor_and_pipeline(tmp_path: Path) -> None:
    evg, tagger = evg_of().eval(), BERTCRF(encoder_of(), LABELS).eval()
    posts = some_posts()
    expected: Sequence[Sequence[Entity]] = [evg.ground([pair], [tagger.predict([pair])[0]])[0] for pair in posts]
    assert sum(map(len, expected)) > 5
    lines = list(Predictor(tagger, grounder=evg, batching=BatchConfig(batch_pieces=64))(posts))
    evg.save_pretrained(tmp_path / "evg")
    results = mnergraph.pipeline(tagger, grounder=tmp_path / "evg")(posts)
    for post, line, result in zip(expected, lines, results, strict=True):
        for entity, one, other in zip(post, line["entities"], result, strict=True):
            assert entity.region is not None
            box = entity.region.box and [float(side) for side in entity.region.box]
            assert (entity.start, entity.end, entity.type) == (one["word_start"], one["word_end"], one["type"])
            assert one["box"] == other["box"] == box
            assert one["box_probability"] == pytest.approx(entity.region.score, abs=1e-4)


def test_a_grounder_is_one_and_is_needed_once() -> None:
    tagger = BERTCRF(encoder_of(), LABELS)
    with pytest.raises(TypeError, match="a grounder is an EVG, not a BERTCRF"):
        Predictor(tagger, grounder=tagger)
    grounding = mnergraph.nn.Grounding(hidden_size=8, num_heads=2)
    with pytest.raises(ValueError, match="BERTCRF grounds its entities itself; leave out grounder"):
        Predictor(BERTCRF(encoder_of(), LABELS, grounding=grounding), grounder=evg_of())


def test_a_post_that_fails_does_not_stop_the_second_step() -> None:
    evg, tagger = evg_of().eval(), BERTCRF(encoder_of(), LABELS).eval()
    posts = some_posts()
    posts[3] = replace(posts[3], words=("\ud83d", "b"), source=None)
    lines = list(Predictor(tagger, grounder=evg)(posts))
    assert ["error" in line for line in lines] == [index == 3 for index in range(len(posts))]
    assert all("box" in entity for line in lines if "error" not in line for entity in line["entities"])


def test_a_post_that_cannot_be_grounded_has_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    evg, tagger = evg_of().eval(), BERTCRF(encoder_of(), LABELS).eval()
    posts, ground = some_posts(), EVG.ground

    def fails(self: EVG, pairs: Sequence[Pair], *args: Any, **kwargs: Any) -> list[list[Entity]]:
        if any(pair.id == "4" for pair in pairs):
            raise ValueError("no such box")
        return ground(self, pairs, *args, **kwargs)

    monkeypatch.setattr(EVG, "ground", fails)
    lines = list(Predictor(tagger, grounder=evg)(posts))
    assert [line.get("error") for line in lines] == [
        "ValueError: no such box" if post.id == "4" else None for post in posts
    ]
    assert all("box" in entity for line in lines if "error" not in line for entity in line["entities"])
    ner = mnergraph.pipeline(tagger, grounder=evg)
    with pytest.warns(UserWarning, match="1 of 11 posts have an error"):
        assert ner(posts)[4].error == "ValueError: no such box"
    with pytest.raises(ValueError, match="no such box"):
        ner(posts[4])
