"""Weights are downloaded once from a local hub server, then read from the cache."""

from __future__ import annotations

from pathlib import Path

import pytest
import tiny_models
import torch
from hub import local_hub, use_hub
from huggingface_hub import constants
from odd_images import noise

from mnergraph.features.vision.backbones import VisionTower


def test_a_model_is_downloaded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_models.tower("siglip", tmp_path / "hub" / "tiny" / "siglip")
    (expected,) = VisionTower(folder).extract([noise()], progress=False)
    with local_hub(tmp_path / "hub") as (address, fetched):
        use_hub(monkeypatch, address, tmp_path / "cache")
        extractor = VisionTower("tiny/siglip")
        (found,) = extractor.extract([noise()], progress=False)
        assert extractor.name == "tiny--siglip"
        assert {"config.json", "model.safetensors", "preprocessor_config.json"} <= set(fetched)
        assert fetched.count("model.safetensors") == 1
        assert (tmp_path / "cache" / "models--tiny--siglip").is_dir()
        with pytest.raises(OSError, match=r"no vision model at 'tiny/none': give the name of one on the Hug"):
            _ = VisionTower("tiny/none").network
    assert found.grid is not None
    torch.testing.assert_close(found.grid, expected.grid)
    torch.testing.assert_close(found.pooled, expected.pooled)

    # without the hub what was fetched serves, and what was not is an error that says what to do
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    (again,) = VisionTower("tiny/siglip").extract([noise()], progress=False)
    assert again.grid is not None
    assert torch.equal(again.grid, found.grid)
    with pytest.raises(OSError, match=r"no vision model at 'tiny/other': give the name of one on the Hugging"):
        _ = VisionTower("tiny/other").network
