"""Batches by length: each post once, few padded pieces, one long post alone."""

from __future__ import annotations

import random

import pytest
import torch

from mnergraph import BatchConfig, DetectedObject, LabelSet, Pair, pipeline, tiny_encoder
from mnergraph.explain.metrics import image_ablation
from mnergraph.explain.report.data import report_data
from mnergraph.graph.batching import PIECES_PER_POST, length_batches
from mnergraph.inference.predictor import Predictor
from mnergraph.models import BERTCRF, UMT


@pytest.mark.parametrize("batch_size", [1, 4, 32])
@pytest.mark.parametrize("longest", [10, 2000])
def test_every_post_once_within_the_limits(batch_size: int, longest: int) -> None:
    chance = random.Random(batch_size)
    lengths = [chance.randint(1, longest) for _ in range(301)]
    batches = length_batches(lengths, batch_size)
    assert sorted(index for batch in batches for index in batch) == list(range(301))
    sizes = [[lengths[index] for index in batch] for batch in batches]
    assert [size for batch in sizes for size in batch] == sorted(lengths)
    for batch in sizes:
        assert len(batch) <= batch_size
        assert len(batch) == 1 or len(batch) * batch[-1] <= batch_size * PIECES_PER_POST
    if longest == 10:
        assert len(batches) == -(-301 // batch_size)


def test_a_long_post_is_alone() -> None:
    assert length_batches([20] * 31 + [5000], 32) == [list(range(31)), [31]]
    assert length_batches([], 32) == []
    with pytest.raises(ValueError, match="at least one post, not 0"):
        length_batches([1], 0)


def test_answers_in_the_order_of_the_posts() -> None:
    torch.manual_seed(0)
    model = UMT(
        tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"]), image_dim=4, num_heads=2
    ).eval()
    lengths = [3, 300, 1, 40, 700, 2, 2, 90, 5, 1]
    posts = [
        Pair(
            tuple(f"w{number}" for number in range(length)),
            id=str(index),
            objects=(DetectedObject("hat"),),
            image_features=torch.full((49, 4), index / 10),
        )
        for index, length in enumerate(lengths)
    ]
    assert [model.builder.length(post) > length for post, length in zip(posts, lengths, strict=True)] == [True] * 10
    alone = [model.predict([post])[0] for post in posts]
    answers = list(Predictor(model, batching=BatchConfig(batch_pieces=64))(posts))
    assert [line["id"] for line in answers] == [post.id for post in posts]
    spans = [[(entity.start, entity.end) for entity in found] for found in alone]
    assert any(spans)
    assert [[(e["word_start"], e["word_end"]) for e in line["entities"]] for line in answers] == spans
    found = pipeline(model, batch_pieces=64)(posts)
    assert [[(e["word_start"], e["word_end"]) for e in one] for one in found] == spans
    assert [post["id"] for post in report_data(model, posts, batching=BatchConfig(batch_pieces=64))["posts"]] == [
        post.id for post in posts
    ]
    assert [effect.pair for effect in image_ablation(model, posts, batching=BatchConfig(batch_pieces=64))] == posts


def test_unknown_words_of_several_posts_are_tokenized_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    builder = BERTCRF(encoder, LabelSet.from_types(["PER"])).builder
    posts = [Pair(tuple(f"word{number}x{index}" for number in range(index % 5 + 1))) for index in range(40)]
    posts[21] = Pair(("cut", "in\ud83d", "two"))
    alone = [builder.length(post) for post in posts]
    assert alone[21] == 3
    assert min(alone) > 1

    calls: list[int] = []
    split = encoder.tokenizer._split

    def counted(words: list[str]) -> list[list[int]]:
        calls.append(len(words))
        return split(words)

    monkeypatch.setattr(encoder.tokenizer, "_split", counted)
    monkeypatch.setattr(encoder.tokenizer, "_pieces", {})
    assert builder.lengths(posts) == alone
    # the posts of the half emoji one by one, the others in calls of 16 and of 8
    assert len(calls) == 1 + 1 + 16 + 1
    assert builder.lengths([]) == []
