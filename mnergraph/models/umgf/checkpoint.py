"""Checkpoints of UMGF's authors (``model.pt`` of ``ddp_mmner.py``), the ResNet among their weights."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from mnergraph.features.pretrained import RANDOM
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.labels import LabelSet
from mnergraph.models.authors_checkpoint import (
    Checkpoint,
    CheckpointError,
    Filled,
    bert,
    layers_by_name,
    tag_scores,
    typed_tags,
)
from mnergraph.models.umgf.model import (
    OBJECTS,
    RELEASED,
    TO_OBJECTS,
    TO_TOKENS,
    TOKENS,
    UMGF,
    ResNetConfig,
)
from mnergraph.models.umt_checkpoint import halves

#: Entity types in the order of UMGF's code.
UMGF_TYPES = ("PER", "LOC", "ORG", "OTHER")
#: Blocks in the four stages of torchvision's ResNets of bottlenecks, and of basic blocks.
_BOTTLENECKS = {(3, 4, 6, 3): "resnet50", (3, 4, 23, 3): "resnet101", (3, 8, 36, 3): "resnet152"}
_BASIC_BLOCKS = {(2, 2, 2, 2): "resnet18", (3, 4, 6, 3): "resnet34"}


def read(
    checkpoint: Checkpoint, encoder: TextEncoderModel, labels: LabelSet, types: Sequence[str], *, num_heads: int = 8
) -> tuple[UMGF, Filled]:
    """Return UMGF's released variant for a checkpoint, with its ResNet, and what fills it; see `convert`."""
    numbers = [int(match[1]) for name in checkpoint.tensors if (match := re.match(r"mhatt_x\.(\d+)\.", name))]
    model = UMGF(
        encoder,
        labels,
        variant=replace(RELEASED, intermediate_size=len(checkpoint["ffn_x.0.w_1.bias"])),
        resnet=ResNetConfig(_resnet(checkpoint), RANDOM),
        hidden_size=len(checkpoint["trans_txt.bias"]),
        num_layers=max(numbers, default=0) + 1,
        num_heads=num_heads,
    )
    return model, _fill(model, checkpoint, types)


def _resnet(checkpoint: Checkpoint) -> str:
    """Return torchvision's name of the checkpoint's ResNet, by its number of blocks."""
    blocks = [{m[2] for name in checkpoint.tensors if (m := re.match(r"resnet\.layer(\d)\.(\d+)\.", name))
               and m[1] == stage} for stage in "1234"]  # fmt: skip
    counts = (len(blocks[0]), len(blocks[1]), len(blocks[2]), len(blocks[3]))
    known = _BOTTLENECKS if "resnet.layer1.0.conv3.weight" in checkpoint else _BASIC_BLOCKS
    if counts not in known:
        raise CheckpointError(f"{checkpoint.source} has no ResNet of torchvision: {counts} blocks in its four stages")
    return known[counts]


def _fill(model: UMGF, checkpoint: Checkpoint, types: Sequence[str]) -> Filled:
    layers = cast(dict[str, Any], layers_by_name(model))
    yield from bert(cast(TextEncoderModel, model.encoder), checkpoint)
    backbone = layers["PixelEncoder"].backbone
    for key in backbone.state_dict():
        if not key.endswith("num_batches_tracked"):
            yield backbone, f"resnet.{key}", {key: checkpoint[f"resnet.{key}"]}
    yield layers["ObjectEncoder"].region, "resnet.fc", checkpoint.linear("resnet.fc")
    first = next(index for index, layer in enumerate(model.layers) if hasattr(layer, "types"))
    maps = cast(Any, model.layers[first]).types
    yield maps["token"], "trans_txt", checkpoint.linear("trans_txt")
    for index in (0, 3):
        yield maps["object"][index], f"trans_obj.{index}", checkpoint.linear(f"trans_obj.{index}")
    fusion = list(model.layers)[first + 1 : -1]
    for number, parts in enumerate(zip(fusion[::3], fusion[1::3], fusion[2::3], strict=True)):
        yield from _fusion_layer(cast(Any, parts), checkpoint, number)
    tags = ["PAD", *typed_tags(types), "O", "X", "[CLS]", "[SEP]"]
    decoder = cast(Any, model.heads["tags"]).decoder
    emit = layers["TaggingScores tags"].linear
    yield from tag_scores(emit, decoder, checkpoint, tags, scores="hidden2tag", crf="crf")


def _fusion_layer(parts: tuple[Any, Any, Any], checkpoint: Checkpoint, number: int) -> Filled:
    """Yield the weights of one fusion layer: attention, gates, feed-forward layers."""
    inside, between, alone = parts
    attention = dict(zip(inside.relations, inside.operators, strict=True))
    gates = dict(zip(between.relations, between.operators, strict=True))
    tokens, objects = attention[TOKENS], attention[OBJECTS]
    for index, linear in enumerate((tokens.query, tokens.key, tokens.value, tokens.output)):
        yield linear, *_linear(checkpoint, f"mhatt_x.{number}.linears.{index}")
    for index, linear in enumerate((objects.query, objects.key)):
        yield linear, *_linear(checkpoint, f"mhatt_o.{number}.linears.{index}")
    for relation, name in ((TO_TOKENS, "mhatt_x2o"), (TO_OBJECTS, "mhatt_o2x")):
        if relation in gates:  # the last layer has none to the objects
            weights = checkpoint.linear(f"{name}.{number}")
            of_tokens, of_objects = halves(weights["weight"])
            dst, src = (of_tokens, of_objects) if relation == TO_TOKENS else (of_objects, of_tokens)
            yield gates[relation].dst, f"{name}.{number}", {"weight": dst, "bias": weights["bias"]}
            yield gates[relation].src, f"{name}.{number}", {"weight": src}
    for node_type, letter in (("token", "x"), ("object", "o")):
        yield inside.residual[node_type].norm, *_linear(checkpoint, f"res4mes_{letter}.{number}.norm")
        if node_type not in alone.types:
            continue
        feed_forward = alone.types[node_type]
        yield between.residual[node_type].norm, *_linear(checkpoint, f"{letter}gate.{number}.norm")
        yield feed_forward.inner, *_linear(checkpoint, f"ffn_{letter}.{number}.w_1")
        yield feed_forward.outer, *_linear(checkpoint, f"ffn_{letter}.{number}.w_2")
        yield feed_forward.residual.norm, *_linear(checkpoint, f"res4ffn_{letter}.{number}.norm")


def _linear(checkpoint: Checkpoint, name: str) -> tuple[str, dict[str, Any]]:
    return name, checkpoint.linear(name)
