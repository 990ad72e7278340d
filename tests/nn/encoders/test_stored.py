"""Features of a store under a name."""

from __future__ import annotations

import torch
from fakes import make_builder, post

from mnergraph.graph import Schema, collate
from mnergraph.nn.encoders.stored import StoredFeatures
from mnergraph.nn.state import GraphState


def test_stored_features() -> None:
    schema = Schema(nodes=["image"])
    batch = collate(
        make_builder(schema, image_dim=5).build_all([post(2, seed=3), post(1, image=False), post(4, seed=7)])
    )
    graph = StoredFeatures("image", out_key="grid")(GraphState.from_batch(batch, schema))
    assert torch.equal(graph.x["grid"], torch.tensor([[3.0] * 5, [7.0] * 5]))
    assert graph.node_type_of("grid") == "image"
    assert "image" not in graph.x
