"""Checks shared by the tests of GVATT and AdaCAN, whose words attend to an image grid."""

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


def check_equations(model: Model, posts: Sequence[Pair], reference: Callable[[Model, Tensor, Pair], Tensor]) -> None:
    """Compare every post's emissions with those that ``reference`` computes from its word states."""
    batch = collate(model.builder.build_all(posts))
    counts = [len(post.words) for post in posts]
    num_text_layers = next(index for index, layer in enumerate(model.layers) if isinstance(layer, ImageEncoder))
    states = model.layers[:num_text_layers](GraphState.from_batch(batch, model.schema)).x["token"].split(counts)
    emissions = model(batch).emissions["tags"].split(counts)
    for post, h, scores in zip(posts, states, emissions, strict=True):
        torch.testing.assert_close(scores, reference(model, h, post), rtol=1e-5, atol=1e-5)


def check_image_changes_scores(model: Tagger, posts: Sequence[Pair]) -> None:
    """Check that emissions of the same words differ with one image, another image, and none."""
    one, other, none = (model(model.builder(post)).emissions["tags"] for post in posts[:3])
    assert not torch.allclose(one, other, atol=1e-4)
    assert not torch.allclose(one, none, atol=1e-4)
