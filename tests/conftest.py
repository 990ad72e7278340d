"""What all tests share."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # several processes of one thread each; read when torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if TYPE_CHECKING:
    from runs import Run

    from mnergraph.models import UMGF


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data beside the checkout; the test is skipped where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"needs the real posts in {folder}; they are not part of the project")
    return folder


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of a tiny UMGF; tests leave its folders as they are."""
    from runs import tiny_run

    return tiny_run(tmp_path_factory.mktemp("trained"))


@pytest.fixture
def umgf() -> Callable[..., UMGF]:
    """``umgf(form)``: a small model, the same at every call, in evaluation mode."""
    from dataclasses import replace

    import torch
    from fakes import LABELS
    from torch import nn

    from mnergraph.features.text.encoder import tiny_encoder
    from mnergraph.labels import SPECIAL_TAGS
    from mnergraph.models import UMGF
    from mnergraph.models.umgf.model import PAPER, RELEASED

    def make(variant: str = "paper") -> UMGF:
        torch.manual_seed(1)
        encoder = tiny_encoder(["paris", "in", "the", "rain"], hidden_size=16, num_layers=1, heads=2)
        small = replace(
            PAPER if variant == "paper" else RELEASED, intermediate_size=24, max_pieces=None, released_init=False
        )
        sizes = {"hidden_size": 16, "num_heads": 4, "num_layers": 2, "region_dim": 6}
        model = UMGF(encoder, LABELS, variant=small, label_features=True, **sizes)
        nn.init.normal_(model.heads["tags"].decoder.transitions)
        with torch.no_grad():  # so that it finds entities
            for tag in model.labels.tags:
                if tag in SPECIAL_TAGS:
                    model.layers[-1].linear.bias[model.labels.index(tag)] = -9.0
        return model.eval()

    return make
