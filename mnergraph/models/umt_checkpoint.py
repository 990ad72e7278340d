"""Checkpoints of UMT's authors (``pytorch_model.bin`` of ``run_mtmner_crf.py``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from torch import Tensor

from mnergraph.features.text.encoder import TextEncoderModel
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
from mnergraph.models.umt import IMAGE_AWARE_WORDS, QUERY_IMAGE, UMT, WORD_AWARE_IMAGE


def read(
    checkpoint: Checkpoint, encoder: TextEncoderModel, labels: LabelSet, types: Sequence[str], *, num_heads: int = 12
) -> tuple[UMT, Filled]:
    """Return UMT's released variant for a checkpoint, and what fills it; see `convert`."""
    model = UMT(
        encoder,
        labels,
        variant="released",
        image_dim=checkpoint["vismap2text.weight"].shape[1],
        intermediate_size=len(checkpoint["self_attention.layer.0.intermediate.dense.bias"]),
        num_heads=num_heads,
    )
    return model, _fill(model, checkpoint, types)


def _fill(model: UMT, checkpoint: Checkpoint, types: Sequence[str]) -> Filled:
    layers = cast(dict[str, Any], layers_by_name(model))
    yield from bert(cast(TextEncoderModel, model.encoder), checkpoint)
    yield from transformer_layer(layers["TransformerLayer span_states"], checkpoint, "self_attention")
    yield from transformer_layer(layers["TransformerLayer token"], checkpoint, "self_attention_v2")
    yield from transformer_layer(layers[f"TransformerLayer {WORD_AWARE_IMAGE}"], checkpoint, "txt2img_attention")
    names = ("img2txt_attention", "txt2txt_attention")
    yield from co_attention(layers[f"CoAttention {IMAGE_AWARE_WORDS}"], checkpoint, names)
    yield layers["ImageEncoder image"].linear, "vismap2text", checkpoint.linear("vismap2text")
    yield layers[f"ImageEncoder {QUERY_IMAGE}"].linear, "vismap2text_v2", checkpoint.linear("vismap2text_v2")
    gate, weights = layers[f"FeatureModule {WORD_AWARE_IMAGE}"].module, checkpoint.linear("gate")
    first, second = halves(weights["weight"])
    yield gate.a, "gate", {"weight": first, "bias": weights["bias"]}
    yield gate.b, "gate", {"weight": second}
    yield from umt_heads(model, checkpoint, types)


def halves(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two halves of a weight's columns, of a map of two concatenated features."""
    middle = weight.shape[1] // 2
    return weight[:, :middle], weight[:, middle:]
