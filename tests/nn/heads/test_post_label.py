"""One label per post: against a softmax by hand, alone and batched, with posts without the nodes it uses."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from fakes import awkward_posts, state, without_objects

from mnergraph.nn.heads.post_label import PostLabelHead
from mnergraph.pair import Pair

NAME, LABELS = "image_matters", ("no", "yes")


def head(*in_keys: str) -> PostLabelHead:
    torch.manual_seed(0)
    return PostLabelHead(NAME, LABELS, 8 * len(in_keys), in_keys=in_keys, weight=0.3)


def labelled(pairs: list[Pair]) -> list[Pair]:
    return [replace(pair, extra={NAME: LABELS[index % 2]}) for index, pair in enumerate(pairs)]


@pytest.mark.parametrize("pairs", [awkward_posts(), without_objects()], ids=["awkward", "without objects"])
def test_against_the_formula(pairs: list[Pair]) -> None:
    made, graph = head("token", "object"), state(labelled(pairs))
    losses, decoded = made.loss(graph), made.decode(graph)
    for index, pair in enumerate(pairs):
        means = []
        for node_type in ("token", "object"):
            start, end = graph.layouts[node_type].ptr[index : index + 2].tolist()
            rows = graph.x[node_type][start:end]
            means.append(rows.mean(0) if len(rows) else torch.zeros(8))
        scores = made.linear.weight @ torch.cat(means) + made.linear.bias
        chances = scores.exp() / scores.exp().sum()
        torch.testing.assert_close(losses[index], -chances[index % 2].log(), atol=1e-5, rtol=1e-5)
        assert decoded[index]["label"] == LABELS[int(chances.argmax())], pair.id
        assert decoded[index]["score"] == pytest.approx(float(chances.detach().max()), abs=1e-5)
    losses.sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())


def test_posts_without_a_gold_label_have_zero_loss() -> None:
    pairs = labelled(awkward_posts())
    pairs[1] = replace(pairs[1], extra={})
    losses = head("token").loss(state(pairs))
    assert losses[1] == 0.0
    assert (losses[2:] > 0).all()


def test_unknown_labels_and_features() -> None:
    pairs = [replace(awkward_posts()[0], extra={NAME: "perhaps"}, id="7")]
    with pytest.raises(ValueError, match="post '7': image_matters 'perhaps' is not among no, yes"):
        head("token").loss(state(pairs))
    graph = state(labelled(awkward_posts()))
    with pytest.raises(KeyError, match="no layer declared which nodes 'fused' are features of"):
        head("fused").scores(graph.update(fused=torch.zeros(1, 8)))


def test_metrics() -> None:
    made = head("token")
    predicted = [{"label": "yes"}, {"label": "no"}, {"label": "yes"}, {"label": "yes"}]
    found = made.metrics(["yes", "no", "no", "yes"], predicted)
    assert found["accuracy"] == 0.75
    # yes: P 2/3, R 1; no: P 1, R 1/2
    assert found["macro_f1"] == pytest.approx((2 * (2 / 3) / (5 / 3) + 2 * 0.5 / 1.5) / 2)
    assert made.gold(labelled(awkward_posts())[1]) == "yes"
