"""The posts of an experiment, with the evidence of their pictures that it asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from benchmarks.experiment import Experiment
from benchmarks.pictures import seen_by_backbone, seen_by_caption
from mnergraph.data import DATASETS, Evidence, PostDataset
from mnergraph.data.datasets.base import SPLITS
from mnergraph.data.processor import Processor, ProcessorConfig
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.labels import LabelSet
from mnergraph.pair import Pair
from mnergraph.training.build import text_encoder

#: What Twitter-2015 calls OTHER is what Twitter-2017 calls MISC.
SAME_TYPE = {"OTHER": "MISC", "MISC": "OTHER"}


@dataclass(frozen=True)
class Files:
    """Where a data set lies.

    Args:
        root: its folder.
        images: folder of the pictures; without it the one of the data set's layout, if there is one.
        captions: captions.jsonl; without it the one beside the text, if there is one.
        objects: objects.jsonl; the same.
        features: features.safetensors; the same.
    """

    root: Path
    images: Path | None = None
    captions: Path | None = None
    objects: Path | None = None
    features: Path | None = None


@dataclass(frozen=True)
class Posts:
    """The posts of all splits, and what is known of their files.

    Args:
        splits: the posts of train, valid and test.
        labels: the label set, that of train.
        checksums: sha256 of every split's text.
        cache: folder for what is computed of these posts.
    """

    splits: dict[str, list[Pair]]
    labels: LabelSet
    checksums: dict[str, str]
    cache: Path

    @property
    def evidence(self) -> dict[str, dict[str, int]]:
        """How many posts of every split have what of a picture."""
        return {name: _coverage(pairs) for name, pairs in self.splits.items()}


def load(experiment: Experiment, files: Files, *, test_data: str | None = None, test: Files | None = None) -> Posts:
    """The experiment's posts; where test comes from another data set, its types are called as train's.

    Raises:
        ValueError: when the experiment asks for evidence that no post has.
    """
    if (test_data is None) != (test is None):
        raise ValueError("test_data, the other data set, and test.root, its folder, go together")
    found = {name: _split(experiment, experiment.data, files, name, experiment.data_options) for name in SPLITS}
    labels = LabelSet(found["train"][0].tags)
    if test_data is not None and test is not None:
        known = labels.types
        mapping = {old: new for old, new in SAME_TYPE.items() if new in known and old not in known}
        found["test"] = _split(experiment, test_data, test, "test", {"mapping": mapping})
    cache = Path(found["train"][0].processed_dir)
    splits = _seen(experiment, {name: pairs for name, (_, pairs) in found.items()}, cache)
    checksums = {name: file_sha256(data.raw_paths[0]) for name, (data, _) in found.items()}
    return Posts(splits, labels, checksums, cache)


def _split(
    experiment: Experiment, data: str, files: Files, split: str, options: dict[str, Any]
) -> tuple[PostDataset, list[Pair]]:
    """A split and its posts with the evidence of files."""
    if data not in DATASETS:
        raise ValueError(f"there is no data set {data!r}; there is {', '.join(DATASETS)}")
    given: dict[str, Any] = {} if files.images is None else {"images": files.images}
    posts = DATASETS[data](files.root, split, evidence=Evidence(), **given, **options)
    paths = {"captions": files.captions, "objects": files.objects, "features": files.features}
    evidence = replace(
        Evidence.from_folder(posts.raw_dir, posts.folder),
        **{name: path for name, path in paths.items() if path is not None},
        top_objects=experiment.top_objects,
        caption_phrases=experiment.caption_phrases,
    )
    return posts, evidence.attach(posts.pairs)


def _seen(experiment: Experiment, splits: dict[str, list[Pair]], cache: Path) -> dict[str, list[Pair]]:
    """The posts with the region vectors and the picture's vectors that the experiment asks for."""
    progress = experiment.trainer.progress
    if experiment.regions is not None:
        if all(pair.image_path is None for pair in splits["train"]):
            raise ValueError(
                "regions are cut out of pictures, and no post to learn from has one: give --images, or --regions null"
            )
        processor = Processor(ProcessorConfig(regions=asdict(experiment.regions)))
        splits = {name: processor.add_regions(pairs, cache=cache, progress=progress) for name, pairs in splits.items()}
    if experiment.image == "none":
        return {name: [replace(pair, image_features=None) for pair in pairs] for name, pairs in splits.items()}
    if experiment.image_features == "backbone":
        return seen_by_backbone(
            splits,
            experiment.map,
            experiment.image,
            standardise=experiment.standardise,
            progress=progress,
        )
    if experiment.image_features == "caption":
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)  # a tiny-random reader is the same in every run
            reader = text_encoder(experiment.caption_encoder or experiment.encoder, splits["train"])
        if not isinstance(reader, TextEncoderModel):
            raise ValueError(f"{reader.name} reads no captions: give --caption_encoder, a Hugging Face encoder")
        return seen_by_caption(splits, reader, experiment.image, progress=progress)
    if all(pair.image_features is None for pair in splits["train"]):
        raise ValueError(
            f"{experiment.system} wants the picture's {experiment.image}, and no post to learn from has one "
            "in features.safetensors: give --features, or --image_features caption or backbone"
        )
    return splits


def _coverage(pairs: Sequence[Pair]) -> dict[str, int]:
    return {
        "pictures": sum(pair.image_path is not None for pair in pairs),
        "image vectors": sum(pair.image_features is not None for pair in pairs),
        "captions": sum(pair.caption is not None for pair in pairs),
        "objects": sum(bool(pair.objects) for pair in pairs),
        "region vectors": sum(any(thing.region is not None for thing in pair.objects) for pair in pairs),
    }
