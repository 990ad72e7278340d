"""The script of a step's parts at the smallest size; times are not checked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.step_parts import PARTS, main


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "new" / "step_parts.json"
    main(out, systems=("UMGF",), variant="released", width=16, heads=2, layers=(1,), batch_size=2, repeats=1)
    result = json.loads(out.read_text(encoding="utf-8"))
    found = result["systems"]["UMGF"]
    assert result["variant"] == "released"
    assert set(found) == {"1 layers, fp32", "1 layers, bf16"}
    assert ("casts at every use" in found["1 layers, bf16"], "casts at every use" in found["1 layers, fp32"]) == (
        True,
        False,
    )
    for one in (*found.values(), found["1 layers, bf16"]["casts at every use"]):
        assert one["ratio"] > 0
        for shares in one["shares"]:
            assert set(shares) == {*PARTS, "rest"}
            assert sum(shares.values()) == pytest.approx(1)
            assert shares["products"] > 0
    assert found["1 layers, fp32"]["by operations"] > 1
    assert found["1 layers, bf16"]["casts at every use"]["by operations"] == 1
    assert len(capsys.readouterr().out.splitlines()) == 2
