"""What the variants of several papers have in common."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from mnergraph.labels import LabelSet
from mnergraph.models.umt import PAPER, RELEASED
from mnergraph.models.variants import add_special_tags, init_bert_weights, select_variant


def test_special_labels_are_appended_once() -> None:
    labels = LabelSet.from_types(["PER"])
    assert add_special_tags(labels).tags == ("O", "B-PER", "I-PER", "PAD", "X", "[CLS]", "[SEP]")
    assert add_special_tags(LabelSet(("X", "O"))).tags == ("X", "O", "PAD", "[CLS]", "[SEP]")
    assert add_special_tags(add_special_tags(labels)) == add_special_tags(labels)
    assert add_special_tags(labels).types == labels.types


def test_select_variant() -> None:
    both = {"paper": PAPER, "released": RELEASED}
    assert select_variant("released", both) is RELEASED
    assert select_variant("paper", both) is PAPER
    own = replace(PAPER, tag_weight=0.3)
    assert select_variant(own, both) is own
    with pytest.raises(ValueError, match="variant is paper or released, not 'both'"):
        select_variant("both", both)


def test_special_tags_come_with_pieces() -> None:
    labels = LabelSet.from_types(["PER"])
    assert PAPER.label_set(labels) == labels
    assert RELEASED.label_set(labels) == add_special_tags(labels)


@torch.no_grad()
def test_bert_initialization() -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(nn.Linear(200, 300), nn.LayerNorm(300), nn.Linear(300, 200, bias=False))
    stack[1].weight.fill_(7.0)
    init_bert_weights([stack[0], stack[1:]])
    for index in (0, 2):
        weight = stack[index].weight
        assert float(weight.std()) == pytest.approx(0.02, rel=0.03)
        assert abs(float(weight.mean())) < 5e-4
    assert not stack[0].bias.any()
    assert stack[1].weight.eq(7.0).all(), "norms start as they are"
