"""Phrases to the boxes they speak of, by transformers' zero-shot detection: Grounding DINO and OWL (UMGF)."""

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

#: The words with which UMGF looks for objects that no phrase names ("Edge Construction").
GENERIC_QUERIES = ("miscellaneous", "person", "location", "organization")


#: How phrases are put to a model, and its scores read, by the type in its configuration.
PROMPTS: dict[str, Callable[[Any], DinoPrompt | OwlPrompt]] = {
    "grounding-dino": lambda config: DinoPrompt(config.max_text_len),
    "mm-grounding-dino": lambda config: DinoPrompt(config.max_text_len),
    "owlvit": lambda config: OwlPrompt(),
    "owlv2": lambda config: OwlPrompt(square=True),
}


@dataclass(frozen=True)
class PhraseGrounder(Extractor):
    """The boxes that each phrase of the sentence grounds, and those of the general words.

    An object is a phrase and a box: its label is the phrase, its ``words`` the phrase's span, None for a
    general word. A box that two phrases ground is two objects.

    Args:
        model: hub name or folder, such as ``IDEA-Research/grounding-dino-tiny`` or
            ``google/owlv2-base-patch16-ensemble``.
        weights: ``pretrained``, or ``random`` for the model's configuration with weights nobody trained.
        generic_queries: words to look for in every picture.
        threshold: the score that a box must exceed.
        top_k_per_phrase: as many boxes as a phrase keeps, best first.
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
        """How this model is asked."""
        config = load_processor(AutoConfig, self.model)
        if config.model_type not in PROMPTS:
            known = ", ".join(PROMPTS)
            raise ValueError(f"{self.model} is of type {config.model_type}; what grounds is of {known}")
        return PROMPTS[config.model_type](config)

    @cached_property
    def processor(self) -> Any:
        """What prepares pictures and phrases for the model."""
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
        _ = self.prompt  # says so before the first picture if it can't be asked
        return net

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase]) -> dict[str, Tensor]:
        texts = [phrase.text for phrase in self._asked(phrases)]
        return {
            **pixel_tensors(self.processor.image_processor, image),
            **self.prompt.encode(self.processor.tokenizer, texts),
        }

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        asked = [self._asked(item.phrases) for item in items]
        most = max(map(len, asked), default=0)
        device = batch["pixel_values"].device
        if most == 0:
            return evidence_of_objects([()] * len(items), items, self.region_encoder, device)
        # [pictures, phrases, boxes], [pictures, phrases, boxes, 4]
        scores, boxes = self.prompt.predict(self.network, batch, most)
        top = scores.topk(min(self.top_k_per_phrase, scores.shape[-1]))
        # [pictures, phrases, per phrase], [pictures, phrases, per phrase, 4]
        values = top.values.cpu()
        chosen = to_xyxy(boxes.gather(2, top.indices[..., None].expand(-1, -1, -1, 4))).cpu()
        found = []
        for phrases, item, sure, where in zip(asked, items, values, chosen, strict=True):
            scale = torch.tensor(self.prompt.frame(item.size) * 2)
            objects = [
                DetectedObject(phrase.text, box, score, phrase.words)
                for place, phrase in enumerate(phrases)
                for box, score in zip(clip_boxes(where[place] * scale, item.size), sure[place].tolist(), strict=True)
                if score > self.threshold
            ]
            found.append(best_objects(objects))
        return evidence_of_objects(found, items, self.region_encoder, device)

    def _asked(self, phrases: Sequence[Phrase]) -> list[Phrase]:
        return [*phrases, *(Phrase(word) for word in self.generic_queries)]
