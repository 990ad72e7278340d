"""What tests of the models have in common in which words guide attention to a grid: GVATT and AdaCAN."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import torch
from torch import Tensor

from mnergraph.graph import collate
from mnergraph.models import Tagger
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

Model = TypeVar("Model", bound=Tagger)


def check_equations(model: Model, posts: Sequence[Pair], plain: Callable[[Model, Tensor, Pair], Tensor]) -> None:
    """The emissions of every post against those that ``plain`` makes of the states of its words."""
    batch = collate(model.builder.build_all(posts))
    counts = [len(post.words) for post in posts]
    text = next(place for place, layer in enumerate(model.layers) if isinstance(layer, ImageEncoder))
    states = model.layers[:text](GraphState.from_batch(batch, model.schema)).x["token"].split(counts)
    found = model(batch).emissions["tags"].split(counts)
    for post, h, scores in zip(posts, states, found, strict=True):
        torch.testing.assert_close(scores, plain(model, h, post), rtol=1e-5, atol=1e-5)


def check_the_picture_decides(model: Tagger, posts: Sequence[Pair]) -> None:
    """The same words beside one picture, another, and none."""
    one, other, none = (model(model.builder(post)).emissions["tags"] for post in posts[:3])
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, none, atol=1e-4)
