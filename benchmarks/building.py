"""Build the model of an experiment, with the arguments that follow from its posts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from benchmarks.experiment import Experiment
from mnergraph.features.text.encoder import Encoder
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, Tagger
from mnergraph.models.init_arguments import from_plain
from mnergraph.pair import Pair
from mnergraph.training.build import build_model, nearest_words_options, parameters_of, text_encoder, widths


def build(
    experiment: Experiment,
    splits: Mapping[str, Sequence[Pair]],
    labels: LabelSet,
    *,
    encoder: Encoder | None = None,
    regions: RegionEncoder | None = None,
    word_vectors: Path | None = None,
    cache: Path | None = None,
    probe: bool = False,
) -> Tagger:
    """Return the experiment's model for these posts, with weights drawn from torch's random state.

    Args:
        experiment: the system.
        splits: the posts; those of ``train`` determine the dimensions of features.
        labels: the label set.
        encoder: instead of the experiment's text encoder.
        regions: the encoder of region vectors, where the posts have none yet.
        word_vectors: the table in which nearest words are looked up, where the experiment asks for them.
        cache: folder that keeps the nearest words.
        probe: whether the model is only asked for the evidence that it reads: dimensions of features that the posts do
            not have yet are 1.

    Raises:
        ValueError: for an unknown model, arguments that it does not take, or a table that is not given.
    """
    if experiment.model not in MODELS:
        raise ValueError(f"there is no model {experiment.model!r}; there is {', '.join(MODELS)}")
    kind: Callable[..., Tagger] = MODELS[experiment.model]
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
            **nearest_words_options(kind, arguments),
            cache=cache,
            progress=experiment.trainer.progress,
        )
    encoder = encoder or text_encoder(experiment.encoder, splits["train"], kind)
    accepted = parameters_of(kind)
    if probe:
        known = widths(splits["train"])
        unknown = {"image_dim": experiment.image != "none", "region_dim": regions is None}
        assumed = {name: 1 for name, reads in unknown.items() if reads and name in accepted and name not in known}
        arguments = {**assumed, **arguments}
    regions = regions if "region_dim" in accepted else None
    return build_model(
        kind,
        encoder,
        labels,
        splits["train"],
        regions=regions,
        nearest_words=nearest_words,
        context=experiment.context,
        arguments=arguments,
    )


def checked(experiment: Experiment) -> dict[str, Any]:
    """Return the experiment's arguments of its model.

    Raises:
        ValueError: for one that the model does not take, or of another type.
    """
    parser = ArgumentParser(exit_on_error=False)
    given = {"encoder", "labels", "image_dim", "region_dim", "nearest_words", "context"}
    parser.add_class_arguments(MODELS[experiment.model], skip=given)
    try:
        parser.parse_object(experiment.arguments)
    except ArgumentError as error:
        raise ValueError(f"arguments of {experiment.model}: {error}") from error
    return from_plain(MODELS[experiment.model], experiment.arguments)


def _words(pairs: Iterable[Pair]) -> list[str]:
    """Return every word of the posts, repeated words included."""
    return [word for pair in pairs for word in pair.words]
