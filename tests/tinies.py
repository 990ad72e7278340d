"""Tiny models of transformers' real classes with random weights, saved as folders like those of a hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZE = {"height": 32, "width": 32}


def save(folder: Path, model: Any, *processors: Any) -> str:
    for part in (model, *processors):
        part.save_pretrained(folder)
    return str(folder)


def tower(kind: str, folder: Path) -> str:
    """A vision model for pictures of 32 x 32 in 16 patches; the convolutional one makes a map of them."""
    torch.manual_seed(0)
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    text = {**VISION, "vocab_size": 20, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    if kind == "clip":
        model = hf.CLIPModel(hf.CLIPConfig(text_config=text, vision_config=vision, projection_dim=8))
        return save(folder, model, hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE))
    if kind == "siglip":
        config = hf.SiglipConfig(text_config=text, vision_config=vision)
        return save(folder, hf.SiglipModel(config), hf.SiglipImageProcessor(size=SIZE))
    if kind == "dinov2":
        config = hf.Dinov2WithRegistersConfig(**vision, num_register_tokens=3, mlp_ratio=2)
        return save(folder, hf.Dinov2WithRegistersModel(config), hf.ViTImageProcessor(size=SIZE))
    if kind == "vit without pooler":
        model = hf.ViTModel(hf.ViTConfig(**vision), add_pooling_layer=False)
        return save(folder, model, hf.ViTImageProcessor(size=SIZE))
    if kind == "resnet":
        config = hf.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], layer_type="basic")
        return save(folder, hf.ResNetModel(config), hf.ViTImageProcessor(size=SIZE))
    raise KeyError(kind)
