"""Pictures on their way to a network: opened and prepared, by loader workers if asked, and stacked."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from mnergraph.features.faults import PictureError, PictureFault
from mnergraph.features.phrases import Phrase
from mnergraph.features.pictures import open_picture

#: What a picture may be given as.
Source = str | Path | Image.Image


class Preparer(Protocol):
    """What prepares pictures: an `Extractor`."""

    def prepare(self, picture: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        """A picture and its phrases as tensors."""


class Opened(NamedTuple):
    """What a worker says of a picture: its place in the run, and what was found on opening it."""

    place: int
    size: tuple[int, int] = (0, 0)
    fault: PictureFault | None = None


#: A picture and its tensors, or None where it can't be used.
Sample = tuple[Opened, dict[str, Tensor] | None]


class PictureDataset(Dataset[Sample]):
    """Pictures of a run, opened and prepared when asked for."""

    def __init__(
        self, extractor: Preparer, sources: Sequence[Source], phrases: Sequence[Sequence[Phrase]]
    ) -> None:
        self.extractor, self.sources, self.phrases = extractor, sources, phrases

    def __len__(self) -> int:
        return len(self.sources)

    def __getitem__(self, place: int) -> Sample:
        source = self.sources[place]
        id = str(place) if isinstance(source, Image.Image) else Path(source).stem
        try:
            picture = open_picture(source, id)
        except PictureError as error:
            return Opened(place, fault=error.fault), None
        try:
            tensors = self.extractor.prepare(picture.image, self.phrases[place])
        except (ValueError, RuntimeError, ZeroDivisionError) as error:
            detail = f"{id}: {picture.image.width} x {picture.image.height} pixels: {error}"
            return Opened(place, fault=PictureFault(id, "unfit", detail)), None
        return Opened(place, picture.image.size, picture.fault), tensors


def by_shape(samples: list[Sample]) -> list[tuple[list[Opened], dict[str, Tensor] | None]]:
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
