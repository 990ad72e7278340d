"""A model as its paper describes it, and as its authors' released code computes it.

A variant is a frozen dataclass whose fields are the points in which the two differ; the defaults are the
paper's. ``PAPER`` and ``RELEASED`` of each model's module are its instances. UMGF's and MGCMT's released codes
were made from UMT's, so that some points are common to all three: they are here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from torch import nn
from torch.nn import functional as F

from mnergraph.graph.node_types import Tokenizer, Tokens, Unit
from mnergraph.labels import SPECIAL_TAGS, LabelSet
from mnergraph.nn.layers.transformer import TransformerConfig

VariantName = Literal["paper", "released"]


@dataclass(frozen=True, kw_only=True)
class Variant:
    """The points that several papers have in common.

    Args:
        token_unit: ``words``, or ``pieces`` with [CLS] and [SEP] among them, which need tags of their own.
        bert_layers: BERT's GELU, layer norm epsilon and initial weights instead of PyTorch's.
        max_pieces: a post is cut at this number of pieces, see `Tokens`; None for no limit.
    """

    token_unit: Unit = "words"
    bert_layers: bool = False
    max_pieces: int | None = None

    def tokens(self, tokenizer: Tokenizer, labels: LabelSet) -> Tokens:
        """Return the node type of the tokens."""
        return Tokens(tokenizer, labels, unit=self.token_unit, max_pieces=self.max_pieces)

    def label_set(self, labels: LabelSet) -> LabelSet:
        """Return the tags that the CRF reads: the data's, and those of special pieces where there are any."""
        return add_special_tags(labels) if self.token_unit == "pieces" else labels

    def transformer_config(self, config: TransformerConfig) -> TransformerConfig:
        """Return the settings of the transformer layers."""
        return bert_config(config) if self.bert_layers else config

    def init_weights(self, layers: Iterable[nn.Module]) -> None:
        """Initialize these layers in place."""
        if self.bert_layers:
            init_bert_weights(layers)


AnyVariant = TypeVar("AnyVariant", bound=Variant)


def select_variant(variant: str | AnyVariant, variants: Mapping[str, AnyVariant]) -> AnyVariant:
    """Return the variant of this name, or the variant itself where an object is given.

    Raises:
        ValueError: for an unknown name.
    """
    if isinstance(variant, Variant):
        return variant
    if variant not in variants:
        raise ValueError(f"variant is {' or '.join(variants)}, not {variant!r}")
    return variants[variant]


def add_special_tags(labels: LabelSet) -> LabelSet:
    """Return the label set with the tags of pieces that are no word behind it: PAD, X, [CLS] and [SEP]."""
    return LabelSet((*labels.tags, *(tag for tag in SPECIAL_TAGS if tag not in labels.tags)))


def bert_config(config: TransformerConfig) -> TransformerConfig:
    """Return the settings with BERT's activation and layer norm epsilon."""
    return replace(config, activation=F.gelu, eps=1e-12)


def init_bert_weights(layers: Iterable[nn.Module]) -> None:
    """Initialize linear and embedding layers as BERT does: weights N(0, 0.02), biases 0."""
    for module in (module for layer in layers for module in layer.modules()):
        if isinstance(module, nn.Linear | nn.Embedding):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
