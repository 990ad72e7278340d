"""Loading of odd image files: the outcome of every issue code, and boxes in EXIF orientations."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from odd_images import noise, save_rotated, write_odd_images
from PIL import Image

from mnergraph.data import check_image, image_path_of, verify
from mnergraph.features.vision.image_io import (
    HANDLED,
    ISSUE_CODES,
    UNUSABLE,
    USABLE,
    ImageError,
    ImageIssue,
    LoadedImage,
    open_image,
    summarize_issues,
)


def pixels(image: Image.Image) -> np.ndarray:
    return np.asarray(image)


def test_every_odd_image_has_its_outcome(tmp_path: Path) -> None:
    kinds = write_odd_images(tmp_path / "images")
    assert {kind for kind in kinds.values() if kind} | {"unfit"} == set(ISSUE_CODES)
    for id, kind in kinds.items():
        if kind == "refused":
            with pytest.raises(ValueError, match="leads out of"):
                image_path_of(tmp_path / "images", id)
            continue
        path = image_path_of(tmp_path / "images", id) or tmp_path / "images" / f"{id}.jpg"
        if kind in UNUSABLE:
            with pytest.raises(ImageError) as caught:
                open_image(path, id)
            issue: ImageIssue | None = caught.value.issue
            assert isinstance(caught.value, OSError)
            assert not caught.value.issue.usable
        else:
            opened = open_image(path, id)
            issue = opened.issue
            assert opened.image.mode == "RGB"
            assert issue is None or issue.usable
        assert (issue and issue.code) == kind, id
        assert check_image(path, id) == issue
        assert issue is None or issue.id == id


def test_verify_data_lists_every_issue(tmp_path: Path) -> None:
    kinds = write_odd_images(tmp_path / "images")
    posts = "\n\n".join(f"IMGID:{id}\nword\tO" for id in kinds)
    (tmp_path / "train.txt").write_text(posts + "\n", encoding="utf-8")
    report = verify(tmp_path, progress=False)
    assert {issue.id: issue.code for issue in report.image_issues} == {id: kind for id, kind in kinds.items() if kind}
    listed = {line.split()[2].rstrip(":") for line in report.notes}
    assert listed == set(HANDLED)
    assert not any(f"images {kind}" in line for kind in HANDLED for line in report.problems)
    assert "\nhandled:\n- " in str(report)


def test_the_documented_table_lists_the_codes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
    outcomes = {"gives nothing": UNUSABLE, "used, reported": USABLE, "handled": HANDLED}
    rows = [
        f"| {kind} | {outcome} | {meaning} |" for outcome, codes in outcomes.items() for kind, meaning in codes.items()
    ]
    assert "\n".join(["|---|---|---|", *rows, ""]) in page


def test_the_summary_counts_them() -> None:
    issues = [ImageIssue(str(i), "html", "a page") for i in range(4)]
    message = summarize_issues([None, ImageIssue("9", "turned", "on its side"), *issues])
    assert message.split("\n") == [
        "4 html (a web page saved as an image): 0, 1, 2, ...",
        f"1 turned ({ISSUE_CODES['turned']})",
    ]
    assert summarize_issues([None]) == ""


def test_an_error_can_be_pickled(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "none.png", "7")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.issue == caught.value.issue
    assert str(again) == str(caught.value)
    with pytest.raises(ImageError, match="null"):
        open_image("a\0b")


# --- pixels ----------------------------------------------------------------------------------------------


def test_the_first_frame_of_an_animation(tmp_path: Path) -> None:
    write_odd_images(tmp_path)
    assert np.array_equal(pixels(open_image(tmp_path / "moving.png").image), pixels(noise()))


def test_transparent_images_are_blended_with_white() -> None:
    observed = open_image(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).image
    assert observed.getpixel((0, 0)) == (255, 255, 255)
    half = open_image(Image.new("RGBA", (2, 2), (0, 0, 0, 51))).image
    assert half.getpixel((0, 0)) == (204, 204, 204)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16).repeat(2, 0)
    Image.fromarray(values).save(tmp_path / "16.png")
    observed = open_image(tmp_path / "16.png").image
    assert pixels(observed)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_corrupt_exif_is_ignored(tmp_path: Path) -> None:
    noise().save(tmp_path / "1.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_image(tmp_path / "1.jpg").issue is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(tmp_path: Path, orientation: int) -> None:
    opened = open_image(save_rotated(noise(), tmp_path / "1.png", orientation))
    assert opened.orientation == orientation
    assert np.array_equal(pixels(opened.image), pixels(noise()))
    assert (opened.issue and opened.issue.code) == (None if orientation == 1 else "turned")


# --- boxes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_follow_the_exif_orientation_exactly(tmp_path: Path, orientation: int) -> None:
    """The box of a rectangle in the stored pixels is mapped to its box in the upright image."""
    upright = Image.new("RGB", (40, 30))
    upright.paste((255, 0, 0), (3, 5, 17, 21))
    path = save_rotated(upright, tmp_path / "1.png", orientation)
    with Image.open(path) as stored:
        rows, columns = np.nonzero(pixels(stored.convert("RGB"))[..., 0])
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        size = stored.size
    assert size == (30, 40)
    opened = open_image(path)
    assert opened.boxes([found], size) == [(3, 5, 17, 21)]
    assert opened.boxes([(3, 5, 17, 21)], (40, 30)) == [(3, 5, 17, 21)]
    # in the stored orientation, of an image of twice the size
    double = tuple(2 * float(edge) for edge in found)
    assert opened.boxes([double], (60, 80)) == [(3, 5, 17, 21)]  # type: ignore[list-item]


def test_boxes_of_another_size_are_scaled() -> None:
    opened = LoadedImage(noise(40, 30))
    assert opened.boxes([(8, 10, 40, 60)], (80, 60)) == [(4, 5, 20, 30)]
    assert opened.boxes([(8, 10, 40, 60)], None) == [(8, 10, 40, 60)]
