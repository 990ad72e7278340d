"""The cost of context: every budget against none, with posts that fill it."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.context import main, model_for, posts_with
from mnergraph.graph import Context


def test_costs_of_every_budget(tmp_path: Path) -> None:
    main(tmp_path / "cost.json", budgets=(0, 8), batch=2, repeats=1)
    found = json.loads((tmp_path / "cost.json").read_text())
    names = {"step, 0", "prediction, 0", "step, 8", "prediction, 8", "step, 64 with agreement"}
    assert found["seconds"].keys() == found["against 0 pieces"].keys() == names
    assert found["against 0 pieces"]["step, 0"] == 1


def test_contexts_fill_their_budget() -> None:
    model = model_for("BERT-CRF", "minilm", Context(budget=64))
    for pair in posts_with(3, 64):
        assert 60 <= model.builder(pair)["context_piece"].num_nodes <= 64
    assert not any(pair.context for pair in posts_with(3, 0))
