"""From the parts that a job is given to the model: its text encoder, and what follows from the posts."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mnergraph.data.lookalikes.dataset import vocabulary
from mnergraph.features.text.encoder import TINY, Encoder, load_encoder, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.text.word_embeddings import random_vectors, read_vectors
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair


def build_model(
    model: Callable[..., Tagger],
    encoder: Encoder,
    labels: LabelSet,
    train: Sequence[Pair],
    *,
    regions: RegionEncoder | None = None,
    nearest_words: NearestWords | None = None,
) -> Tagger:
    """The model, told what it reads: how wide region vectors and picture's features are, similar words.

    Args:
        model: called with encoder, labels and what it takes of the rest; its arguments need not be known.
        encoder: its text encoder.
        labels: its label set.
        train: the posts it learns from.
        regions: what will give objects their region vectors, if not the posts have them.
        nearest_words: the words' neighbours.

    Raises:
        ValueError: when it reads features that no post has, or is given regions or word vectors for nothing.
    """
    given: dict[str, Any] = widths(train)
    seen = "image_dim" in given
    if regions:
        given["region_dim"] = regions.out_channels
    if nearest_words:
        given["nearest_words"] = nearest_words
    while True:
        try:
            tagger = model(encoder, labels, **given)
        except TypeError as error:
            # jsonargparse hands over a function that does not tell what it takes
            told = str(error)
            unread = [name for name in given if f"unexpected keyword argument '{name}'" in told]
            if not unread:
                raise
            if regions and "region_dim" in unread:
                raise ValueError(
                    "this model reads no regions of objects, so it can't have any; leave them out"
                ) from error
            if "nearest_words" in unread:
                raise ValueError("this model looks no words up; leave word_vectors out") from error
            given = {name: value for name, value in given.items() if name not in unread}
            continue
        if not seen and "image features" in tagger.builder.missing(train[0].without_image()):
            raise ValueError(
                f"{type(tagger).__name__} reads the picture's features, and no post to learn from has any: "
                "give a feature store (docs/features.md) or a features.safetensors (docs/data.md)"
            )
        return tagger


def widths(pairs: Sequence[Pair]) -> dict[str, int]:
    """How wide the posts' features are: ``image_dim`` and ``region_dim``, as far as any post has them."""
    images = (pair.image_features for pair in pairs if pair.image_features is not None)
    regions = (thing.region for pair in pairs for thing in pair.objects if thing.region is not None)
    first = {"image_dim": next(images, None), "region_dim": next(regions, None)}
    return {name: rows.shape[-1] for name, rows in first.items() if rows is not None}


def text_encoder(name: str, train: Sequence[Pair]) -> Encoder:
    """The text encoder of this name: tiny-random, random:WIDTH, a file of word vectors, or Hugging Face's.

    The tiny one knows the words of Lookalikes, word vectors know those of the training posts.
    """
    if name == TINY:
        return tiny_encoder(vocabulary())
    words = (word for pair in train for word in pair.words)
    if found := re.fullmatch(r"random:(\d+)", name):
        return random_vectors(words, int(found[1]))
    if Path(name).is_file() or Path(name).suffix in (".txt", ".vec"):
        return read_vectors(name, words)
    return load_encoder(name)
