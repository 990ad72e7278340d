"""What the authors' released codes have in common: UMT's, and UMGF's and MGCMT's that were made from it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

from torch import nn
from torch.nn import functional as F

from mnergraph.labels import SPECIAL_TAGS, LabelSet
from mnergraph.nn.layers.transformer import TransformerConfig

Form = Literal["paper", "released"]


def is_released(form: Form) -> bool:
    """Whether a model is asked for as released, and not as its paper has it."""
    if form not in ("paper", "released"):
        raise ValueError(f"form is paper or released, not {form!r}")
    return form == "released"


def released_labels(labels: LabelSet) -> LabelSet:
    """A data set's labels with those behind them that stand for no word: PAD, X, [CLS] and [SEP]."""
    return LabelSet((*labels.tags, *(tag for tag in SPECIAL_TAGS if tag not in labels.tags)))


def as_bert(transformers: TransformerConfig) -> TransformerConfig:
    """The same layers as BERT has them, with its GELU and its norms."""
    return replace(transformers, activation=F.gelu, eps=1e-12)


def begin_as_bert(layers: Iterable[nn.Module]) -> None:
    """BERT's initial weights for linear maps and tables, N(0, 0.02) without bias."""
    for part in (part for layer in layers for part in layer.modules()):
        if isinstance(part, nn.Linear | nn.Embedding):
            nn.init.normal_(part.weight, std=0.02)
        if isinstance(part, nn.Linear) and part.bias is not None:
            nn.init.zeros_(part.bias)
