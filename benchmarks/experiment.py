"""What a settings file says: one system on one data set, as its paper trained it, and what the paper reports.

Every entry can be given on the command line too, and a later ``--settings`` file overrides an earlier one.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from jsonargparse import ArgumentParser

from mnergraph.features.pretrained import IMAGENET
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.training.config import OptimizerConfig, TrainerConfig

SETTINGS = Path(__file__).parent / "settings"
RESULTS = Path(__file__).parent / "results"
Made = TypeVar("Made")


@dataclass(frozen=True)
class Reported:
    """What a paper reports on test, in percent.

    Args:
        f1: micro-averaged over all entities.
        precision: None where the paper does not give it.
        recall: the same.
        types: F1 by entity type; empty where the paper does not give them.
    """

    f1: float
    precision: float | None = None
    recall: float | None = None
    types: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Ablation:
    """One of a paper's ablations, beside what the whole system is.

    Args:
        arguments: of the model, on top of the experiment's.
        image: where it differs from the experiment's.
        similar: the same.
        reported: the paper's figures for it, if it has any.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    image: Literal["none", "vector", "grid"] | None = None
    similar: int | None = None
    reported: Reported | None = None


@dataclass(frozen=True)
class Experiment:
    """One system on one data set.

    Args:
        system: its name in the tables; several systems may share a model.
        model: the model, by its name in `mnergraph.models.MODELS`.
        data: the data set, by its name in `mnergraph.data.DATASETS`.
        source: where the hyper-parameters and the reported figures stand.
        encoder: name or folder of the text encoder, or tiny-random; for the models that read word vectors, a
            file of them, or random:WIDTH.
        arguments: of the model, beside those that follow from the data (`mnergraph.training.build.build_model`).
        optimizer: how weights learn.
        trainer: how long and on what; its seed is replaced by each seed in turn.
        image: what the model gets of the whole picture: nothing, one ``vector``, or a ``grid`` of vectors.
        image_features: what these are: of the ``file`` features.safetensors; of a ``backbone`` (see ``map``);
            or of the ``caption``, read by a frozen text encoder before training (its embedding is the
            vector, its words are the grid).
        caption_encoder: that encoder; null for the pretrained ``encoder``.
        map: the backbone of ``image_features: backbone``.
        standardise: whether that one's features are standardised by the training pictures'.
        regions: the backbone of boxed objects' region vectors; null for those of the file, if any.
        object_labels: whether objects speak by the words of their label (``label_features`` of models that
            see objects); null for the model's default.
        top_objects: how many boxed objects a post keeps, best first; null for all.
        caption_phrases: whether the captions' noun phrases become objects.
        similar: how many of a table's nearest words each word gets (MGCMT), if any.
        data_options: further arguments of the data set, such as Lookalikes' ``irrelevant``.
        reported: the paper's figures on this data set, if it has any.
        transferred: figures on other data sets of what was trained on this one, by their names.
        ablations: the paper's, by the names it gives them.
    """

    system: str
    model: str
    data: str
    source: str
    encoder: str
    arguments: dict[str, Any] = field(default_factory=dict)
    optimizer: OptimizerConfig = OptimizerConfig()
    trainer: TrainerConfig = TrainerConfig()
    image: Literal["none", "vector", "grid"] = "none"
    image_features: Literal["file", "backbone", "caption"] = "file"
    caption_encoder: str | None = None
    map: BackboneGrid = field(default_factory=lambda: BackboneGrid(weights=IMAGENET, pool_size=7))
    standardise: bool = False
    regions: RegionEncoder | None = None
    object_labels: bool | None = None
    top_objects: int | None = None
    caption_phrases: bool = False
    similar: int = 0
    data_options: dict[str, Any] = field(default_factory=dict)
    reported: Reported | None = None
    transferred: dict[str, Reported] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)

    def without(self, ablation: str) -> Experiment:
        """The experiment with one of its ablations, named after it."""
        if ablation not in self.ablations:
            there = ", ".join(self.ablations) or "none"
            raise ValueError(f"{self.system} has no ablation {ablation!r}; there is {there}")
        how = self.ablations[ablation]
        return replace(
            self,
            system=f"{self.system}, {ablation}",
            arguments={**self.arguments, **how.arguments},
            image=how.image or self.image,
            similar=self.similar if how.similar is None else how.similar,
            reported=how.reported,
            transferred={},
            ablations={},
        )


def options() -> ArgumentParser:
    """A parser of settings files and of every entry as an argument."""
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--settings", action="config", help="a settings file; a later one overrides")
    parser.add_class_arguments(Experiment)
    return parser


def read(*paths: Path) -> Experiment:
    """The experiment of a settings file, entries of later files overriding those of earlier ones."""
    parser = _reader()
    found = parser.parse_args([f"--settings={path}" for path in paths])
    return part(Experiment, vars(parser.instantiate(found)))


@cache
def _reader() -> ArgumentParser:
    return options()


def part(kind: type[Made], values: Mapping[str, Any]) -> Made:
    """The object of a class whose arguments stand among these values."""
    return kind(**{name: values[name] for name in inspect.signature(kind).parameters})
