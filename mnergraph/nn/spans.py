"""Span detection: finding where entities begin and end, whatever their type, as a side task."""

from __future__ import annotations

from torch import nn

from mnergraph.graph import EdgeType
from mnergraph.labels import Labels
from mnergraph.nn.blocks import Transformers
from mnergraph.nn.crf import CRF
from mnergraph.nn.heads import Emit, Task, boundary_of


def span_scores(relation: EdgeType, labels: Labels, transformers: Transformers) -> list[nn.Module]:
    """Layers to the scores of `span_task` (UMT, section 2.4; GEI, eqs. 2-3; MGCMT, section 3.4).

    A transformer layer of its own over the words as they are so far, which stay as they are, and a linear map
    to B, I and O.

    Args:
        relation: among words.
        labels: the tags' label set.
        transformers: makes the layer.
    """
    block = transformers.block(relation, out="spans")
    return [block, Emit("spans", transformers.width, len(labels.boundaries), read=("spans",))]


def span_task(labels: Labels, weight: float, *, name: str = "spans") -> Task:
    """The side task itself: a CRF over B, I and O (UMT, section 2.4)."""
    return Task(name, CRF(labels.boundaries.tags), weight=weight, reads=boundary_of(labels))
