"""Tiny randomly initialized models of transformers' classes, saved in folders as by `save_pretrained`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers as hf

from benchmarks.full_scale import letter_tokenizer
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.features.vision.grounding import GENERIC_QUERIES

VISION = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
SIZE = {"height": 32, "width": 32}


def save(folder: Path, model: Any, *processors: Any) -> str:
    """Save a model with its processors and return the folder."""
    for part in (model, *processors):
        part.save_pretrained(folder)
    return str(folder)


def tower(kind: str, folder: Path) -> str:
    """Save a vision model for images of 32 x 32 with 16 patches, or a ResNet, and return the folder."""
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


NET = {"d_model": 32, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 7}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
WIDE = {"encoder_ffn_dim": 32, "decoder_ffn_dim": 32}
SIDES = {"shortest_edge": 64, "longest_edge": 128}
LABELS = {0: "hat", 1: "dog", 2: "cat", 3: "man"}


def detector(kind: str, folder: Path) -> str:
    """Save an object detector with seven queries and four labels, and return the folder."""
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"embedding_size": 8, "hidden_sizes": [8, 8, 16, 16], "depths": [1, 1, 1, 1]}
    sizes["layer_type"] = "basic"
    levels = {"out_features": ["stage2", "stage3", "stage4"]}
    names = {"id2label": LABELS, "label2id": {name: label for label, name in LABELS.items()}}
    if kind == "detr":
        body = hf.ResNetConfig(**sizes, out_features=["stage4"])
        config = hf.DetrConfig(**NET, **HEADS, **WIDE, **names, backbone_config=body)
        return save(folder, hf.DetrForObjectDetection(config), hf.DetrImageProcessor(size=SIDES))
    if kind == "deformable detr":
        body = hf.ResNetConfig(**sizes, **levels)
        config = hf.DeformableDetrConfig(**NET, **HEADS, **WIDE, **names, backbone_config=body)
        model = hf.DeformableDetrForObjectDetection(config)
        return save(folder, model, hf.DeformableDetrImageProcessor(size=SIDES))
    if kind == "rt-detr":
        config = hf.RTDetrConfig(
            **{**NET, **HEADS, **WIDE, **names},
            backbone_config=hf.RTDetrResNetConfig(**sizes, **levels),
            encoder_hidden_dim=32,
            encoder_in_channels=[8, 16, 16],
            decoder_in_channels=[32, 32, 32],
            decoder_n_points=2,
            num_denoising=0,
        )
        processor = hf.RTDetrImageProcessor(size={"height": 64, "width": 64})
        return save(folder, hf.RTDetrForObjectDetection(config), processor)
    if kind == "yolos":
        config = hf.YolosConfig(**{**VISION, **names}, image_size=[64, 96], patch_size=16, num_detection_tokens=7)
        model = hf.YolosForObjectDetection(config)
        torch.nn.init.normal_(model.vit.embeddings.detection_tokens)
        return save(folder, model, hf.YolosImageProcessor(size=SIDES))
    raise KeyError(kind)


def tokenizer(length: int) -> hf.PreTrainedTokenizerFast:
    """Return a tokenizer of words and letters."""
    words = ("a", "the", "two", "hat", "dog", "cat", "man", "crowd", *GENERIC_QUERIES)
    return letter_tokenizer(words, length)


def grounder(kind: str, folder: Path) -> str:
    """Save a zero-shot detector and return the folder; Grounding DINO's text length is 32 pieces."""
    torch.manual_seed(0)
    text = {**VISION, "num_hidden_layers": 1, "vocab_size": 1030}
    if kind == "grounding dino":
        config = hf.GroundingDinoConfig(
            **{**NET, **HEADS, **WIDE},
            backbone_config=hf.SwinConfig(
                image_size=64,
                embed_dim=8,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 2, 2],
                window_size=4,
                out_features=["stage2", "stage3", "stage4"],
            ),
            text_config=hf.BertConfig(**text),
            max_text_len=32,
        )
        processor = hf.GroundingDinoProcessor(hf.GroundingDinoImageProcessor(size=SIDES), tokenizer(512))
        return save(folder, hf.GroundingDinoForObjectDetection(config), processor)
    vision = {**VISION, "num_hidden_layers": 1, "image_size": 64, "patch_size": 16}
    text |= {"max_position_embeddings": 16, "bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}
    size = {"height": 64, "width": 64}
    if kind == "owlv2":
        config = hf.Owlv2Config(text_config=text, vision_config=vision, projection_dim=16)
        processor = hf.Owlv2Processor(hf.Owlv2ImageProcessor(size=size), tokenizer(16))
        model = hf.Owlv2ForObjectDetection(config)
    elif kind == "owlvit":
        config = hf.OwlViTConfig(text_config=text, vision_config=vision, projection_dim=16)
        processor = hf.OwlViTProcessor(hf.OwlViTImageProcessor(size=size), tokenizer(16))
        model = hf.OwlViTForObjectDetection(config)
    else:
        raise KeyError(kind)
    with torch.no_grad():  # else every score is 0 or 1, and boxes are lines at the border
        for part in (model.class_head.logit_shift, model.class_head.logit_scale, model.box_head.dense2):
            part.weight.mul_(0.05)
    return save(folder, model, processor)


def captioner(kind: str, folder: Path) -> str:
    """Save a captioning model for images of 32 x 32 and return the folder."""
    torch.manual_seed(0)
    text = {**VISION, "vocab_size": 1030, "bos_token_id": 101, "eos_token_id": 102, "pad_token_id": 0}
    vision = {**VISION, "image_size": 32, "patch_size": 8}
    if kind == "blip":
        config = hf.BlipConfig(
            text_config={**text, "sep_token_id": 102, "encoder_hidden_size": 16, "projection_dim": 16},
            vision_config={**vision, "projection_dim": 16},
        )
        processor = hf.BlipProcessor(hf.BlipImageProcessor(size=SIZE), tokenizer(512))
        return save(folder, hf.BlipForConditionalGeneration(config), processor)
    if kind == "git":
        config = hf.GitConfig(**text, vision_config=vision)
        images = hf.CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=SIZE)
        return save(folder, hf.GitForCausalLM(config), hf.GitProcessor(images, tokenizer(512)))
    raise KeyError(kind)


def language_model(kind: str, folder: Path) -> str:
    """Save a language model, causal or with encoder and decoder, and return the folder."""
    torch.manual_seed(0)
    pieces = tiny_encoder(["rain", "paris", "singer"]).tokenizer.tokenizer
    ids = {"vocab_size": len(pieces), "bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    if kind == "gpt2":
        config = hf.GPT2Config(n_positions=512, n_embd=16, n_layer=2, n_head=2, initializer_range=0.5, **ids)
        return save(folder, hf.GPT2LMHeadModel(config), pieces)
    if kind == "t5":
        sizes = {"d_model": 16, "d_kv": 8, "d_ff": 32, "num_layers": 2, "num_heads": 2, "decoder_start_token_id": 0}
        model = hf.T5ForConditionalGeneration(hf.T5Config(**sizes, **ids))
        return save(folder, model, pieces)
    raise KeyError(kind)
