"""Pictures on their way to a network: opened and prepared, by loader workers if asked, and stacked.

Pictures in, evidence out: the one interface of all extractors.

``extractor.extract(pictures, phrases)`` gives a `Seen` for every picture, in order. What an extractor is
stands in its settings, the fields of a frozen dataclass; `Extractor.identity` tells them with the checksum
of its weights. How it runs (device, workers, batches) changes no result and stands in the call.
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
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.image_io import ImageError, ImageIssue, open_image

#: What a picture may be given as.
ImageSource = str | Path | Image.Image


class Preprocessor(Protocol):
    """What prepares pictures: an `Extractor`."""

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        """A picture and its phrases as tensors."""


class LoadResult(NamedTuple):
    """What a worker says of a picture: its place in the run, and what was found on opening it."""

    position: int
    size: tuple[int, int] = (0, 0)
    issue: ImageIssue | None = None


#: A picture and its tensors, or None where it can't be used.
Sample = tuple[LoadResult, dict[str, Tensor] | None]


class ImageDataset(Dataset[Sample]):
    """Pictures of a run, opened and prepared when asked for."""

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
            picture = open_image(source, id)
        except ImageError as error:
            return LoadResult(place, issue=error.issue), None
        try:
            tensors = self.extractor.preprocess(picture.image, self.phrases[place])
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            detail = f"{id}: {picture.image.width} x {picture.image.height} pixels: {error}"
            return LoadResult(place, issue=ImageIssue(id, "unfit", detail)), None
        return LoadResult(place, picture.image.size, picture.issue), tensors


def collate_by_shape(samples: list[Sample]) -> list[tuple[list[LoadResult], dict[str, Tensor] | None]]:
    """Samples grouped by the shapes of their tensors, which are stacked; those without any are one group."""
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
    """A picture of a batch: its source, its size in pixels when upright, and its phrases."""

    source: ImageSource
    size: tuple[int, int]
    phrases: Sequence[Phrase] = ()


class Extractor(ABC):
    """Base of all extractors. A subclass is a frozen dataclass whose fields are its settings.

    It says how a picture becomes tensors, which happens in loader workers, and what its network makes of a
    batch of these. Pictures whose tensors have the same shapes go through the network together: nothing is
    padded to its neighbour's size, and a picture's features do not depend on the others.

    Attributes:
        version: grows when the same settings and weights give other results than before.
        needs_phrases: whether it looks for phrases.
        gives: what it may find, by the names of `Pair`'s fields.
        processor: what prepares pictures for a model of transformers; None elsewhere.
    """

    version: ClassVar[int] = 1
    needs_phrases: ClassVar[bool] = False
    provides: ClassVar[tuple[str, ...]] = ("objects", "image", "caption")
    processor: ClassVar[Any] = None

    @property
    @abstractmethod
    def name(self) -> str:
        """What it is in a word, for folders and records; it says so where weights are random."""

    @cached_property
    @abstractmethod
    def network(self) -> nn.Module:
        """The network, frozen, in evaluation mode, made when first asked for."""

    @abstractmethod
    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        """A picture (upright, RGB) and its phrases as tensors; runs in workers, where there is no device."""

    @abstractmethod
    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        """What the network sees in prepared pictures, stacked, on the device; results are on the CPU."""

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
        """What it sees in every picture, in their order, batch by batch as it is read.

        A picture that can't be used stops nothing: its `ImageEvidence` says why and holds nothing else.

        Args:
            images: paths, or open pictures.
            phrases: of every picture's sentence, for an extractor that reads them.
            batch_size: pictures at once.
            num_workers: processes that open and prepare pictures beside the model; 0 for none.
            device: where the model runs.
            progress: whether to show a progress bar.

        Raises:
            ValueError: for phrases that are not one sequence per picture, or that it would not read.
        """
        if phrases is not None and not self.needs_phrases:
            raise ValueError(f"{type(self).__name__} reads no phrases; a grounder does")
        if phrases is not None and len(phrases) != len(images):
            raise ValueError(f"{len(phrases)} sequences of phrases for {len(images)} pictures")
        prepared = ImageDataset(self, images, phrases or [()] * len(images))
        return self._run(prepared, batch_size, num_workers, torch.device(device), progress)

    def identity(self) -> dict[str, Any]:
        """What decides the results, as plain JSON: equal identities give equal features.

        Class, version, settings, what the processor of a model of transformers does, and the SHA-256 of the
        weights; folders and files by their own name alone, as their content is in the checksum.
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
        _ = self.processor  # made here once, not in every worker
        loader: DataLoader[Any] = DataLoader(
            prepared,
            batch_size,
            num_workers=workers,
            collate_fn=collate_by_shape,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # else it would draw from torch's own random state
        )
        bar = tqdm(total=len(prepared), desc=self.name, unit="picture", disable=not progress, mininterval=0.5)
        with bar:
            for groups in loader:
                found: dict[int, ImageEvidence] = {}
                for opened, tensors in groups:
                    if tensors is None:
                        found |= {one.position: ImageEvidence(issue=one.issue) for one in opened}
                        continue
                    items = [
                        BatchImage(prepared.sources[one.position], one.size, prepared.phrases[one.position])
                        for one in opened
                    ]
                    batch = {key: value.to(device, non_blocking=True) for key, value in tensors.items()}
                    for one, seen in zip(opened, self.forward(batch, items), strict=True):
                        found[one.position] = replace(seen, size=one.size, issue=one.issue)
                bar.update(len(found))
                yield from (found[place] for place in sorted(found))

    def __getstate__(self) -> dict[str, Any]:
        # a worker needs the settings and what prepares a picture, not the network
        return {key: value for key, value in self.__dict__.items() if key != "network"}


def extractor_settings(extractor: Any) -> dict[str, Any]:
    """The fields of a dataclass of settings as plain JSON, paths by their own name, parts by theirs."""
    found: dict[str, Any] = {}
    for setting in fields(extractor):
        value = getattr(extractor, setting.name)
        if hasattr(value, "identity"):
            value = value.identity()
        elif isinstance(value, str) and setting.name in ("model", "weights"):
            value = display_name(value)
        found[setting.name] = value
    return json.loads(json.dumps(found))
