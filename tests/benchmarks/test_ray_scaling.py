"""The table of many workers, computed from a result."""

from __future__ import annotations

import pytest

pytest.importorskip("pyarrow", reason="needs the extra ray")

from benchmarks.ray_scaling import markdown


def test_table_is_computed_from_the_measured_rates() -> None:
    result = {
        "machine": {"processor": "a processor"},
        "encoder": "an encoder",
        "posts per second": {"plain": 105.0, "job": 104.0, "1 actor": 100.0, "2 actors": 190.0},
        "bytes read per post": 80.0,
        "bytes written per post": 120.0,
        "parts per second": 0.5,
    }
    text, _, _, _, *rows = markdown(result).splitlines()
    assert "one worker 100 posts/s, two 190 (1.90 times), the plain path 105" in text
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    assert cells[0] == ["1", "100", "11.6 days", "8.0 kB/s", "10.0 MB/s", "12.0 kB/s", "0.0061", "the workers"]
    # 95 posts/s each: 97,280 posts/s x 100,080 bytes are 9.7 GB/s, and 5.9 parts/s of at most 0.5
    assert cells[-1][:2] == ["1,024", "97,280"]
    assert cells[-1][2] == "17 min"
    assert cells[-1][4] == "9,735.8 MB/s"
    assert cells[-1][-1] == "Ray's scheduling (1188% of it)"
    result["parts per second"] = 100.0
    assert markdown(result).splitlines()[-1].endswith("| the storage, by images (779% of it) |")
