"""The text in images, by RapidOCR: context of the source ``ocr``."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, ClassVar

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2.functional import pil_to_tensor

from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import BatchImage, Extractor
from mnergraph.pair import ContextText

#: The source of the context.
SOURCE = "ocr"


@dataclass(frozen=True)
class OCR(Extractor):
    """The lines of text in an image, by RapidOCR (PaddleOCR's models in ONNX, whose weights come with the package).

    Lines are joined by a space in the order of reading. An image without text has an empty text, so that it differs
    from one that was not read. It runs on the CPU and needs the extra ``ocr``.

    Args:
        min_score: lines of a lower confidence, 0 to 1, are left out.
        min_characters: shorter lines are left out, such as a single letter that is none.
    """

    provides: ClassVar[tuple[str, ...]] = ("context",)
    sources: ClassVar[tuple[str, ...]] = (SOURCE,)
    min_score: float = 0.5
    min_characters: int = 2

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ValueError(f"min_score is from 0 to 1, not {self.min_score}")

    @property
    def name(self) -> str:
        return f"rapidocr-{_rapidocr_version()}"

    @cached_property
    def network(self) -> nn.Module:
        return _Reader()

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return {"image": pil_to_tensor(image)}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        return [ImageEvidence(context=(ContextText(SOURCE, self._text(image)),)) for image in batch["image"]]

    def _text(self, image: Tensor) -> str:
        lines = self.network(image)
        kept = (text.strip() for text, score in lines if score >= self.min_score)
        return " ".join(text for text in kept if len(text) >= self.min_characters)

    def identity(self) -> dict[str, Any]:
        """Return what determines the results; the weights are the files of the package."""
        return super().identity() | {"weights": _weights_sha256()}


class _Reader(nn.Module):
    """RapidOCR's engine; it has no parameters of torch."""

    def __init__(self) -> None:
        super().__init__()
        _rapidocr_version()
        from rapidocr import RapidOCR

        self._engine = RapidOCR(params={"Global.log_level": "error"})

    @torch.no_grad()
    def forward(self, image: Tensor) -> list[tuple[str, float]]:
        """``[3, height, width]``, RGB, uint8 -> the lines and their confidence."""
        # RapidOCR takes BGR, as OpenCV does
        pixels = image.cpu().flip(0).permute(1, 2, 0).contiguous().numpy()
        found = self._engine(pixels)
        return [*zip(found.txts or (), found.scores or (), strict=True)]


def _rapidocr_version() -> str:
    try:
        version("onnxruntime")
        return version("rapidocr")
    except PackageNotFoundError as error:
        raise ValueError(f"OCR needs {error.name}, which is not installed: pip install 'mnergraph[ocr]'") from None


def _weights_sha256() -> str:
    """Return the SHA-256 of the package's models, which the version alone does not fix."""
    import rapidocr

    digest = hashlib.sha256()
    for path in sorted((Path(rapidocr.__file__).parent / "models").glob("*.onnx")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
