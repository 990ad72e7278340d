"""From an experiment and its posts to the model: its text encoder, and the arguments that follow from data."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from benchmarks.experiment import Experiment
from mnergraph.graph import Pair
from mnergraph.jobs import backbone
from mnergraph.labels import Labels
from mnergraph.models import MODELS, Tagger

#: Before the width of a table of random word vectors.
RANDOM = "random:"


def build(
    experiment: Experiment,
    splits: Mapping[str, Sequence[Pair]],
    labels: Labels,
    *,
    word_vectors: Path | None = None,
    cache: Path | None = None,
) -> Tagger:
    """The experiment's model for these posts, with weights as torch's random state has them.

    Args:
        experiment: what is built.
        splits: the posts; the model learns from those of ``train``.
        labels: the label set.
        word_vectors: the table in which similar words are looked up, where the experiment asks for them.
        cache: folder that keeps what was found there.
    """
    kind = MODELS[experiment.model]
    arguments = from_data(kind, splits["train"])
    if experiment.similar:
        if word_vectors is None:
            raise ValueError(
                f"{experiment.system} looks {experiment.similar} similar words up: give --word_vectors, a "
                "table in word2vec's or GloVe's format, or --similar 0"
            )
        from mnergraph.features.similar import SimilarWords

        arguments["similar"] = SimilarWords.find(
            word_vectors,
            _words(chain.from_iterable(splits.values())),
            k=experiment.similar,
            cache=cache,
            progress=experiment.loop.progress,
        )
    return kind(encoder(experiment.encoder, splits["train"]), labels, **{**arguments, **experiment.arguments})


def encoder(name: str, pairs: Sequence[Pair]) -> Any:
    """A text encoder by its name: of the hub, a folder, tiny-random; or word vectors: a file, random:WIDTH.

    Args:
        name: the name.
        pairs: the posts to learn from; their words get vectors.
    """
    if name.startswith(RANDOM):
        from mnergraph.features.wordvectors import random_vectors

        return random_vectors(_words(pairs), int(name.removeprefix(RANDOM)))
    if Path(name).is_file():
        from mnergraph.features.wordvectors import read_vectors

        return read_vectors(name, _words(pairs))
    return backbone(name)


def from_data(kind: type[Tagger], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The arguments of a model that follow from the posts it learns from, as far as it takes them.

    ``image_width`` is the width of the pictures' vectors and ``region_width`` that of the objects'.

    Raises:
        ValueError: when the model needs one that no post has.
    """
    images = (pair.image for pair in pairs if pair.image is not None)
    regions = (thing.region for pair in pairs for thing in pair.objects if thing.region is not None)
    first = {"image_width": next(images, None), "region_width": next(regions, None)}
    takes = inspect.signature(kind).parameters
    found = {name: rows.shape[-1] for name, rows in first.items() if name in takes and rows is not None}
    for name in first:
        if name in takes and name not in found and takes[name].default is inspect.Parameter.empty:
            what = "vector of its picture" if name == "image_width" else "region vector"
            raise ValueError(f"{kind.__name__} needs {name}, and no post to learn from has a {what}")
    return found


def _words(pairs: Iterable[Pair]) -> list[str]:
    """Every word of the posts, as often as it stands there."""
    return [word for pair in pairs for word in pair.words]
