"""Settings files: one system on one data set, as its paper trained it, and the figures that the paper reports.

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

from mnergraph.cli.parser import restrict_imports
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import Extractor
from mnergraph.graph.context import Context
from mnergraph.training.config import OptimizerConfig, TrainerConfig

SETTINGS = Path(__file__).parent / "settings"
RESULTS = Path(__file__).parent / "results"
Part = TypeVar("Part")


@dataclass(frozen=True)
class Reported:
    """Figures that a paper reports on test, in percent.

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
    """One of a paper's ablations: how it differs from the whole system.

    Args:
        arguments: of the model, in addition to the experiment's.
        image: where it differs from the experiment's.
        similar: the same.
        top_objects: the same.
        extract: the same.
        reported: the paper's figures for it, if it has any.
    """

    arguments: dict[str, Any] = field(default_factory=dict)
    image: Literal["none", "vector", "grid"] | None = None
    similar: int | None = None
    top_objects: int | None = None
    extract: list[Extractor] | None = None
    reported: Reported | None = None


@dataclass(frozen=True)
class Experiment:
    """One system on one data set.

    Args:
        system: its name in the tables; several systems may share a model.
        model: the model, by its name in `mnergraph.models.MODELS`.
        data: the data set, by its name in `mnergraph.data.DATASETS`.
        source: the sections and tables of the hyper-parameters and the reported figures.
        encoder: name or folder of the text encoder, or tiny-random; for the models that read word vectors, a
            file of them, or random:WIDTH.
        arguments: of the model, beside those that follow from the data (`mnergraph.training.build.build_model`).
        optimizer: learning rates and their schedule.
        trainer: epochs, batches and devices; its seed is replaced by each seed in turn.
        image: the features of the whole image: none, one ``vector``, or a ``grid`` of vectors.
        image_features: their source: ``file`` for features.safetensors or feature stores; a ``backbone`` (see
            ``map``), in memory; or the ``caption``, encoded by a frozen text encoder before training (its mean is
            the vector, its words are the grid).
        caption_encoder: that encoder; null for the pretrained ``encoder``.
        map: the backbone of ``image_features: backbone``.
        standardise: whether the backbone's features are standardized by the training images'.
        regions: the backbone of boxed objects' region vectors; null for those of the file, if any.
        object_labels: whether the embeddings of objects' labels are features (``label_features`` of models with
            objects); null for the model's default.
        top_objects: how many boxed objects a post keeps, best first; null for all.
        caption_phrases: whether the captions' noun phrases become objects.
        extract: the extractors of the feature stores that the posts need; `benchmarks.reproduce` runs them.
        context: the texts about a post that the model's encoder reads beside the sentence; null for none.
        similar: number of nearest words in a table of word vectors for each word (MGCMT); 0 for none.
        grounder: arguments of EVG, which is trained apart, with the same rates, epochs and encoder, and grounds the
            system's entities; null for none.
        allow_missing: kinds of evidence that the model reads and all posts may lack.
        data_options: further arguments of the data set, such as Lookalikes' ``image_irrelevant_ratio``.
        reported: the paper's figures on this data set, if it has any.
        reported_grounding: its figures for GMNER and EEG on grounded data, by these names; MNER's are ``reported``.
        transferred: figures on other data sets after training on this one, by their names.
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
    map: BackboneGrid = field(default_factory=lambda: BackboneGrid(weights="IMAGENET1K_V1", pool_size=7))
    standardise: bool = False
    regions: RegionEncoder | None = None
    object_labels: bool | None = None
    top_objects: int | None = None
    caption_phrases: bool = False
    extract: list[Extractor] = field(default_factory=list)
    context: Context | None = None
    similar: int = 0
    grounder: dict[str, Any] | None = None
    allow_missing: tuple[str, ...] = ()
    data_options: dict[str, Any] = field(default_factory=dict)
    reported: Reported | None = None
    reported_grounding: dict[Literal["GMNER", "EEG"], Reported] = field(default_factory=dict)
    transferred: dict[str, Reported] = field(default_factory=dict)
    ablations: dict[str, Ablation] = field(default_factory=dict)

    def without(self, ablation: str) -> Experiment:
        """Return the experiment with one of its ablations, named after it.

        Raises:
            ValueError: for an ablation that the settings do not have, naming those that they have.
        """
        if ablation not in self.ablations:
            known = ", ".join(self.ablations) or "none"
            raise ValueError(f"{self.system} has no ablation {ablation!r}; there is {known}")
        changes = self.ablations[ablation]
        return replace(
            self,
            system=f"{self.system}, {ablation}",
            arguments={**self.arguments, **changes.arguments},
            image=changes.image or self.image,
            similar=self.similar if changes.similar is None else changes.similar,
            top_objects=self.top_objects if changes.top_objects is None else changes.top_objects,
            extract=self.extract if changes.extract is None else changes.extract,
            reported=changes.reported,
            transferred={},
            ablations={},
        )


def options() -> ArgumentParser:
    """Return the parser of settings files and of every entry as an argument."""
    restrict_imports("benchmarks")
    parser = ArgumentParser(allow_abbrev=False)
    parser.add_argument("--settings", action="config", help="a settings file; a later one overrides")
    parser.add_class_arguments(Experiment)
    return parser


def read(*paths: Path) -> Experiment:
    """Return the experiment of settings files; entries of later files override those of earlier ones."""
    return _read(paths, tuple(path.read_text(encoding="utf-8") for path in paths))


@cache
def _read(paths: tuple[Path, ...], contents: tuple[str, ...]) -> Experiment:
    """Return the experiment of files with these contents: all settings together take seconds to parse."""
    parser = _reader()
    found = parser.parse_args([f"--settings={path}" for path in paths])
    return part(Experiment, vars(parser.instantiate(found)))


@cache
def _reader() -> ArgumentParser:
    return options()


def part(kind: type[Part], values: Mapping[str, Any]) -> Part:
    """Return the object of a class whose arguments are among these values."""
    return kind(**{name: values[name] for name in inspect.signature(kind).parameters})
