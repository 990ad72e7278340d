"""Build a model: its text encoder by name, and the arguments that follow from the training posts."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

from mnergraph.data.missing_evidence import remedy
from mnergraph.features.text.encoder import TINY, Encoder, load_encoder, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.text.word_embeddings import random_vectors, read_vectors
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.graph.context import Context
from mnergraph.graph.evidence_kinds import context_kind
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
    context: Context | None = None,
    arguments: Mapping[str, Any] | None = None,
) -> Tagger:
    """Return the model with the feature dimensions of the training posts.

    Args:
        model: a model's class, or a `functools.partial` of one.
        encoder: its text encoder.
        labels: its label set.
        train: the training posts.
        regions: the encoder of region vectors, where the posts have none yet.
        nearest_words: the neighbors of the posts' words.
        context: the texts about a post that it reads; without ``sources`` those that the training posts have.
        arguments: further arguments of the model; they take precedence over what follows from the posts.

    Raises:
        ValueError: when it reads no regions, no word vectors or no context and is given them.
    """
    accepted = parameters_of(model)
    data = widths(train)
    if regions:
        if "region_dim" not in accepted:
            raise ValueError("this model reads no region vectors; leave regions out")
        data["region_dim"] = regions.out_channels
    if nearest_words is not None and "nearest_words" not in accepted:
        raise ValueError("this model reads no nearest words; leave word_vectors out")
    derived: dict[str, Any] = {name: width for name, width in data.items() if name in accepted}
    derived |= {} if nearest_words is None else {"nearest_words": nearest_words}
    if context is not None:
        if "context" not in accepted:
            raise ValueError(
                "this model reads no context; leave context out, or take a model over a pretrained encoder"
            )
        derived["context"] = replace(context, sources=context.sources or sources_of(train))
    return model(encoder, labels, **{**derived, **(arguments or {})})


def parameters_of(model: Callable[..., Tagger]) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a model's constructor, also of a `functools.partial`.

    jsonargparse passes a partial of a function of its own, with the class among its arguments.
    """
    return inspect.signature(_unwrapped(model)[0]).parameters


def nearest_words_options(model: Callable[..., Tagger], arguments: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the arguments of `NearestWords.from_file` that a model asks for, as MGCMT's released code does.

    Args:
        model: a model's class, or a `functools.partial` of one.
        arguments: further arguments of the model.
    """
    target, given = _unwrapped(model)
    if not hasattr(target, "nearest_words_options"):
        return {}
    variant = {**given, **(arguments or {})}.get("variant", "paper")
    options: dict[str, Any] = target.nearest_words_options(variant)
    return options


def _unwrapped(model: Callable[..., Tagger]) -> tuple[Any, dict[str, Any]]:
    """Return the class, or the function, behind any partials, and the arguments that they hold."""
    target: Any = model
    given: dict[str, Any] = {}
    while isinstance(target, partial):
        given = {**target.keywords, **given}
        target = next(filter(inspect.isclass, target.args), target.func)
    return target, given


def widths(pairs: Sequence[Pair]) -> dict[str, int]:
    """Return the widths of the posts' features: ``image_dim`` and ``region_dim``, as far as any post has them."""
    images = (pair.image_features for pair in pairs if pair.image_features is not None)
    regions = (item.region for pair in pairs for item in pair.objects if item.region is not None)
    first = {"image_dim": next(images, None), "region_dim": next(regions, None)}
    return {name: rows.shape[-1] for name, rows in first.items() if rows is not None}


def sources_of(pairs: Iterable[Pair]) -> tuple[str, ...]:
    """Return the sources of context that any of the posts has: captions, then further ones in order of appearance.

    Raises:
        ValueError: when no post has context.
    """
    sources = dict.fromkeys(entry.source for pair in pairs for entry in Context().texts(pair))
    if not sources:
        raise ValueError(f"no training post has context: give {remedy(context_kind())}")
    return tuple(sources)


def text_encoder(name: str, train: Sequence[Pair], model: Callable[..., Tagger] | None = None) -> Encoder:
    """Return the text encoder of this name: tiny-random, random:WIDTH, a file of word vectors, or Hugging Face's.

    The vocabulary of the tiny one is that of Lookalikes, that of word vectors is the training posts'.

    Args:
        name: the name.
        train: the training posts.
        model: the model that reads it. Where it reads objects' labels by word vectors (`Tagger.label_words`), the
            vocabulary has the words of these, too.
    """
    from mnergraph.data.lookalikes.dataset import vocabulary

    if name == TINY:
        return tiny_encoder(vocabulary(grounded=any(pair.grounding is not None for pair in train)))
    words: Iterable[str] = (word for pair in train for word in pair.words)
    if model is not None and getattr(_unwrapped(model)[0], "label_words", False):
        words = chain(words, (word for pair in train for item in pair.objects for word in item.label.split()))
    if match := re.fullmatch(r"random:(\d+)", name):
        return random_vectors(words, int(match[1]))
    if Path(name).is_file() or Path(name).suffix in (".txt", ".vec"):
        return read_vectors(name, words)
    return load_encoder(name)
