"""What all extractors with a model of transformers share: its name, its processor, its picture tensors."""

from __future__ import annotations

import json
from typing import Any

from PIL import Image
from torch import Tensor

from mnergraph.features.weights import RANDOM, known_as


def named(model: str, weights: str, seed: int) -> str:
    """What a model is called in folders and records; where its weights are random, it says so."""
    return known_as(model).replace("/", "--") + (f"-random-seed{seed}" if weights == RANDOM else "")


def processor(kind: Any, model: str) -> Any:
    """The processor of a model of transformers, by hub name or folder.

    Args:
        kind: AutoImageProcessor or AutoProcessor.
        model: hub name or folder.

    Raises:
        OSError: when it is not there; the message names the files that are wanted.
    """
    try:
        return kind.from_pretrained(model)
    except (OSError, ValueError) as error:
        raise OSError(
            f"no {kind.__name__} for {model!r}: beside the model lie preprocessor_config.json or "
            f"processor_config.json and, where it reads or writes text, its tokenizer's files ({error})"
        ) from error


def pixel_tensors(processor: Any, picture: Image.Image) -> dict[str, Tensor]:
    """One picture as the model's image processor makes it; the mask only where there is something to mask."""
    made = processor(images=picture, return_tensors="pt")
    wanted = {"pixel_values": made["pixel_values"][0]}
    mask = made.get("pixel_mask")
    return wanted if mask is None or mask.all() else {**wanted, "pixel_mask": mask[0]}


def facts(processor: Any) -> dict[str, Any]:
    """What a processor does to a picture, as plain JSON."""
    return json.loads(getattr(processor, "image_processor", processor).to_json_string())
