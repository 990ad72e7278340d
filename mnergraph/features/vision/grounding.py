"""Phrase grounding by zero-shot detectors of transformers: Grounding DINO and OWL (UMGF)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor
from transformers import AutoConfig, AutoModelForZeroShotObjectDetection, AutoProcessor

from mnergraph.features.pretrained import (
    PRETRAINED,
    from_transformers,
    load_processor,
    name_with_weights,
    pixel_tensors,
)
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.boxes import best_objects, clip_boxes, evidence_of_objects, to_xyxy
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.features.vision.grounding_prompts import DinoPrompt, OwlPrompt
from mnergraph.pair import DetectedObject

#: Queries by which UMGF detects objects that no phrase names ("Edge Construction").
GENERIC_QUERIES = ("miscellaneous", "person", "location", "organization")


#: The prompt format of a model, by the model type in its configuration.
PROMPTS: dict[str, Callable[[Any], DinoPrompt | OwlPrompt]] = {
    "grounding-dino": lambda config: DinoPrompt(config.max_text_len),
    "mm-grounding-dino": lambda config: DinoPrompt(config.max_text_len),
    "owlvit": lambda config: OwlPrompt(),
    "owlv2": lambda config: OwlPrompt(square=True),
}


@dataclass(frozen=True)
class PhraseGrounder(Extractor):
    """Boxes of the noun phrases of the sentence and of generic queries, by zero-shot detection.

    The label of an object is its phrase, its ``span`` that of the phrase, None for a generic query. A box that is
    selected for two phrases gives two objects.

    Args:
        model: hub name or folder, such as ``IDEA-Research/grounding-dino-tiny`` or
            ``google/owlv2-base-patch16-ensemble``.
        weights: ``pretrained``, or ``random`` for the model's configuration with random weights.
        generic_queries: queries for every image, independent of the sentence.
        threshold: minimum score of a box (exclusive).
        top_k_per_phrase: maximum number of boxes of a phrase, by score.
        region_encoder: gives a box's crop as its region vector; None for objects without.
        seed: of random weights.
    """

    needs_phrases: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = ("objects",)
    model: str
    weights: Literal["pretrained", "random"] = PRETRAINED
    generic_queries: tuple[str, ...] = GENERIC_QUERIES
    threshold: float = 0.25
    top_k_per_phrase: int = 1
    region_encoder: RegionEncoder | None = None
    seed: int = 0

    @property
    def name(self) -> str:
        vectors = f"-{self.region_encoder.name}" if self.region_encoder else ""
        return f"{name_with_weights(self.model, self.weights, self.seed)}-{self.top_k_per_phrase}-per-phrase{vectors}"

    @cached_property
    def prompt(self) -> DinoPrompt | OwlPrompt:
        """The prompt format of this model."""
        config = load_processor(AutoConfig, self.model)
        if config.model_type not in PROMPTS:
            known = ", ".join(PROMPTS)
            raise ValueError(f"{self.model} is of type {config.model_type}; what grounds is of {known}")
        return PROMPTS[config.model_type](config)

    @cached_property
    def processor(self) -> Any:
        """The image processor and tokenizer of the model."""
        return load_processor(AutoProcessor, self.model)

    @cached_property
    def network(self) -> Any:
        net = from_transformers(
            AutoModelForZeroShotObjectDetection,
            self.model,
            self.weights,
            description="zero-shot object detector",
            seed=self.seed,
        )
        _ = self.prompt  # raises for an unsupported model before the first image
        return net

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        texts = [phrase.text for phrase in self._queries(phrases)]
        return {
            **pixel_tensors(self.processor.image_processor, image),
            **self.prompt.encode(self.processor.tokenizer, texts),
        }

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        queries = [self._queries(item.phrases) for item in items]
        most = max(map(len, queries), default=0)
        device = batch["pixel_values"].device
        if most == 0:
            return evidence_of_objects([()] * len(items), items, self.region_encoder, device)
        # [images, phrases, boxes], [images, phrases, boxes, 4]
        scores, boxes = self.prompt.predict(self.network, batch, most)
        top = scores.topk(min(self.top_k_per_phrase, scores.shape[-1]))
        # [images, phrases, per phrase], [images, phrases, per phrase, 4]
        values = top.values.cpu()
        chosen = to_xyxy(boxes.gather(2, top.indices[..., None].expand(-1, -1, -1, 4))).cpu()
        found = []
        for phrases, item, sure, where in zip(queries, items, values, chosen, strict=True):
            scale = torch.tensor(self.prompt.frame(item.size) * 2)
            objects = [
                DetectedObject(phrase.text, box, score, phrase.span)
                for place, phrase in enumerate(phrases)
                for box, score in zip(clip_boxes(where[place] * scale, item.size), sure[place].tolist(), strict=True)
                if score > self.threshold
            ]
            found.append(best_objects(objects))
        return evidence_of_objects(found, items, self.region_encoder, device)

    def _queries(self, phrases: Sequence[Phrase]) -> list[Phrase]:
        return [*phrases, *(Phrase(word) for word in self.generic_queries)]
