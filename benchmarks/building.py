"""From an experiment and its posts to the model, with the arguments that follow from the posts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentError, ArgumentParser

from benchmarks.experiment import Experiment
from mnergraph.features.text.encoder import Encoder
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, Tagger
from mnergraph.pair import Pair
from mnergraph.training.build import build_model, parameters_of, text_encoder


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
    arguments = checked(experiment)
    if experiment.object_labels is not None and "label_features" in parameters_of(kind):
        arguments = {"label_features": experiment.object_labels, **arguments}
    nearest_words = None
    if experiment.similar:
        if word_vectors is None:
            raise ValueError(
                f"{experiment.system} looks {experiment.similar} similar words up: give --word_vectors, a "
                "table in word2vec's or GloVe's format, or --similar 0"
            )
        from mnergraph.features.text.nearest_words import NearestWords

        nearest_words = NearestWords.from_file(
            word_vectors,
            _words(chain.from_iterable(splits.values())),
            k=experiment.similar,
            cache=cache,
            progress=experiment.trainer.progress,
        )
    encoder = encoder or text_encoder(experiment.encoder, splits["train"])
    return build_model(kind, encoder, labels, splits["train"], nearest_words=nearest_words, arguments=arguments)


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
    return experiment.arguments


def _words(pairs: Iterable[Pair]) -> list[str]:
    """Every word of the posts, as often as it stands there."""
    return [word for pair in pairs for word in pair.words]
