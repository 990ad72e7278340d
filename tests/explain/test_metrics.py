"""Faithfulness of attention and the effect of the image, against values computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from fakes import LABELS, TO_OBJECTS, TO_TOKENS, awkward_posts, post
from scipy.stats import kendalltau

from mnergraph import BatchConfig
from mnergraph.explain import faithfulness, image_ablation, occlusion, record_attention
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.models import BERTCRF, UMGF
from mnergraph.pair import DetectedObject, Pair

Make = Callable[..., UMGF]


@pytest.mark.parametrize("form", ["paper", "released"])
def test_correlation_of_attention_with_occlusion(form: str, umgf: Make) -> None:
    model, pair = umgf(form), post(6, 4, seed=3, grounded=0.5)
    output = faithfulness(model, pair)
    assert [result.entity for result in output] == model.predict([pair])[0]
    assert len(output) > 1
    with record_attention(model) as record:
        model.predict([pair])
    dropped = occlusion(model, pair, what=("object",))
    for index, result in enumerate(output):
        span = result.entity.start, result.entity.end
        assert result.attention == tuple(record.posts[0].attention_to(span).tolist())
        assert result.effect == tuple(abs(effect.change[index]) for effect in dropped.effects)
        # tau-b without ties: agreeing pairs less disagreeing ones, over all pairs
        if len(set(result.attention)) == len(set(result.effect)) == 4:
            pairs = [(i, j) for i in range(4) for j in range(i)]
            agree = [
                (result.attention[i] - result.attention[j]) * (result.effect[i] - result.effect[j]) > 0
                for i, j in pairs
            ]
            assert result.correlation == pytest.approx((2 * sum(agree) - len(pairs)) / len(pairs))
        elif result.correlation is not None:
            assert result.correlation == kendalltau(result.attention, result.effect).statistic
    assert any(result.correlation is not None for result in output)
    assert faithfulness(model, pair, relation=TO_TOKENS) == output


def test_no_correlation_without_distinct_ranks(umgf: Make) -> None:
    model = umgf()
    item = DetectedObject("person")
    for objects in ((), (item,), (item, item)):
        pair = Pair(("Ann", "saw", "Rome"), objects=objects)
        for result in faithfulness(model, pair):
            assert result.correlation is None
            assert len(result.attention) == len(result.effect) == len(objects)


def test_a_model_without_attention_to_objects(umgf: Make) -> None:
    model, pair = umgf(), post(6, 2, seed=2)
    with pytest.raises(
        ValueError, match=r"UMGF computes no weights along \('token', 'guides', 'object'\) from objects"
    ):
        faithfulness(model, pair, relation=TO_OBJECTS)
    encoder = tiny_encoder(hidden_size=16, num_layers=1, heads=2)
    text_only = BERTCRF(encoder, LABELS)
    while not text_only.predict([pair])[0]:
        text_only.layers[-1].linear.reset_parameters()
    with pytest.raises(ValueError, match="BERTCRF computes no weights along any relation"):
        faithfulness(text_only, pair)


def test_image_ablation(umgf: Make) -> None:
    model = umgf()
    posts = [post(8, 4, seed=seed, grounded=0.2) for seed in range(6)] + awkward_posts()
    output = image_ablation(model, posts, batching=BatchConfig(batch_pieces=80))
    assert [change.pair for change in output] == posts
    without_images = [
        replace(pair, image_path=None, size=None, objects=(), caption=None, image_features=None) for pair in posts
    ]
    for change, post_record, ablated in zip(output, model.predict(posts), model.predict(without_images), strict=True):
        with_it = {(e.start, e.end, e.type) for e in post_record}
        without = {(e.start, e.end, e.type) for e in ablated}
        assert {(e.start, e.end, e.type) for e in change.gained} == with_it - without
        assert {(e.start, e.end, e.type) for e in change.lost} == without - with_it
        assert {(e.start, e.end, e.type) for e in change.kept} == with_it & without
        scores = {(e.start, e.end, e.type): e.score for e in (*ablated, *post_record)}
        for e in (*change.kept, *change.gained, *change.lost):
            assert e.score == pytest.approx(scores[e.start, e.end, e.type], abs=1e-5)
        if not change.pair.objects:
            assert not change.gained
            assert not change.lost
    for kind in ("kept", "gained", "lost"):
        assert any(getattr(change, kind) for change in output), kind
    assert image_ablation(model, []) == []
