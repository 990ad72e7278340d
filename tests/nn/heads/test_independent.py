"""The softmax scorer: sums, products, and the checks it shares with the CRF."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from mnergraph.labels import tags_to_spans
from mnergraph.nn.heads.independent import IndependentTags

TAGS = ("O", "B-A", "I-A", "B-B")
MASK = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])


def test_scores() -> None:
    scorer, emissions = IndependentTags(TAGS), torch.randn(3, 3, 4, requires_grad=True)
    tags = torch.tensor([[1, 2, 0], [3, -100, -100], [-100] * 3])
    found = scorer(emissions, tags, MASK)
    logs = emissions.log_softmax(-1)
    expected = torch.stack([logs[0, 0, 1] + logs[0, 1, 2] + logs[0, 2, 0], logs[1, 0, 3], logs[2, 0, 0] * 0])
    torch.testing.assert_close(found, expected)
    found.sum().backward()
    assert not emissions.grad[~MASK].any()
    assert torch.equal(scorer.decode(emissions, MASK), emissions.argmax(-1) * MASK)
    torch.testing.assert_close(scorer.marginals(emissions, MASK), logs.exp() * MASK[..., None])
    assert scorer.state_dict() == {}


def test_spans() -> None:
    scorer, emissions = IndependentTags(TAGS), torch.randn(3, 3, 4)
    p = emissions.double().softmax(-1).tolist()
    spans = [[(0, 2, "A"), (0, 3, "A"), (1, 3, "A"), (2, 3, "B"), (1, 2, "B"), (1, 2, "A")], [(0, 1, "A")], []]
    for row, length in enumerate((3, 1)):
        found = scorer.span_probability(emissions, MASK, spans)[row]
        for span, chance in zip(spans[row], found, strict=True):
            mass = sum(
                math.prod(p[row][step][tag] for step, tag in enumerate(path))
                for path in itertools.product(range(4), repeat=length)
                if span in tags_to_spans([TAGS[tag] for tag in path])
            )
            assert chance == pytest.approx(mass, abs=1e-6)
    assert scorer.span_probability(emissions, MASK, spans)[2] == []
    with pytest.raises(ValueError, match="no label I-B for span 0:2"):
        scorer.span_probability(emissions, MASK, [[(0, 2, "B")], [], []])
    with pytest.raises(ValueError, match="0 lists of spans for 3 posts"):
        scorer.span_probability(emissions, MASK, [])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_and_masked_values(dtype: torch.dtype) -> None:
    scorer, emissions = IndependentTags(TAGS), torch.randn(3, 3, 4).to(dtype)
    spoiled = emissions.masked_fill(~MASK[..., None], math.nan).requires_grad_()
    tags = torch.zeros(3, 3, dtype=torch.int64)
    found = scorer(spoiled, tags, MASK)
    assert found.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert torch.equal(found, scorer(emissions, tags, MASK))
    found.sum().backward()
    assert spoiled.grad.isfinite().all()
    assert scorer.marginals(spoiled, MASK).dtype == torch.float32


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_empty_input(shape: tuple[int, int]) -> None:
    scorer, emissions, mask = (
        IndependentTags(TAGS),
        torch.zeros(*shape, 4),
        torch.zeros(shape, dtype=torch.bool),
    )
    assert scorer(emissions, torch.zeros(shape, dtype=torch.int64), mask).tolist() == [0.0] * shape[0]
    assert scorer.decode(emissions, mask).shape == shape


def test_input_is_checked() -> None:
    scorer, emissions, tags = (
        IndependentTags(TAGS),
        torch.zeros(3, 3, 4),
        torch.zeros(3, 3, dtype=torch.int64),
    )
    with pytest.raises(ValueError, match="tag 4 at row 0, step 0"):
        scorer(emissions, tags + 4, MASK)
    with pytest.raises(ValueError, match="mask of row 1 has a gap before step 1"):
        scorer.decode(emissions, ~MASK)
    with pytest.raises(FloatingPointError, match="row 0, step 0"):
        scorer.marginals(emissions + math.nan, MASK)
