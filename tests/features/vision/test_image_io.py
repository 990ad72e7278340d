"""Images in the wild: every kind has its declared outcome, and boxes follow the pixels."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
from odd_images import lying, noise, wild
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


def test_every_wild_picture_has_its_outcome(tmp_path: Path) -> None:
    kinds = wild(tmp_path / "images")
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
            fault: ImageIssue | None = caught.value.issue
            assert isinstance(caught.value, OSError)
            assert not caught.value.issue.usable
        else:
            opened = open_image(path, id)
            fault = opened.issue
            assert opened.image.mode == "RGB"
            assert fault is None or fault.usable
        assert (fault and fault.code) == kind, id
        assert check_image(path, id) == fault
        assert fault is None or fault.id == id


def test_verify_data_lists_every_one(tmp_path: Path) -> None:
    kinds = wild(tmp_path / "images")
    posts = "\n\n".join(f"IMGID:{id}\nword\tO" for id in kinds)
    (tmp_path / "train.txt").write_text(posts + "\n", encoding="utf-8")
    report = verify(tmp_path, progress=False)
    assert {fault.id: fault.code for fault in report.image_issues} == {id: kind for id, kind in kinds.items() if kind}
    listed = {line.split()[2].rstrip(":") for line in report.notes}
    assert listed == set(HANDLED)
    assert not any(f"images {kind}" in line for kind in HANDLED for line in report.problems)
    assert "\nhandled:\n- " in str(report)


def test_the_documents_table_is_the_codes() -> None:
    page = (Path(__file__).parents[3] / "docs" / "features.md").read_text(encoding="utf-8")
    outcomes = {"gives nothing": UNUSABLE, "used, reported": USABLE, "handled": HANDLED}
    rows = [f"| {kind} | {outcome} | {why} |" for outcome, of in outcomes.items() for kind, why in of.items()]
    assert "\n".join(["|---|---|---|", *rows, ""]) in page


def test_the_summary_counts_them() -> None:
    faults = [ImageIssue(str(i), "html", "a page") for i in range(4)]
    message = summarize_issues([None, ImageIssue("9", "turned", "on its side"), *faults])
    assert message.split("\n") == [
        "4 html (a web page saved as an image): 0, 1, 2, ...",
        f"1 turned ({ISSUE_CODES['turned']})",
    ]
    assert summarize_issues([None]) == ""


def test_an_error_survives_the_way_out_of_a_worker(tmp_path: Path) -> None:
    with pytest.raises(ImageError) as caught:
        open_image(tmp_path / "none.png", "7")
    again = pickle.loads(pickle.dumps(caught.value))
    assert again.issue == caught.value.issue
    assert str(again) == str(caught.value)
    with pytest.raises(ImageError, match="null"):
        open_image("a\0b")


# --- pixels ----------------------------------------------------------------------------------------------


def test_the_first_frame_of_what_moves(tmp_path: Path) -> None:
    wild(tmp_path)
    assert np.array_equal(pixels(open_image(tmp_path / "moving.png").image), pixels(noise()))


def test_what_is_transparent_lies_on_white() -> None:
    observed = open_image(Image.new("RGBA", (2, 2), (255, 0, 0, 0))).image
    assert observed.getpixel((0, 0)) == (255, 255, 255)
    half = open_image(Image.new("RGBA", (2, 2), (0, 0, 0, 51))).image
    assert half.getpixel((0, 0)) == (204, 204, 204)


def test_sixteen_bits_are_scaled(tmp_path: Path) -> None:
    values = np.array([[0, 257, 257 * 128, 65535]], dtype=np.uint16).repeat(2, 0)
    Image.fromarray(values).save(tmp_path / "16.png")
    observed = open_image(tmp_path / "16.png").image
    assert pixels(observed)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_damaged_exif_costs_nothing(tmp_path: Path) -> None:
    noise().save(tmp_path / "1.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert open_image(tmp_path / "1.jpg").issue is None


@pytest.mark.parametrize("orientation", range(1, 9))
def test_upright(tmp_path: Path, orientation: int) -> None:
    opened = open_image(lying(noise(), tmp_path / "1.png", orientation))
    assert opened.orientation == orientation
    assert np.array_equal(pixels(opened.image), pixels(noise()))
    assert (opened.issue and opened.issue.code) == (None if orientation == 1 else "turned")


# --- boxes -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_boxes_turn_with_the_picture_to_the_pixel(tmp_path: Path, orientation: int) -> None:
    """A rectangle drawn upright is found by its colour in the file as it lies; its box turns back exactly."""
    upright = Image.new("RGB", (40, 30))
    upright.paste((255, 0, 0), (3, 5, 17, 21))
    path = lying(upright, tmp_path / "1.png", orientation)
    with Image.open(path) as stored:
        rows, columns = np.nonzero(pixels(stored.convert("RGB"))[..., 0])
        found = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        size = stored.size
    assert size == (30, 40)
    opened = open_image(path)
    assert opened.boxes([found], size) == [(3, 5, 17, 21)]
    assert opened.boxes([(3, 5, 17, 21)], (40, 30)) == [(3, 5, 17, 21)]
    # given of an image of twice the size, lying as the file does
    double = tuple(2 * float(edge) for edge in found)
    assert opened.boxes([double], (60, 80)) == [(3, 5, 17, 21)]  # type: ignore[list-item]


def test_boxes_of_another_size_are_scaled() -> None:
    opened = LoadedImage(noise(40, 30))
    assert opened.boxes([(8, 10, 40, 60)], (80, 60)) == [(4, 5, 20, 30)]
    assert opened.boxes([(8, 10, 40, 60)], None) == [(8, 10, 40, 60)]
