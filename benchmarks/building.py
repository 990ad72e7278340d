"""From an experiment and its posts to the model, with the arguments that follow from the posts."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentError, ArgumentParser

from benchmarks.experiment import Experiment
from mnergraph.features.text.encoder import Encoder
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, Tagger
from mnergraph.models.init_arguments import from_plain
from mnergraph.pair import Pair
from mnergraph.training.build import text_encoder, widths


def build(
    experiment: Experiment,
    splits: Mapping[str, Sequence[Pair]],
    labels: LabelSet,
    *,
    encoder: Encoder | None = None,
    word_vectors: Path | None = None,
    cache: Path | None = None,
) -> Tagger:
    """The experiment's model for these posts, with weights as torch's random state has them.

    Args:
        experiment: what is built.
        splits: the posts; the model learns from those of ``train``.
        labels: the label set.
        encoder: in the place of the experiment's, if given.
        word_vectors: the table in which similar words are looked up, where the experiment asks for them.
        cache: folder that keeps what was found there.
    """
    if experiment.model not in MODELS:
        raise ValueError(f"there is no model {experiment.model!r}; there is {', '.join(MODELS)}")
    kind = cast(Callable[..., Tagger], MODELS[experiment.model])
    arguments = from_data(kind, splits["train"])
    if experiment.object_labels is not None and "label_features" in inspect.signature(kind).parameters:
        arguments["label_features"] = experiment.object_labels
    if experiment.similar:
        if word_vectors is None:
            raise ValueError(
                f"{experiment.system} looks {experiment.similar} similar words up: give --word_vectors, a "
                "table in word2vec's or GloVe's format, or --similar 0"
            )
        from mnergraph.features.text.nearest_words import NearestWords

        arguments["nearest_words"] = NearestWords.from_file(
            word_vectors,
            _words(chain.from_iterable(splits.values())),
            k=experiment.similar,
            cache=cache,
            progress=experiment.loop.progress,
        )
    encoder = encoder or text_encoder(experiment.encoder, splits["train"])
    return kind(encoder, labels, **{**arguments, **checked(experiment)})


def from_data(kind: Callable[..., Tagger], pairs: Sequence[Pair]) -> dict[str, Any]:
    """The arguments of a model that follow from the posts it learns from, as far as it takes them.

    ``image_dim`` is the width of the pictures' vectors and ``region_dim`` that of the objects'.

    Raises:
        ValueError: when the model needs one that no post has.
    """
    takes, there = inspect.signature(kind).parameters, widths(pairs)
    found = {name: width for name, width in there.items() if name in takes}
    for name in ("image_dim", "region_dim"):
        if name in takes and name not in found and takes[name].default is not None:
            what = "vector of its picture" if name == "image_dim" else "region vector"
            raise ValueError(f"{kind.__name__} needs {name}, and no post to learn from has a {what}")
    return found


def checked(experiment: Experiment) -> dict[str, Any]:
    """The experiment's arguments of its model.

    Raises:
        ValueError: for one that the model does not take, or of another type.
    """
    parser = ArgumentParser(exit_on_error=False)
    given = {"encoder", "labels", "image_dim", "region_dim", "nearest_words"}
    parser.add_class_arguments(MODELS[experiment.model], skip=given)
    try:
        parser.parse_object(experiment.arguments)
    except ArgumentError as error:
        raise ValueError(f"arguments of {experiment.model}: {error}") from error
    return from_plain(MODELS[experiment.model], experiment.arguments)


def _words(pairs: Iterable[Pair]) -> list[str]:
    """Every word of the posts, as often as it stands there."""
    return [word for pair in pairs for word in pair.words]
