"""Models that the tests of insight share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fakes import LABELS
from torch import nn

from mnergraph.features.backbone import tiny
from mnergraph.labels import NOT_WORDS
from mnergraph.models import UMGF


@pytest.fixture
def umgf() -> Callable[..., UMGF]:
    """``umgf(form)``: a small model, the same at every call, in evaluation mode."""

    def make(form: str = "paper") -> UMGF:
        torch.manual_seed(1)
        encoder = tiny(["paris", "in", "the", "rain"], width=16, layers=1, heads=2)
        model = UMGF(encoder, LABELS, form=form, width=16, heads=4, layers=2, region_width=6, hidden=24)
        nn.init.normal_(model.tasks["tags"].scorer.transitions)
        with torch.no_grad():  # so that it finds entities
            for tag in model.labels.tags:
                if tag in NOT_WORDS:
                    model.layers[-1].linear.bias[model.labels.index(tag)] = -9.0
        return model.eval()

    return make
