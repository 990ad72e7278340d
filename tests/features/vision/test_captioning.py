"""Captions equal those of a direct call of the model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import tiny_models
import torch
import transformers as hf
from odd_images import noise

from mnergraph.features.vision.captioning import Captioner
from mnergraph.pair import Pair

IMAGES = [noise(50, 40, seed) for seed in range(3)]


@pytest.mark.parametrize("kind", ["blip", "git"])
@pytest.mark.parametrize("beams", [1, 2])
@torch.no_grad()
def test_a_caption_is_what_the_model_writes(kind: str, beams: int, tmp_path: Path) -> None:
    folder = tiny_models.captioner(kind, tmp_path / kind)
    extractor = Captioner(folder, max_new_tokens=6, num_beams=beams)
    found = list(extractor.extract(IMAGES, progress=False))
    model = hf.AutoModelForImageTextToText.from_pretrained(folder).eval()
    processor = hf.AutoProcessor.from_pretrained(folder)
    for image, evidence in zip(IMAGES, found, strict=True):
        inputs = processor.image_processor(images=image, return_tensors="pt")
        written = model.generate(**inputs, max_new_tokens=6, num_beams=beams, do_sample=False)
        assert evidence.caption == processor.decode(written[0], skip_special_tokens=True).strip()
        assert evidence.caption
        assert evidence.objects is None
        assert evidence.attach_to(Pair(("a",))).caption == evidence.caption
    shorter = replace(extractor, max_new_tokens=2).extract(IMAGES[:1], progress=False)
    assert len(next(shorter).caption or "") < len(found[0].caption or "")


def test_names(tmp_path: Path) -> None:
    drawn = Captioner("Salesforce/blip", weights="random")
    assert drawn.name == "Salesforce--blip-random-seed0-1-beams"
    with pytest.raises(OSError, match=r"no image-to-text model at '.*nowhere': give the name"):
        _ = Captioner(str(tmp_path / "nowhere")).network
