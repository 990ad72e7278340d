"""The posts of an experiment, with the evidence of their images that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiment import Experiment
from benchmarks.image_features import features_from_backbone, features_from_captions
from mnergraph.data import DATASETS, Evidence, PostDataset
from mnergraph.data.datasets.base import SPLITS
from mnergraph.data.processor import Processor, ProcessorConfig
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.graph.evidence_kinds import IMAGE_FEATURES, IMAGE_GRID
from mnergraph.labels import LabelSet
from mnergraph.pair import Pair
from mnergraph.training.build import text_encoder

#: What Twitter-2015 calls OTHER is what Twitter-2017 calls MISC.
SAME_TYPE = {"OTHER": "MISC", "MISC": "OTHER"}


@dataclass(frozen=True)
class Files:
    """The files of a data set.

    Args:
        root: its folder.
        images: folder of the images; by default the one of the data set's layout, if there is one.
        captions: captions.jsonl; by default the one beside the text, if there is one.
        objects: objects.jsonl; the same.
        features: features.safetensors; the same.
        context_file: context.jsonl; the same.
        stores: folders of feature stores of the images.
    """

    root: Path
    images: Path | None = None
    captions: Path | None = None
    objects: Path | None = None
    features: Path | None = None
    context_file: Path | None = None
    stores: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Posts:
    """The posts of all splits.

    Args:
        splits: the posts of train, valid and test.
        labels: the label set, that of train.
        checksums: sha256 of every split's text.
        cache: folder for what is computed of these posts.
        processor: the processor that gives the posts' objects their region vectors; saved with a model.
    """

    splits: dict[str, list[Pair]]
    labels: LabelSet
    checksums: dict[str, str]
    cache: Path
    processor: Processor

    @property
    def evidence(self) -> dict[str, dict[str, int]]:
        """The number of posts of every split with evidence of each kind."""
        return {name: _coverage(pairs) for name, pairs in self.splits.items()}


def load(experiment: Experiment, files: Files, *, test_data: str | None = None, test: Files | None = None) -> Posts:
    """Return the experiment's posts with the evidence of files and stores; nothing is computed yet.

    Where test comes from another data set, its types are renamed to those of train.

    Raises:
        ValueError: for an unknown data set, or only one of ``test_data`` and ``test``.
    """
    if (test_data is None) != (test is None):
        raise ValueError("test_data, the other data set, and test.root, its folder, go together")
    data = {name: _split(experiment, experiment.data, files, name, experiment.data_options) for name in SPLITS}
    labels = LabelSet(data["train"].tags)
    if test_data is not None and test is not None:
        types = labels.types
        mapping = {old: new for old, new in SAME_TYPE.items() if new in types and old not in types}
        data["test"] = _split(experiment, test_data, test, "test", {"mapping": mapping})
    config = ProcessorConfig.of(data["train"].evidence, experiment.regions, allow_missing=experiment.allow_missing)
    return Posts(
        {name: split.pairs for name, split in data.items()},
        labels,
        {name: file_sha256(split.raw_paths[0]) for name, split in data.items()},
        Path(data["train"].processed_dir),
        Processor(config, run_extractors=False),  # posts have what files and stores have
    )


def available(experiment: Experiment, posts: Posts, pair: Pair) -> set[str]:
    """Return the kinds of evidence that `compute_features` gives a post."""
    kinds = posts.processor.available(pair)
    source = {"backbone": pair.image_path, "caption": pair.caption}.get(experiment.image_features)
    return kinds if experiment.image == "none" or source is None else kinds | {IMAGE_FEATURES, IMAGE_GRID}


def compute_features(experiment: Experiment, posts: Posts) -> Posts:
    """Return the posts with the region vectors and the image features that the experiment asks for.

    Raises:
        ValueError: when no training post has what they are computed from.
    """
    progress, cache = experiment.trainer.progress, posts.cache
    splits = {
        name: posts.processor.add_regions(pairs, cache=cache, progress=progress) for name, pairs in posts.splits.items()
    }
    if experiment.image == "none":
        splits = {name: [replace(pair, image_features=None) for pair in pairs] for name, pairs in splits.items()}
    elif experiment.image_features == "backbone":
        splits = features_from_backbone(
            splits, experiment.map, experiment.image, standardise=experiment.standardise, progress=progress
        )
    elif experiment.image_features == "caption":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # the weights of a tiny-random encoder are the same in every run
            encoder = text_encoder(experiment.caption_encoder or experiment.encoder, splits["train"])
        if not isinstance(encoder, TextEncoderModel):
            raise ValueError(f"{encoder.name} encodes no captions: give --caption_encoder, a Hugging Face encoder")
        splits = features_from_captions(splits, encoder, experiment.image, progress=progress)
    return replace(posts, splits=splits)


def _split(experiment: Experiment, data: str, files: Files, split: str, options: dict[str, Any]) -> PostDataset:
    """Return a split with the evidence of files and stores."""
    if data not in DATASETS:
        raise ValueError(f"there is no data set {data!r}; there is {', '.join(DATASETS)}")
    images: dict[str, Any] = {} if files.images is None else {"images": files.images}
    paths = {name: getattr(files, name) for name in ("captions", "objects", "features")}
    paths["context"] = files.context_file
    posts = DATASETS[data](files.root, split, evidence=Evidence(), **images, **options)
    evidence = replace(
        Evidence.from_folder(posts.raw_dir, posts.folder),
        **{name: path for name, path in paths.items() if path is not None},
        top_objects=experiment.top_objects,
        caption_phrases=experiment.caption_phrases,
        stores=files.stores,
        image_nodes="pooled" if experiment.image == "vector" else "grid",
    )
    return posts.with_evidence(evidence)


def _coverage(pairs: Sequence[Pair]) -> dict[str, int]:
    return {
        "pictures": sum(pair.image_path is not None for pair in pairs),
        "image vectors": sum(pair.image_features is not None for pair in pairs),
        "captions": sum(pair.caption is not None for pair in pairs),
        **({"context": count} if (count := sum(bool(pair.context) for pair in pairs)) else {}),
        "objects": sum(bool(pair.objects) for pair in pairs),
        "region vectors": sum(any(thing.region is not None for thing in pair.objects) for pair in pairs),
    }
