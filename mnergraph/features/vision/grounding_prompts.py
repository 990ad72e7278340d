"""Prompt formats of zero-shot detectors: encode phrases, and compute scores and boxes per phrase."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: Phrases, or their word pieces, are padded to a multiple of this, so that more images share a batch.
PAD_MULTIPLE = 16


@dataclass(frozen=True)
class DinoPrompt:
    """Grounding DINO reads all phrases in one text, "a hat. the crowd."; a query scores every piece of it.

    A phrase's score is that of its best piece. What is longer than the model reads becomes several texts,
    each read with the image.

    Args:
        longest: pieces that the model reads at once.
    """

    longest: int

    def encode(self, tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` and, for every piece, the number of its phrase or -1: ``[texts, pieces]`` each."""
        start, end = tokenizer.cls_token_id, tokenizer.sep_token_id
        (stop,) = tokenizer(".", add_special_tokens=False)["input_ids"]
        rows: list[tuple[list[int], list[int]]] = [([start], [-1])]
        for number, text in enumerate(texts):
            # a full stop or question mark would end the phrase
            clean = " ".join(text.lower().replace(".", " ").replace("?", " ").split())
            ids = tokenizer(clean, add_special_tokens=False)["input_ids"] if clean else []
            ids = ids[: self.longest - 3]
            if len(rows[-1][0]) + len(ids) + 2 > self.longest:
                rows.append(([start], [-1]))
            if ids:
                rows[-1][0].extend([*ids, stop])
                rows[-1][1].extend([*([number] * len(ids)), -1])
        length = -(-(max(len(ids) for ids, _ in rows) + 1) // PAD_MULTIPLE) * PAD_MULTIPLE
        pieces = torch.zeros(len(rows), length, dtype=torch.long)
        owners = torch.full((len(rows), length), -1)
        for row, (ids, numbers) in enumerate(rows):
            pieces[row, : len(ids) + 1] = torch.tensor([*ids, end])
            owners[row, : len(ids)] = torch.tensor(numbers)
        mask = torch.tensor([[place <= len(ids) for place in range(length)] for ids, _ in rows])
        return {"input_ids": pieces, "attention_mask": mask.long(), "owners": owners}

    def predict(self, net: Any, batch: Mapping[str, Tensor], phrases: int) -> tuple[Tensor, Tensor]:
        """Scores ``[images, phrases, boxes]`` and boxes ``[images, phrases, boxes, 4]``, in 0 to 1."""
        pixel_inputs = {key: batch[key] for key in ("pixel_values", "pixel_mask") if key in batch}
        scores: Tensor | None = None
        boxes: Tensor | None = None
        for row in range(batch["input_ids"].shape[1]):
            owners = batch["owners"][:, row]
            said = net(
                input_ids=batch["input_ids"][:, row],
                attention_mask=batch["attention_mask"][:, row],
                **pixel_inputs,
            )
            # [images, queries, pieces]; the model pads its own to the longest text it reads
            sure = said.logits.sigmoid()[..., : owners.shape[1]]
            # a phrase's score is that of its best piece; what belongs to no phrase goes to the first column
            best = sure.new_zeros(*sure.shape[:2], phrases + 1)
            best = best.scatter_reduce(2, 1 + owners[:, None].expand_as(sure), sure, "amax")
            # [images, phrases, queries], [images, phrases, queries, 4]
            best = best[..., 1:].transpose(1, 2)
            here = said.pred_boxes[:, None].expand(-1, phrases, -1, -1)
            if scores is None or boxes is None:
                scores, boxes = best, here
                continue
            # [images, phrases]: whether this text holds the phrase
            held = (owners[:, None] == torch.arange(phrases, device=owners.device)[:, None]).any(-1)
            scores = best.where(held[..., None], scores)
            boxes = here.where(held[..., None, None], boxes)
        assert scores is not None
        assert boxes is not None
        return scores, boxes

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels of what boxes in 0 to 1 are parts of."""
        return size


@dataclass(frozen=True)
class OwlPrompt:
    """OWL reads every phrase by itself; every patch of the image scores each.

    Args:
        square: whether images are letterboxed to a square, below or on the right (OWLv2).
    """

    square: bool = False

    def encode(self, tokenizer: Any, texts: Sequence[str]) -> dict[str, Tensor]:
        """``input_ids`` and ``attention_mask`` ``[phrases, 16]``; rows of zeros stand for no phrase."""
        length = min(16, tokenizer.model_max_length)
        count = max(1, -(-len(texts) // PAD_MULTIPLE)) * PAD_MULTIPLE
        ids, mask = (torch.zeros(count, length, dtype=torch.long) for _ in range(2))
        if texts:
            made = tokenizer(
                list(texts),
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )
            ids[: len(texts)], mask[: len(texts)] = made["input_ids"], made["attention_mask"]
        mask[len(texts) :, 0] = 1  # attention over nothing is not a number
        return {"input_ids": ids, "attention_mask": mask}

    def predict(self, net: Any, batch: Mapping[str, Tensor], phrases: int) -> tuple[Tensor, Tensor]:
        """Scores ``[images, phrases, boxes]`` and boxes ``[images, phrases, boxes, 4]``, in 0 to 1."""
        said = net(
            pixel_values=batch["pixel_values"],
            input_ids=batch["input_ids"].flatten(0, 1),
            attention_mask=batch["attention_mask"].flatten(0, 1),
        )
        # [images, patches, phrases] -> [images, phrases, patches]
        scores = said.logits.sigmoid().transpose(1, 2)[:, :phrases]
        return scores, said.pred_boxes[:, None].expand(-1, phrases, -1, -1)

    def frame(self, size: tuple[int, int]) -> tuple[int, int]:
        """Width and height in pixels of what boxes in 0 to 1 are parts of."""
        return (max(size), max(size)) if self.square else size
