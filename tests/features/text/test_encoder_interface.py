"""One loader and one interface for all text encoders."""

from __future__ import annotations

from pathlib import Path

import pytest

from mnergraph.features.text.encoder import Encoder, TextEncoderModel, encoder_from_config, tiny_encoder
from mnergraph.features.text.word_embeddings import WordVectors, random_vectors

WORDS = ("Paris", "in", "\u200b")


@pytest.mark.parametrize(
    ("encoder", "kind"),
    [
        (tiny_encoder(["paris"], hidden_size=16, num_layers=1, heads=2), TextEncoderModel),
        (random_vectors(["paris", "in"], 16, min_count=1), WordVectors),
    ],
)
def test_the_class_depends_on_the_folder(encoder: Encoder, kind: type, tmp_path: Path) -> None:
    encoder.save(tmp_path)
    again = encoder_from_config(tmp_path)
    assert type(again) is type(encoder) is kind
    assert (again.name, again.hidden_size) == (encoder.name, encoder.hidden_size)
    assert again.tokenizer(WORDS) == encoder.tokenizer(WORDS)
    assert all(encoder.tokenizer(WORDS)), "every word has a piece"
    assert (again.characters is None) == (encoder.characters is None) == (kind is TextEncoderModel)
    shapes = [weight.shape for weight in encoder.model.parameters()]
    assert [weight.shape for weight in again.model.parameters()] == shapes != []
