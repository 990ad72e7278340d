"""What a language model writes about a post: context of the source ``knowledge`` (PGIM, first stage).

The prompt is a template with ``{text}``, the post's words, and ``{caption}``, a captioner's sentence on its image:
`PROMPT` asks for the named entities and the reasons, as the knowledge that comes with PGIM's release reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from string import Formatter
from typing import Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from mnergraph.features.pretrained import PRETRAINED, from_transformers, load_processor, name_with_weights
from mnergraph.features.text.noun_chunks import Phrase
from mnergraph.features.vision.captioning import Captioner
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import BatchImage, Extractor
from mnergraph.pair import ContextText

#: The source of the context.
SOURCE = "knowledge"
PROMPT = """Here is a post of a social network and a description of its image.
Post: {text}
Image: {caption}
Name the entities of the post (persons, locations, organizations, and others such as events and products), each with \
its type and what is known of it. Then give your reasons.
Named entities:"""


@dataclass(frozen=True)
class KnowledgeGenerator(Extractor):
    """Knowledge about a post by a language model of transformers, which reads its words and a caption of its image.

    Decoding is deterministic, without sampling. Entries of a store are of an image and its sentence, so that the posts
    must be given. Where the tokenizer has a chat template, the prompt is the user's message.

    Args:
        model: hub name or folder of a causal language model, or of one with encoder and decoder (T5).
        captioner: describes the image; None for a prompt of the post's words alone.
        prompt: the template; it has ``{text}``, and ``{caption}`` if there is a captioner, which the default needs.
        weights: ``pretrained``, or ``random`` for the model's configuration with random weights.
        max_new_tokens: maximum length of the knowledge in tokens.
        seed: of random weights.

    Raises:
        ValueError: for a template of other fields, or of a caption without a captioner or the reverse.
    """

    needs_phrases: ClassVar[bool] = True
    needs_sentence: ClassVar[bool] = True
    provides: ClassVar[tuple[str, ...]] = ("context",)
    sources: ClassVar[tuple[str, ...]] = (SOURCE,)
    model: str
    captioner: Captioner | None = None
    prompt: str = PROMPT
    weights: Literal["pretrained", "random"] = PRETRAINED
    max_new_tokens: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        try:
            fields = {name for _, name, _, _ in Formatter().parse(self.prompt) if name is not None}
        except ValueError as error:
            raise ValueError(f"the prompt is no template: {error}") from error
        if "text" not in fields or fields - {"text", "caption"}:
            raise ValueError(
                f"the prompt's fields are {sorted(fields)}; right are {{text}} and, if wanted, {{caption}}"
            )
        if ("caption" in fields) != (self.captioner is not None):
            raise ValueError(
                "the prompt has {caption} exactly where there is a captioner: give both, or a prompt without"
            )

    @property
    def name(self) -> str:
        described = "" if self.captioner is None else f"-{self.captioner.name}"
        return f"{name_with_weights(self.model, self.weights, self.seed)}{described}"

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the language model."""
        return load_processor(AutoTokenizer, self.model)

    @cached_property
    def network(self) -> nn.ModuleList:
        """The language model, and the captioner's network if there is one."""
        config = AutoConfig.from_pretrained(self.model, trust_remote_code=False)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        parts: list[nn.Module] = [
            from_transformers(kind, self.model, self.weights, description="language model", seed=self.seed)
        ]
        if self.captioner is not None:
            parts.append(self.captioner.network)
        return nn.ModuleList(parts)

    def preprocess(self, image: Image.Image, phrases: Sequence[Phrase] = ()) -> dict[str, Tensor]:
        return {"none": torch.zeros(0)} if self.captioner is None else self.captioner.preprocess(image)

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        captions = [""] * len(items)
        if self.captioner is not None:
            captions = [evidence.caption or "" for evidence in self.captioner.forward(batch, items)]
        texts = (" ".join(phrase.text for phrase in item.phrases) for item in items)
        prompts = [
            self.prompt.format(text=text, caption=caption) for text, caption in zip(texts, captions, strict=True)
        ]
        return [ImageEvidence(context=(ContextText(SOURCE, text),)) for text in self.generate(prompts)]

    def generate(self, prompts: Sequence[str]) -> list[str]:
        """Return what the model writes after each prompt, computed together where prompts are as long, unpadded."""
        encoded = [self._encode(prompt) for prompt in prompts]
        by_length: dict[int, list[int]] = {}
        for index, pieces in enumerate(encoded):
            by_length.setdefault(len(pieces), []).append(index)
        written = [""] * len(prompts)
        writer: Any = self.network[0]
        for length, indices in by_length.items():
            ids = torch.tensor([encoded[index] for index in indices], device=writer.device)
            made = writer.generate(
                input_ids=ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=self.max_new_tokens,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0,
            )
            new = made if writer.config.is_encoder_decoder else made[:, length:]
            for index, text in zip(indices, self.tokenizer.batch_decode(new, skip_special_tokens=True), strict=True):
                written[index] = " ".join(text.split())
        return written

    def _encode(self, prompt: str) -> list[int]:
        if getattr(self.tokenizer, "chat_template", None):
            message = [{"role": "user", "content": prompt}]
            chat = self.tokenizer.apply_chat_template(message, add_generation_prompt=True, tokenize=False)
            return list(self.tokenizer(chat, add_special_tokens=False)["input_ids"])
        return list(self.tokenizer(prompt)["input_ids"])
