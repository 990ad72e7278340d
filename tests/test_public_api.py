"""The public names, and a round trip through them."""

from __future__ import annotations

from pathlib import Path

import pytest
from huggingface_hub.utils import are_progress_bars_disabled
from runs import Run
from transformers.utils import logging as hf_logging

import mnergraph
from mnergraph.training import TrainerConfig


def test_every_public_name_has_a_docstring() -> None:
    assert len(set(mnergraph.__all__)) == len(mnergraph.__all__)
    for name in mnergraph.__all__:
        obj = getattr(mnergraph, name)
        assert obj.__doc__, name


def test_round_trip_from_pairs_to_scores(tmp_path: Path) -> None:
    words = ("Ann", "saw", "Rome")
    pairs = [
        mnergraph.Pair(words, ("B-PER", "O", "B-LOC"), id=str(n), objects=(mnergraph.DetectedObject("hat"),))
        for n in range(4)
    ]
    labels = mnergraph.LabelSet.from_data(pair.labels or () for pair in pairs)
    encoder = mnergraph.tiny_encoder(["ann", "saw", "rome"], hidden_size=16, num_layers=1, heads=2)
    model = mnergraph.MODELS["UMGF"](encoder, labels, hidden_size=16, num_heads=2, num_layers=1)
    assert isinstance(model, mnergraph.Tagger)
    assert isinstance(model.schema, mnergraph.Schema)

    loop = TrainerConfig(epochs=1, accelerator="cpu", logger="none", progress=False)
    fitted = mnergraph.fit(model, pairs, pairs, tmp_path / "run", trainer=loop)
    scores, tags = mnergraph.evaluate(fitted, pairs, progress=False)
    assert [len(found) for found in tags] == [3] * 4
    assert mnergraph.score([pair.labels or () for pair in pairs], tags) == scores

    graphs = mnergraph.GraphBuilder(model.schema).build_all(pairs)
    assert mnergraph.collate(graphs).num_graphs == 4
    fitted.save_pretrained(tmp_path / "model")
    again = mnergraph.load(tmp_path / "model")
    posts = [mnergraph.Pair.from_text("Ann saw Rome")]
    assert list(mnergraph.Predictor(again)(posts)) == list(mnergraph.Predictor(fitted)(posts))


def test_load(trained: Run) -> None:
    model = mnergraph.load(trained.model)
    assert type(model).__name__ == "UMGF"
    assert not model.training
    assert model.metadata["data"]["train posts"] == 30


def test_an_encoder_of_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = mnergraph.tiny_encoder(["ann"], hidden_size=16, num_layers=1, heads=2)
    small.model.save_pretrained(tmp_path)
    small.tokenizer.tokenizer.save_pretrained(tmp_path)
    capsys.readouterr()
    shown = hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()
    assert mnergraph.load_encoder(tmp_path).hidden_size == 16
    assert capsys.readouterr() == ("", ""), "no bar for reading weights"
    assert (hf_logging.is_progress_bar_enabled(), are_progress_bars_disabled()) == shown
