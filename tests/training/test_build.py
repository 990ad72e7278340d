"""What is inferred from the posts: text encoders with their vocabulary, and feature dimensions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mnergraph.features.text.encoder import TINY
from mnergraph.pair import DetectedObject, Pair
from mnergraph.training.build import text_encoder, widths


def test_the_tiny_encoder_has_the_words_of_lookalikes() -> None:
    encoder = text_encoder(TINY, [])
    assert encoder.name == TINY
    assert [len(pieces) for pieces in encoder.tokenizer(["Jordan"])] == [1]


def test_word_vectors_cover_the_training_words(tmp_path: Path) -> None:
    posts = [Pair(("Jordan", "wins")), Pair(("jordan", "here"))]
    encoder = text_encoder("random:7", posts)
    assert (encoder.name, encoder.hidden_size) == ("random:7", 7)
    assert encoder.tokenizer(["JORDAN", "wins"]) == [(1,), (0,)]
    file = tmp_path / "vectors"
    file.write_text("wins 1 2\nelse 3 4\n")
    found = text_encoder(str(file), posts)
    assert (found.name, found.hidden_size) == ("vectors", 2)
    assert found.tokenizer(["Wins", "Jordan", "else", "here"]) == [(1,), (2,), (3,), (0,)]
    for missing in ("gone.txt", "gone.vec"):
        with pytest.raises(FileNotFoundError, match=f"there is no file of word vectors {missing}"):
            text_encoder(missing, posts)


def test_feature_dimensions_of_the_first_post_with_features() -> None:
    bare = Pair(("a",), objects=(DetectedObject("hat"),))
    with_region = Pair(("a",), objects=(DetectedObject("hat"), DetectedObject("cap", region=torch.zeros(3))))
    assert widths([]) == widths([bare]) == {}
    assert widths([bare, with_region]) == {"region_dim": 3}
    assert widths([bare, with_region, Pair(("a",), image_features=torch.zeros(4, 5))]) == {
        "region_dim": 3,
        "image_dim": 5,
    }
