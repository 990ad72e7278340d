"""Features stay in their mapped file until a graph is finished."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from fakes import make_builder
from safetensors.torch import safe_open, save_file

from mnergraph.graph import Complete, Relation, Schema
from mnergraph.graph import prefetch as mapped
from mnergraph.graph.prefetch import prefetch
from mnergraph.pair import Pair

SCHEMA = Schema([Relation("image", "shows", "token", Complete())])


@pytest.mark.parametrize("rows", [torch.randn(49, 2048), torch.randn(70_000)[1:], torch.zeros(0, 5)])
def test_prefetch_returns_the_same_rows(rows: torch.Tensor) -> None:
    before = rows.clone()
    assert prefetch(rows) is rows
    assert torch.equal(rows, before)


def test_madvise_covers_the_pages_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    advised = []
    monkeypatch.setattr(mapped, "_madvise", lambda begin, length, _: advised.append((begin.value, length.value)))
    many = torch.zeros(100_000)
    few, spread = many[:9], many.view(1000, 100)[:, ::2]
    for rows in (many[10:], few, spread):
        prefetch(rows)
    ((begin, length),) = advised
    assert begin % 4096 == 0
    assert begin <= many[10:].data_ptr() < begin + 4096
    assert begin + length == many[10:].data_ptr() + many[10:].nbytes


def test_no_copy_before_image_tensors_are_loaded(tmp_path: Path) -> None:
    save_file({"a": torch.randn(49, 64).half()}, tmp_path / "a.safetensors")
    with safe_open(tmp_path / "a.safetensors", framework="pt") as file:
        rows = file.get_tensor("a")
    builder = make_builder(SCHEMA, image_dim=64)
    unloaded = builder.build(Pair(("hi",), image_features=rows))
    assert unloaded["image"].x.data_ptr() == rows.data_ptr()
    graph = builder.load_image_tensors(unloaded)
    assert graph["image"].x.dtype == torch.float32
    assert torch.equal(graph["image"].x, rows.float())
    assert unloaded["image"].x.dtype == torch.float16
    pooled = make_builder(SCHEMA, image_dim=64, pool_image=True)(Pair(("hi",), image_features=rows))
    torch.testing.assert_close(pooled["image"].x, rows.float().mean(0, keepdim=True))
