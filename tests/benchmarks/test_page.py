"""The posts of the benchmark of the page."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.page import photographed


@pytest.mark.filterwarnings("ignore:.*lines of one id differ:UserWarning")  # ids are of a split there
def test_real_posts_are_taken_again_and_again(shared: Path) -> None:
    posts = photographed(shared / "posts", 40)
    assert len({pair.id for pair in posts}) == 40
    assert all(pair.image_path is not None and pair.image_path.is_file() for pair in posts)
    assert any(pair.objects for pair in posts)
    assert any(pair.caption for pair in posts)
