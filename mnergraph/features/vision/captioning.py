"""Captions by an image-to-text model of transformers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor

from mnergraph.features.pretrained import (
    PRETRAINED,
    from_transformers,
    load_processor,
    name_with_weights,
    pixel_tensors,
)
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence


@dataclass(frozen=True)
class Captioner(Extractor):
    """Captions by BLIP, BLIP-2, GIT or another image-to-text model that needs no prompt.

    Decoding is deterministic: beam search without sampling.

    Args:
        model: hub name or folder, such as ``Salesforce/blip-image-captioning-base``.
        weights: ``pretrained``, or ``random`` for the model's configuration with random weights.
        max_new_tokens: maximum length of a caption in tokens.
        num_beams: beams of the search; 1 is greedy decoding.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("caption",)
    model: str
    weights: Literal["pretrained", "random"] = PRETRAINED
    max_new_tokens: int = 30
    num_beams: int = 1
    seed: int = 0

    @property
    def name(self) -> str:
        return f"{name_with_weights(self.model, self.weights, self.seed)}-{self.num_beams}-beams"

    @cached_property
    def processor(self) -> Any:
        """The image processor and tokenizer of the model."""
        return load_processor(AutoProcessor, self.model)

    @cached_property
    def network(self) -> Any:
        return from_transformers(
            AutoModelForImageTextToText, self.model, self.weights, description="image-to-text model", seed=self.seed
        )

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return pixel_tensors(self.processor.image_processor, image)

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        # [images, pieces]
        token_ids = self.network.generate(
            **batch, max_new_tokens=self.max_new_tokens, num_beams=self.num_beams, do_sample=False
        )
        texts = self.processor.batch_decode(token_ids, skip_special_tokens=True)
        return [ImageEvidence(caption=" ".join(text.split())) for text in texts]
