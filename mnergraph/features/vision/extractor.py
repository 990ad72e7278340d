"""The interface of image extractors, and the data set that loads and preprocesses images for them.

``extractor.extract(images, phrases)`` yields an `ImageEvidence` for every image, in order. The settings of an
extractor are the fields of a frozen dataclass; `Extractor.identity` returns them with the checksum of the weights.
Device, workers and batch size do not change the results and are arguments of the call.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from mnergraph.features.pretrained import display_name, processor_settings, state_dict_sha256
from mnergraph.features.text.noun_chunks import Chunker, Phrase, WholeSentence
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.image_io import ImageError, ImageIssue, open_image

#: An image: path or open Pillow image.
ImageSource = str | Path | Image.Image


class Preprocessor(Protocol):
    """Converts an image to tensors; implemented by `Extractor`."""

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        """Return an image and its phrases as tensors."""


class LoadResult(NamedTuple):
    """The result of loading an image: its index in the run, its size in pixels, and what is unusual about it."""

    position: int
    size: tuple[int, int] = (0, 0)
    issue: ImageIssue | None = None


#: A loaded image and its tensors; None if it cannot be used.
Sample = tuple[LoadResult, dict[str, Tensor] | None]


class ImageDataset(Dataset[Sample]):
    """Data set of images, which are opened and preprocessed on access."""

    def __init__(
        self, extractor: Preprocessor, sources: Sequence[ImageSource], phrases: Sequence[Sequence[Phrase]]
    ) -> None:
        self.extractor, self.sources, self.phrases = extractor, sources, phrases

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, place: int) -> Sample:
        source = self.sources[place]
        id = str(place) if isinstance(source, Image.Image) else Path(source).stem
        try:
            loaded = open_image(source, id)
        except ImageError as error:
            return LoadResult(place, issue=error.issue), None
        try:
            tensors = self.extractor.preprocess(loaded.image, self.phrases[place])
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            detail = f"{id}: {loaded.image.width} x {loaded.image.height} pixels: {error}"
            return LoadResult(place, issue=ImageIssue(id, "unfit", detail)), None
        return LoadResult(place, loaded.image.size, loaded.issue), tensors


def collate_by_shape(samples: list[Sample]) -> list[tuple[list[LoadResult], dict[str, Tensor] | None]]:
    """Group samples by the shapes of their tensors and stack each group; samples without tensors form one group."""
    groups: dict[Any, list[Sample]] = {}
    for opened, tensors in samples:
        shapes = tensors and tuple((key, value.shape) for key, value in tensors.items())
        groups.setdefault(shapes, []).append((opened, tensors))
    return [
        (
            [opened for opened, _ in group],
            None
            if shapes is None
            else {key: torch.stack([tensors[key] for _, tensors in group if tensors]) for key, _ in shapes},
        )
        for shapes, group in groups.items()
    ]


class BatchImage(NamedTuple):
    """An image of a batch: its source, its upright size (width, height) in pixels, and its phrases."""

    source: ImageSource
    size: tuple[int, int]
    phrases: Sequence[Phrase] = ()


class Extractor(ABC):
    """Base of all extractors. A subclass is a frozen dataclass whose fields are its settings.

    It implements `preprocess`, which runs in loader workers, and `forward`, which runs the network on a batch. Only
    images whose tensors have the same shapes share a batch: nothing is padded to the size of others, and an image's
    features do not depend on the rest of the batch.

    Attributes:
        version: raised when the same settings and weights give other results than before.
        needs_phrases: whether it takes the noun phrases of the sentence.
        needs_sentence: whether it takes the whole sentence, as one phrase.
        provides: the evidence that it computes: ``objects``, ``image``, ``caption``, ``context``.
        sources: the sources of the context that it computes, such as ``ocr``.
        processor: image processor of a model of transformers; None for others.
    """

    version: ClassVar[int] = 1
    needs_phrases: ClassVar[bool] = False
    needs_sentence: ClassVar[bool] = False
    provides: ClassVar[tuple[str, ...]] = ("objects", "image", "caption")
    sources: ClassVar[tuple[str, ...]] = ()
    processor: ClassVar[Any] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """Short name for folders and metadata; it contains ``random`` where the weights are."""

    @cached_property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network, frozen, in evaluation mode, built on first access."""

    @abstractmethod
    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        """Return an upright RGB image and its phrases as CPU tensors; runs in loader workers."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        """Return the evidence of a batch of preprocessed images, one per item, with CPU tensors.

        Args:
            batch: the stacked tensors of `preprocess`, on the device.
            items: the images of the batch.
        """

    def extract(
        self,
        images: Sequence[ImageSource],
        phrases: Sequence[Sequence[Phrase]] | None = None,
        *,
        batch_size: int = 16,
        num_workers: int = 0,
        device: str | torch.device = "cpu",
        progress: bool = True,
    ) -> Iterator[ImageEvidence]:
        """Yield the evidence of every image, in order, computed batch by batch.

        The `ImageEvidence` of an image that cannot be used holds its ``issue`` and nothing else.

        Args:
            images: paths, or open Pillow images.
            phrases: noun phrases of every image's sentence, for extractors with ``needs_phrases``.
            batch_size: images at once.
            num_workers: worker processes that load and preprocess images; 0 uses the main process.
            device: device of the network.
            progress: whether to show a progress bar.

        Raises:
            ValueError: when the number of phrase sequences is not that of images, or the extractor takes no phrases.
        """
        if phrases is not None and not self.needs_phrases:
            raise ValueError(f"{type(self).__name__} reads no phrases; a grounder does")
        if phrases is not None and len(phrases) != len(images):
            raise ValueError(f"{len(phrases)} sequences of phrases for {len(images)} images")
        prepared = ImageDataset(self, images, phrases or [()] * len(images))
        return self._run(prepared, batch_size, num_workers, torch.device(device), progress)

    @classmethod
    def chunker_for(cls, chunker: Chunker) -> Chunker | None:
        """Return what finds the phrases that it takes: the whole sentence, or ``chunker``; None where it takes none."""
        return WholeSentence() if cls.needs_sentence else chunker if cls.needs_phrases else None

    def identity(self) -> dict[str, Any]:
        """Return everything that determines the results, as plain JSON data: equal identities give equal features.

        It holds class, version, settings, those of the image processor, and the SHA-256 of the weights; of paths only
        the last part, since the checksum covers their content.
        """
        return {
            "extractor": type(self).__name__,
            "version": self.version,
            "settings": extractor_settings(self),
            "weights": state_dict_sha256(self.network),
            "processor": self.processor and processor_settings(self.processor),
        }

    @torch.no_grad()
    def _run(
        self, prepared: ImageDataset, batch_size: int, workers: int, device: torch.device, progress: bool
    ) -> Iterator[ImageEvidence]:
        self.network.to(device)
        _ = self.processor  # build it once, not in every worker
        loader: DataLoader[Any] = DataLoader(
            prepared,
            batch_size,
            num_workers=workers,
            collate_fn=collate_by_shape,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # leaves torch's global random state unchanged
        )
        bar = tqdm(total=len(prepared), desc=self.name, unit="image", disable=not progress, mininterval=0.5)
        with bar:
            for groups in loader:
                results: dict[int, ImageEvidence] = {}
                for opened, tensors in groups:
                    if tensors is None:
                        results |= {image.position: ImageEvidence(issue=image.issue) for image in opened}
                        continue
                    items = [
                        BatchImage(prepared.sources[one.position], one.size, prepared.phrases[one.position])
                        for one in opened
                    ]
                    batch = {key: value.to(device, non_blocking=True) for key, value in tensors.items()}
                    for image, evidence in zip(opened, self.forward(batch, items), strict=True):
                        results[image.position] = replace(evidence, size=image.size, issue=image.issue)
                bar.update(len(results))
                yield from (results[index] for index in sorted(results))

    def __getstate__(self) -> dict[str, Any]:
        # workers need settings and image processor, not the network
        return {key: value for key, value in self.__dict__.items() if key != "network"}


def extractor_settings(extractor: Any) -> dict[str, Any]:
    """Return the fields of an extractor as plain JSON data, of paths only the last part."""
    values: dict[str, Any] = {}
    for setting in fields(extractor):
        value = getattr(extractor, setting.name)
        if hasattr(value, "identity"):
            value = value.identity()
        elif isinstance(value, str) and setting.name in ("model", "weights"):
            value = display_name(value)
        values[setting.name] = value
    return json.loads(json.dumps(values))
