import re
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from mnergraph.data.formats.evidence_jsonl import EvidenceError
from mnergraph.data.formats.feature_file import open_features, write_features


def test_features_written_and_read_are_the_same(tmp_path: Path) -> None:
    regions, image = torch.rand(3, 4), torch.rand(49, 4)
    write_features({"1": regions.t().contiguous().t()}, {"1": image}, tmp_path / "features.safetensors")
    with open_features(tmp_path / "features.safetensors") as features:
        assert torch.equal(features.regions("1", 3), regions)
        assert torch.equal(features.image("1"), image)
        assert features.regions("2", 0) is None
        assert features.image("2") is None
        assert features.ids("objects") == features.ids("image") == {"1"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_halves_are_read_as_float32_and_plain_ids_are_regions(tmp_path: Path, dtype: torch.dtype) -> None:
    save_file({"7": torch.ones(2, 3, dtype=dtype)}, tmp_path / "features.safetensors")
    with open_features(tmp_path / "features.safetensors") as features:
        assert features.ids("objects") == {"7"}
        rows = features.regions("7", 2)
    assert rows is not None
    assert rows.dtype == torch.float32
    assert rows.sum() == 6


@pytest.mark.parametrize(
    ("tensors", "fault"),
    [
        ({"1": torch.ones(2, 3), "objects/1": torch.ones(2, 3)}, "both 'objects/1' and '1'; right is one"),
        (
            {"1": torch.ones(3, 3)},
            "'1' has 3 rows but the objects file has 2 objects for '1'; right is one row",
        ),
        ({"1": torch.ones(2)}, "'1' is torch.float32 of shape [2]; right is float32, float16"),
        ({"1": torch.ones(2, 3).long()}, "'1' is torch.int64 of shape [2, 3]; right is"),
        ({"1": torch.full((2, 3), torch.nan)}, "'1' holds NaN or infinity; right are finite"),
    ],
)
def test_faults_name_file_and_key(tmp_path: Path, tensors: dict[str, torch.Tensor], fault: str) -> None:
    path = tmp_path / "features.safetensors"
    save_file(tensors, path)
    with open_features(path) as features, pytest.raises(EvidenceError, match=re.escape(f"{path}: {fault}")):
        features.regions("1", 2)


def test_another_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "features.safetensors"
    path.write_bytes(b"PK not it")
    with pytest.raises(EvidenceError, match="not a safetensors file"), open_features(path):
        pass
