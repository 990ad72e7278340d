"""What the released codes have in common."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from mnergraph.labels import LabelSet
from mnergraph.models.variants import begin_as_bert, is_released, released_labels


def test_labels_that_stand_for_no_word_come_last_and_once() -> None:
    labels = LabelSet.from_types(["PER"])
    assert released_labels(labels).tags == ("O", "B-PER", "I-PER", "PAD", "X", "[CLS]", "[SEP]")
    assert released_labels(LabelSet(("X", "O"))).tags == ("X", "O", "PAD", "[CLS]", "[SEP]")
    assert released_labels(released_labels(labels)) == released_labels(labels)
    assert released_labels(labels).types == labels.types


def test_forms() -> None:
    assert is_released("released")
    assert not is_released("paper")
    with pytest.raises(ValueError, match="form is paper or released, not 'both'"):
        is_released("both")  # type: ignore[arg-type]


@torch.no_grad()
def test_berts_start() -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(nn.Linear(200, 300), nn.LayerNorm(300), nn.Linear(300, 200, bias=False))
    stack[1].weight.fill_(7.0)
    begin_as_bert([stack[0], stack[1:]])
    for place in (0, 2):
        weight = stack[place].weight
        assert float(weight.std()) == pytest.approx(0.02, rel=0.03)
        assert abs(float(weight.mean())) < 5e-4
    assert not stack[0].bias.any()
    assert stack[1].weight.eq(7.0).all(), "norms start as they are"
