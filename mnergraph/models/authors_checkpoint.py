"""Checkpoints of the authors' own code, read into the released variants of UMT, UMGF and MGCMT.

A checkpoint is a state dict of tensors. Every one of the model's parameters is filled from it by the authors' names;
tensors that the computation does not use are returned, so that they can be listed.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.labels import SPECIAL_TAGS, LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import SPANS, TAGS
from mnergraph.nn.layers.transformer import CoAttention, TransformerLayer

#: Number of missing or misshapen names that an error lists.
LISTED = 10


class CheckpointError(ValueError):
    """A checkpoint that is not of the code that it is said to be of."""


@dataclass
class Checkpoint:
    """The tensors of a state dict, and which of them have been read.

    Args:
        tensors: by the authors' names.
        source: what the messages call it.

    Attributes:
        read: names of the tensors that have been read.
    """

    tensors: Mapping[str, Tensor]
    source: str = "the checkpoint"
    read: set[str] = field(default_factory=set)

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Return the state dict of a file: tensors only, nothing else in it is executed.

        Raises:
            FileNotFoundError: when there is no such file.
            CheckpointError: when it holds anything but a state dict.
        """
        if not path.is_file():
            raise FileNotFoundError(f"there is no checkpoint {path}")
        try:
            loaded = torch.load(path, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, ValueError) as error:
            raise CheckpointError(
                f"{path} is no state dict of tensors ({type(error).__name__}); of a whole pickled model save "
                "model.state_dict() first, with the authors' code"
            ) from None
        if not isinstance(loaded, dict) or not all(isinstance(value, Tensor) for value in loaded.values()):
            raise CheckpointError(f"{path} is no state dict: a dict of tensors by name was expected")
        # a model behind DataParallel
        wrapped = bool(loaded) and all(name.startswith("module.") for name in loaded)
        start = len("module.") if wrapped else 0
        return cls({name[start:]: value for name, value in loaded.items()}, str(path))

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def __getitem__(self, name: str) -> Tensor:
        """Return a tensor by the authors' name.

        Raises:
            CheckpointError: when there is none.
        """
        if name not in self.tensors:
            raise CheckpointError(f"{self.source} has no {name!r}; it has {', '.join(list(self.tensors)[:5])}, ...")
        self.read.add(name)
        return self.tensors[name]

    def linear(self, name: str) -> dict[str, Tensor]:
        """Return weight and bias of a linear layer or a layer norm."""
        return {"weight": self[f"{name}.weight"], "bias": self[f"{name}.bias"]}

    def unused(self) -> list[str]:
        """Return the names of the tensors that nothing has read."""
        return [name for name in self.tensors if name not in self.read]


#: What a system's reader yields: a module of the model, the authors' name, and the module's tensors from them.
Filled = Iterator[tuple[nn.Module, str, Mapping[str, Tensor]]]


def fill(model: Tagger, checkpoint: Checkpoint, filled: Filled) -> list[str]:
    """Set all weights of a model to those of a checkpoint; return the names of the tensors that are not used.

    Args:
        model: the model.
        checkpoint: the checkpoint.
        filled: for every module with parameters, its tensors in the checkpoint.

    Raises:
        CheckpointError: naming every tensor that is misshapen or missing.
    """
    faults: list[str] = []
    done: set[int] = set()
    for module, name, tensors in filled:
        own = dict(module.named_parameters()) | dict(module.named_buffers())
        for key, tensor in tensors.items():
            if own[key].shape != tensor.shape:
                faults.append(f"{name} is {list(tensor.shape)}, not {list(own[key].shape)}")
            else:
                own[key].data.copy_(tensor)
            done.add(id(own[key]))
    if faults:
        more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise CheckpointError(f"{checkpoint.source}: {'; '.join(faults[:LISTED])}{more}")
    weights = model.named_parameters()
    left = [name for name, weight in weights if id(weight) not in done and ".pooler." not in name]
    if left:
        raise AssertionError(f"the reader fills all parameters but {', '.join(left)}")
    return checkpoint.unused()


def bert(encoder: TextEncoderModel, checkpoint: Checkpoint, prefix: str = "bert") -> Filled:
    """Yield a BERT's weights, whose names are those of Hugging Face, in old checkpoints with gamma and beta."""
    old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}

    def name_of(key: str) -> str:
        name = f"{prefix}.{key}"
        renamed = next((name.replace(new, past) for new, past in old.items() if name.endswith(new)), name)
        return renamed if name not in checkpoint and renamed in checkpoint else name

    for key, _ in encoder.model.named_parameters():
        if key.startswith("pooler.") and f"{prefix}.{key}" not in checkpoint:
            continue  # no model reads the pooled state
        yield encoder.model, name_of(key), {key: checkpoint[name_of(key)]}


def transformer_layer(layer: TransformerLayer, checkpoint: Checkpoint, name: str) -> Filled:
    """Yield the weights of one of the authors' BERT layers, ``name.layer.0``."""
    if f"{name}.layer.1.attention.self.query.weight" in checkpoint:
        raise CheckpointError(f"{checkpoint.source} has two layers in {name}; the papers' models have one")
    attention, feed_forward = layer.attention, layer.feed_forward
    for module, theirs in (
        (attention.query, "attention.self.query"),
        (attention.key, "attention.self.key"),
        (attention.value, "attention.self.value"),
        (attention.output, "attention.output.dense"),
        (layer.residual.norm, "attention.output.LayerNorm"),
        (feed_forward.inner, "intermediate.dense"),
        (feed_forward.outer, "output.dense"),
        (feed_forward.residual.norm, "output.LayerNorm"),
    ):
        full = f"{name}.layer.0.{theirs}"
        yield module, full, checkpoint.linear(full)


def co_attention(layers: CoAttention, checkpoint: Checkpoint, names: Sequence[str]) -> Filled:
    """Yield the weights of two coupled layers."""
    for layer, name in zip(layers, names, strict=True):
        assert isinstance(layer, TransformerLayer)
        yield from transformer_layer(layer, checkpoint, name)


def tag_scores(
    linear: nn.Linear, decoder: CRF, checkpoint: Checkpoint, names: Sequence[str], *, scores: str, crf: str
) -> Filled:
    """Yield the weights of a linear layer to scores and of its CRF, in the order of the model's tags.

    Args:
        linear: the model's linear layer.
        decoder: the model's CRF.
        checkpoint: the checkpoint.
        names: the tags in the authors' order, as the model names them.
        scores: name of the authors' linear layer.
        crf: name of the authors' CRF.

    Raises:
        CheckpointError: when the checkpoint has another number of tags.
    """
    found = len(checkpoint[f"{scores}.bias"])
    if found != len(names):
        raise CheckpointError(
            f"{checkpoint.source}: {scores} has {found} tags, not the {len(names)} {', '.join(names)}; give the entity "
            "types in the order in which the authors' code lists them (--types)"
        )
    order = [names.index(tag) for tag in decoder.tags]
    yield linear, scores, {name: value[order] for name, value in checkpoint.linear(scores).items()}
    yield (
        decoder,
        crf,
        {
            "start_transitions": checkpoint[f"{crf}.start_transitions"][order],
            "end_transitions": checkpoint[f"{crf}.end_transitions"][order],
            "transitions": checkpoint[f"{crf}.transitions"][order][:, order],
        },
    )


def layers_by_name(model: Tagger) -> dict[str, nn.Module]:
    """Return the layers by class and by what they write: ``"TransformerLayer token"``, ``"TaggingScores tags"``."""
    named: dict[str, nn.Module] = {}
    for layer in model.layers:
        last = layer[-1] if isinstance(layer, CoAttention) else layer
        wrote = next((str(getattr(last, key)) for key in ("task", "out_key") if hasattr(last, key)), "")
        named[f"{type(layer).__name__} {wrote}".strip()] = layer
    return named


def typed_tags(types: Sequence[str]) -> list[str]:
    """Return B-T and I-T of every entity type in order."""
    return [f"{prefix}-{entity_type}" for entity_type in types for prefix in "BI"]


#: Entity types in the order of UMT's and MGCMT's code, which call OTHER of Twitter-2015 MISC.
UMT_TYPES = ("MISC", "PER", "ORG", "LOC")


def umt_tags(types: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return tags and span labels in the order of UMT's and MGCMT's code."""
    special = list(SPECIAL_TAGS[1:])
    return ["PAD", "O", *typed_tags(types), *special], ["PAD", "O", "B", "I", *special]


def umt_heads(model: Tagger, checkpoint: Checkpoint, types: Sequence[str]) -> Filled:
    """Yield the weights of the scores and CRFs of tags and spans, which UMT's and MGCMT's code name alike."""
    layers = cast(dict[str, Any], layers_by_name(model))
    tags, spans = umt_tags(types)
    for head, names, prefix in ((TAGS, tags, ""), (SPANS, spans, "aux_")):
        linear, decoder = layers[f"TaggingScores {head}"].linear, cast(Any, model.heads[head]).decoder
        yield from tag_scores(linear, decoder, checkpoint, names, scores=f"{prefix}classifier", crf=f"{prefix}crf")


#: What a system's module gives `convert`: builds the model for a checkpoint, and fills it.
Reader = Callable[..., tuple[Tagger, Filled]]


def convert(
    reader: Reader, path: Path, encoder: TextEncoderModel, types: Sequence[str], **options: Any
) -> tuple[Tagger, list[str]]:
    """Return the released variant with a checkpoint's weights, in evaluation mode, and the tensors not used.

    Args:
        reader: of the system, such as `mnergraph.models.umgf.checkpoint.read`.
        path: the file of the state dict.
        encoder: the encoder that the authors' code was run with; its weights are replaced.
        types: the entity types in the order of the authors' code.
        options: further arguments of the reader.

    Raises:
        CheckpointError: when tensors are missing or misshapen, by their names.
    """
    checkpoint = Checkpoint.load(path)
    model, filled = reader(checkpoint, encoder, LabelSet.from_types(list(types)), tuple(types), **options)
    unused = fill(model, checkpoint, filled)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    model.metadata["data"] = {"converted from": path.name, "sha256": digest}
    return model.eval(), unused
