"""Generated pictures for GMNER's text: of the true sizes, with the gold boxes among the proposals."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from benchmarks.grounded_pictures import NOTE, generate_pictures
from mnergraph.data.datasets.grounded import GroundedTwitter
from mnergraph.data.formats.boxes import GoldBox, GoldBoxes, write_boxes

TEXT = "IMGID:{0}1\nAnn\tB-PER\nin\tO\nRome\tB-LOC\nAnn\tB-PER\n\nIMGID:{0}2\nMay\tB-OTHER\n\n"
BOXES = ((20.0, 10.5, 180.0, 90.0), (5.0, 5.0, 8.0, 6.0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "gmner"
    folder.mkdir()
    for name in ("train", "dev", "test"):
        (folder / f"{name}.txt").write_text(TEXT.format(name))
    gold = GoldBoxes(200, 100, tuple(GoldBox(box, "Ann") for box in BOXES))
    write_boxes({f"{name}1": gold for name in ("train", "dev", "test")}, folder / "boxes.jsonl")
    return folder


@pytest.mark.filterwarnings("ignore:.*is not the .* split of GroundedTwitter as published")
def test_generated_pictures(root: Path, tmp_path: Path) -> None:
    out = generate_pictures(root, tmp_path / "out", progress=False)
    assert "not scores on GMNER" in (out / NOTE).read_text()
    for split in ("train", "dev", "test"):
        before, after = GroundedTwitter(root, split), GroundedTwitter(out, split)
        assert Path(before.raw_paths[0]).read_bytes() == Path(after.raw_paths[0]).read_bytes()
        assert [pair.grounding for pair in before.pairs] == [pair.grounding for pair in after.pairs]
        assert after.grounding_counts.ceiling == 1
        assert after.grounding_counts.distractors >= 2
        for pair in after.pairs:
            assert pair.image_path is not None
            with Image.open(pair.image_path) as image:
                assert image.size == pair.size == (200, 100)
                colors = image.convert("RGB").getcolors(200 * 100) or []
            assert len(colors) > 20  # not the background alone
    with pytest.raises(FileExistsError):
        generate_pictures(root, out, progress=False)


@pytest.mark.filterwarnings("ignore:.*is not the .* split of GroundedTwitter as published")
def test_pictures_of_some_posts(root: Path, tmp_path: Path) -> None:
    with (root / "train.txt").open("a") as file:
        file.write("IMGID:train3\nAnn\tB-PER\n\n")
    gold = GoldBoxes(200, 100, (GoldBox(BOXES[0], "Ann"),))
    write_boxes({"train3": gold}, root / "boxes.jsonl")
    out = generate_pictures(root, tmp_path / "out", limit=1, progress=False)
    assert GroundedTwitter(out).pairs[2].grounding == GroundedTwitter(root).pairs[2].grounding
    assert sorted(path.stem for path in (out / "images").iterdir()) == ["dev1", "test1", "train1"]
