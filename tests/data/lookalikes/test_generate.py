"""Generated folders: reproducible by seed, complete or absent, generated again when settings differ."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from mnergraph.data.lookalikes import generate as generate_module
from mnergraph.data.lookalikes.dataset import Lookalikes
from mnergraph.data.lookalikes.generate import generate, read_truth

SMALL = (30, 8, 12)


def files(folder: Path) -> dict[str, bytes]:
    """Return the bytes of every file by relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_same_seed_same_bytes_other_seed_other_bytes(tmp_path: Path) -> None:
    first, second, other = (
        generate(tmp_path / name, seed=seed, sizes=SMALL) for name, seed in (("a", 3), ("b", 3), ("c", 4))
    )
    assert files(first) == files(second)
    assert (first / "train.txt").read_bytes() != (other / "train.txt").read_bytes()
    assert sorted(path.name for path in tmp_path.joinpath("a").iterdir()) == ["raw"]


def test_no_images_at_all(tmp_path: Path) -> None:
    data = Lookalikes(tmp_path, "valid", sizes=SMALL, image_missing_ratio=1.0)
    assert not any(pair.image_path or pair.objects or pair.caption for pair in data.pairs)


@pytest.mark.parametrize("progress", [True, False])
def test_progress_bar(tmp_path: Path, capsys: pytest.CaptureFixture[str], progress: bool) -> None:
    generate(tmp_path, sizes=(2, 1, 1), progress=progress)
    assert ("drawing Lookalikes: 100%" in capsys.readouterr().err) is progress


def test_posts_are_generated_again_only_for_other_settings(tmp_path: Path) -> None:
    text = generate(tmp_path, sizes=SMALL) / "train.txt"
    before = text.stat().st_mtime_ns
    assert len(Lookalikes(tmp_path, sizes=SMALL)) == 30
    assert text.stat().st_mtime_ns == before
    first = Lookalikes(tmp_path, sizes=SMALL).pairs
    again = Lookalikes(tmp_path, sizes=SMALL, seed=1).pairs
    assert [pair.words for pair in first] != [pair.words for pair in again]
    assert json.loads((tmp_path / "raw" / "settings.json").read_text())["seed"] == 1
    assert not list(tmp_path.glob(".*"))


def test_a_killed_run_leaves_the_old_folder_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(generate_module, "write_objects", killed)
        with pytest.raises(KeyboardInterrupt):
            generate(tmp_path, sizes=SMALL)
        assert not list(tmp_path.iterdir())
    before = files(generate(tmp_path, sizes=SMALL))
    monkeypatch.setattr(generate_module, "write_conll", killed)
    with pytest.raises(KeyboardInterrupt):
        generate(tmp_path, sizes=SMALL, seed=1)
    assert files(tmp_path / "raw") == before


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "train.txt").write_text("other")
    with pytest.raises(FileExistsError, match="are not of Lookalikes"):
        generate(tmp_path, sizes=SMALL)
    assert (tmp_path / "raw" / "train.txt").read_text() == "other"


@pytest.mark.parametrize(
    ("invalid", "message"),
    [
        ({"sizes": (1, 2)}, "sizes are the numbers"),
        ({"sizes": (1, -2, 3)}, "sizes are the numbers"),
        ({"image_irrelevant_ratio": 1.2}, "image_irrelevant_ratio is a share of posts, from 0 to 1, not 1.2"),
        ({"image_missing_ratio": -1}, "image_missing_ratio is a share"),
        ({"size": 20}, "size is 64 pixels or more"),
    ],
)
def test_invalid_settings_raise_value_error(tmp_path: Path, invalid: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        generate(tmp_path, **invalid)
    assert not list(tmp_path.iterdir())


def test_every_post_has_a_ground_truth(tmp_path: Path) -> None:
    truth = read_truth(generate(tmp_path, sizes=SMALL))
    splits = (Lookalikes(tmp_path, name, sizes=SMALL) for name in ("train", "valid", "test"))
    assert {pair.id for data in splits for pair in data.pairs} == set(truth)
    assert all(post.resolved == post.depicted <= post.ambiguous for post in truth.values())


def test_stale_temporary_folders_are_removed_and_recent_ones_kept(tmp_path: Path) -> None:
    stale, recent = tmp_path / ".making-1", tmp_path / ".making-2"
    stale.mkdir()
    recent.mkdir()
    os.utime(stale, (0, 0))
    generate(tmp_path, sizes=SMALL)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".making-2", "raw"]
