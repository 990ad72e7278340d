"""Records: contents, saving, loading and queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from fakes import OBJECTS, TO_TOKENS, TOKENS, awkward_posts, post, state
from recorded_stack import SHOWS, STACK_SCHEMA, build_stack
from safetensors.torch import save_file

from mnergraph.explain import AttentionRecord, EdgeWeights, PairRecord, record_attention
from mnergraph.models import UMGF
from mnergraph.pair import Pair

Make = Callable[..., UMGF]


@pytest.fixture(scope="module")
def record() -> AttentionRecord:
    """Two calls of a stack with all recorded modules, on edge-case posts."""
    stack = build_stack().eval()
    with record_attention(stack) as record:
        stack(state(awkward_posts()[:5], schema=STACK_SCHEMA))
        stack(state(awkward_posts()[5:], schema=STACK_SCHEMA))
    return record


def test_saved_and_loaded_is_the_same(record: AttentionRecord, tmp_path: Path) -> None:
    record.save(tmp_path / "record.safetensors")
    again = AttentionRecord.load(str(tmp_path / "record.safetensors"))
    assert str(again) == str(record)
    assert [len(call.pairs) for call in again.calls] == [5, 3]
    for one, other in zip(record.posts, again.posts, strict=True):
        assert one.pair == other.pair
        assert (one.nodes, one.merged_from, one.spans()) == (other.nodes, other.merged_from, other.spans())
        assert torch.equal(one.word, other.word)
        assert one.dynamic_edges.keys() == other.dynamic_edges.keys()
        assert all(torch.equal(index, other.dynamic_edges[key]) for key, index in one.dynamic_edges.items())
        for mine, yours in zip(one.weights, other.weights, strict=True):
            assert torch.equal(mine.weights, yours.weights)
            assert torch.equal(mine.index, yours.index)
            assert [getattr(mine, name) for name in ("layer", "relation", "what", "nodes", "module")] == [
                getattr(yours, name) for name in ("layer", "relation", "what", "nodes", "module")
            ]
        for mine, yours in zip(one.gates, other.gates, strict=True):
            assert (mine.layer, mine.node_type, mine.module) == (yours.layer, yours.node_type, yours.module)
            torch.testing.assert_close(mine.values, yours.values, rtol=0, atol=0, equal_nan=True)


def test_pairs_are_saved_without_their_vectors(umgf: Make, tmp_path: Path) -> None:
    pair = replace(post(3, 2), image_path=Path("an image.jpg"), caption="a \u2028 caption", entities=((0, 2),))
    with record_attention(model := umgf()) as record:
        model.predict([pair])
    record.save(tmp_path / "record.safetensors")
    (again,) = AttentionRecord.load(tmp_path / "record.safetensors").posts
    assert again.pair == replace(pair, labels=None)
    assert again.pair.image_features is None
    assert {item.region for item in again.pair.objects} == {None}


def test_an_empty_record(tmp_path: Path) -> None:
    AttentionRecord().save(tmp_path / "empty")
    assert AttentionRecord.load(tmp_path / "empty").calls == []


def test_file_that_is_not_a_record(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"model.safetensors is no record of attention"):
        AttentionRecord.load(tmp_path / "model.safetensors")


def test_str_lists_the_contents(record: AttentionRecord) -> None:
    lines = str(record).split("\n")
    assert lines[0] == "2 calls, 8 posts"
    assert "layer 0: attention along (object, attends, object), 2 heads" in lines
    assert "layer 0: mean gate along (object, guides, token)" in lines
    assert "layer 3: mean gate of token" in lines
    assert len(lines) == 1 + 7 + 6


def test_weights_as_a_matrix() -> None:
    index, weights = torch.tensor([[2, 0, 1], [1, 1, 0]]), torch.tensor([[0.5, 0.1], [0.5, 0.9], [1.0, 1.0]])
    result = EdgeWeights("0", TO_TOKENS, "attention", index, weights, (3, 2), "0")
    assert result.matrix().tolist() == [
        [[0.0, 1.0, 0.0], [0.5, 0.0, 0.5]],
        [[0.0, 1.0, 0.0], [pytest.approx(0.9), 0.0, pytest.approx(0.1)]],
    ]
    no_node = EdgeWeights("0", TO_TOKENS, "attention", index[:, :0], weights[:0], (0, 2), "0")
    assert no_node.matrix().shape == (2, 2, 0)


def test_weights_along_a_relation(record: AttentionRecord) -> None:
    post_record = record.posts[0]
    assert [w.layer for w in post_record.select(TOKENS)] == ["1", "6"]
    assert [w.layer for w in post_record.select(TOKENS, layer="6")] == ["6"]
    with pytest.raises(KeyError, match=r"no weights along .*'near'.*; recorded: 0 \('object', 'attends'"):
        post_record.select(("token", "near", "token"))
    with pytest.raises(KeyError, match=r"in layer 2; recorded"):
        post_record.select(TOKENS, layer="2")


def test_attention_of_words_to_objects(record: AttentionRecord) -> None:
    post_record = record.posts[0]
    gates, attention = post_record.select(TO_TOKENS)
    (shows,) = post_record.select(SHOWS)
    image = post_record.nodes["image"]
    # words 1 and 2 have gates, attention, and the attention of the two entities that contain them
    expected = [
        gates.matrix()[:, 1:3].mean((0, 1)),
        attention.matrix()[:, 1:3].mean((0, 1)),
        shows.matrix()[:, :2, image:].mean((0, 1)),
    ]
    result = post_record.attention_to((1, 3))
    torch.testing.assert_close(result, torch.stack(expected).mean(0))
    torch.testing.assert_close(post_record.attention_to((1, 3), relation=SHOWS), expected[2])
    torch.testing.assert_close(post_record.attention_to((1, 3), "image"), shows.matrix()[:, :2, :image].mean((0, 1)))
    torch.testing.assert_close(post_record.attention_to((1, 3), "visual"), shows.matrix()[:, :2].mean((0, 1)))
    assert post_record.attention_to((0, 1), "token").shape == (7,)
    # the last word lies in no entity
    assert post_record.attention_to((6, 7), relation=SHOWS) is None
    assert post_record.attention_to((1, 3), relation=OBJECTS) is None
    assert post_record.attention_to((1, 3), "piece") is None


def test_tokens_that_are_pieces(umgf: Make) -> None:
    with record_attention(model := umgf("released")) as record:
        model.predict([Pair(("Paris", "unheardof"), objects=post(1, 2).objects)])
    (post_record,) = record.posts
    assert post_record.word[0] == post_record.word[-1] == -1
    assert post_record.nodes["token"] == len(post_record.word) > 5
    assert post_record.node_rows("token", (0, 1)).tolist() == [1]
    assert post_record.node_rows("token", (1, 2)).tolist() == list(range(2, len(post_record.word) - 1))
    assert post_record.attention_to((1, 2)).shape == (2,)


def test_entities_given_with_the_post() -> None:
    pair_record = PairRecord(
        Pair(("a", "b", "c"), entities=((0, 2), (2, 3))), torch.arange(3), {"entity": 2}, {}, (), (), {}
    )
    assert pair_record.spans() == [(0, 2), (2, 3)]
    assert pair_record.node_rows("entity", (1, 3)).tolist() == [0, 1]
    assert pair_record.node_rows("entity", (2, 3)).tolist() == [1]
