"""Checkpoints of MGCMT's authors (``pytorch_model.bin`` of ``run_mtmner_crf.py``, where it is called MSCMT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import torch

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.labels import LabelSet
from mnergraph.models.authors_checkpoint import (
    Checkpoint,
    Filled,
    bert,
    co_attention,
    layers_by_name,
    transformer_layer,
    umt_heads,
)
from mnergraph.models.mgcmt.layers import FUSED, TEXT_IMG, TEXT_OBJ, level_key
from mnergraph.models.mgcmt.model import MGCMT

#: The authors' layers by ours: self-attention of tokens, image and objects, then cross-attention to these.
_LAYERS = {
    "TransformerLayer span_states": "self_attention",
    "TransformerLayer token": "self_attention_v2",
    f"TransformerLayer {level_key('image', 'basic')}": "img2img_attention",
    f"TransformerLayer {level_key('image', 'superior')}": "img2img_attention_v2",
    f"TransformerLayer {level_key('object', 'basic')}": "obj2obj_attention",
    f"TransformerLayer {level_key('object', 'superior')}": "obj2obj_attention_v2",
    f"TransformerLayer {level_key(TEXT_IMG, 'basic')}": "txt2img_attention",
    f"TransformerLayer {level_key(TEXT_OBJ, 'basic')}": "txt2obj_attention",
}
_CO_ATTENTION = {
    f"CoAttention {level_key(TEXT_IMG, 'superior')}": ("img2txt_attention", "txt2txt_attention"),
    f"CoAttention {level_key(TEXT_OBJ, 'superior')}": ("obj2txt_attention", "txt2obj_attention_v2"),
}


def read(
    checkpoint: Checkpoint,
    encoder: TextEncoderModel,
    labels: LabelSet,
    types: Sequence[str],
    *,
    nearest_words: NearestWords,
    num_heads: int = 12,
) -> tuple[MGCMT, Filled]:
    """Return MGCMT's released variant for a checkpoint, and what fills it; see `convert`.

    The sums of nearest words are not in the checkpoint (``tweet_aug.npy``), so that their table must be given.
    """
    model = MGCMT(
        encoder,
        labels,
        variant="released",
        image_dim=checkpoint["vismap2text.weight"].shape[1],
        nearest_words=nearest_words,
        intermediate_size=len(checkpoint["self_attention.layer.0.intermediate.dense.bias"]),
        num_heads=num_heads,
    )
    return model, _fill(model, checkpoint, types)


def _fill(model: MGCMT, checkpoint: Checkpoint, types: Sequence[str]) -> Filled:
    layers = cast(dict[str, Any], layers_by_name(model))
    yield from bert(cast(TextEncoderModel, model.encoder), checkpoint)
    for ours, theirs in _LAYERS.items():
        yield from transformer_layer(layers[ours], checkpoint, theirs)
    for ours, names in _CO_ATTENTION.items():
        yield from co_attention(layers[ours], checkpoint, names)
    for linear, name in (
        (layers["HeteroLayer"].residual["token"].linear, "maug_linear"),
        (layers[f"ImageEncoder {level_key('image', 'basic')}"].linear, "vismap2text"),
        (layers[f"ImageEncoder {level_key('image', 'superior')}"].linear, "vismap2text_v2"),
        (layers[f"FeatureModule {FUSED}"].module.module[1], "fus3_linear"),
    ):
        yield linear, name, checkpoint.linear(name)
    # their rows are no object, COCO's 80 classes, and four that nothing reads; our last is for other labels
    table, classes = layers["ObjectClasses"].table, checkpoint["object_embeddings.weight"]
    yield table, "object_embeddings", {"weight": classes[: len(table.weight)]}
    for gated, name in ((TEXT_IMG, "fus1"), (TEXT_OBJ, "fus2")):
        gate = layers[f"FeatureModule {gated}"].module
        yield gate.a, f"{name}_w1", {"weight": checkpoint[f"{name}_w1"], "bias": checkpoint[f"{name}_bias"]}
        yield gate.b, f"{name}_w2", {"weight": checkpoint[f"{name}_w2"]}
    projection = layers["FeatureModule token"].module.module
    weight = torch.t(checkpoint["fusion_w"])
    yield projection, "fusion_w", {"weight": weight, "bias": checkpoint["fusion_bias"]}
    yield from umt_heads(model, checkpoint, types)
