"""Open images and report what is unusual about them; every issue has a code and a declared outcome."""

from __future__ import annotations

import hashlib
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import NamedTuple

from PIL import ExifTags, Image

from mnergraph.pair import Box

#: Length of a side in pixels from which an image has the issue ``large``.
LARGE_SIDE = 10_000


#: Codes of images that cannot be used, and why.
UNUSABLE = {
    "missing": "there is no such file, or it can't be read",
    "refused": "the id, or a link of its name, leads out of the folder of images",
    "empty": "the file has no bytes",
    "html": "a web page saved as an image",
    "bomb": "more pixels than Pillow's limit (Image.MAX_IMAGE_PIXELS); it is not decoded",
    "corrupt": "truncated, or not an image",
    "unfit": "the extractor's preprocessing fails (a strip of 12,000 x 1 pixels, for a detector)",
}


#: Codes of images that are used although something is wrong with the file.
USABLE = {
    "mislabelled": "of another format than its suffix says; read by content",
    "tiny": "a side of one pixel; used as it is",
}


#: Codes of images that are converted on loading.
HANDLED = {
    "turned": "EXIF says it is rotated or mirrored; turned upright first, boxes are of the upright",
    "animated": "the first frame is used",
    "transparent": "laid on white",
    "colours": "CMYK, palette, 16 bits and others; converted to RGB",
    "large": f"a side of {LARGE_SIDE:,} pixels or more; decoded whole and scaled down",
}


ISSUE_CODES = {**UNUSABLE, **USABLE, **HANDLED}


class ImageIssue(NamedTuple):
    """What is unusual about an image; ``code`` is one of `ISSUE_CODES`, the first that applies in their order."""

    id: str
    code: str
    detail: str

    @property
    def usable(self) -> bool:
        """Whether the image can be used."""
        return self.code not in UNUSABLE


class ImageError(OSError):
    """An image that gives nothing, with its ``issue``."""

    def __init__(self, issue: ImageIssue) -> None:
        super().__init__(f"{issue.id}: {issue.detail}")
        self.issue = issue

    def __reduce__(self) -> tuple[type[ImageError], tuple[ImageIssue]]:
        return type(self), (self.issue,)


def summarize_issues(issues: Iterable[ImageIssue | None], max_ids: int = 3) -> str:
    """Return a line per code with its number of images, in the order of `ISSUE_CODES`; for unusable ones with ids.

    >>> summarize_issues([None, ImageIssue("7", "html", "7.jpg is a web page")])
    '1 html (a web page saved as an image): 7'
    """
    present = [issue for issue in issues if issue is not None]
    counts = Counter(issue.code for issue in present)
    lines = []
    for code in (code for code in ISSUE_CODES if code in counts):
        line = f"{counts[code]} {code} ({ISSUE_CODES[code]})"
        if code in UNUSABLE:
            ids = [issue.id for issue in present if issue.code == code]
            line += f": {', '.join(ids[:max_ids])}{', ...' if len(ids) > max_ids else ''}"
        lines.append(line)
    return "\n".join(lines)


#: What an image of each suffix is inside; MPO is the JPEG of some telephones.
FORMATS = {".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".png": ("PNG",)}


#: The formats that are opened, whatever the suffix; others (EPS runs a program) are not images here.
OPENED = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "ICO", "PPM")


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory: upright, in RGB.

    Args:
        image: the pixels.
        orientation: EXIF orientation of the file; 1 if the pixels were not transposed.
        issue: what is unusual about it, or None.
    """

    image: Image.Image
    orientation: int = 1
    issue: ImageIssue | None = None

    def boxes(self, boxes: Sequence[Box], size: tuple[int, int] | None) -> list[Box]:
        """Return boxes given in pixels of an image of this size in pixels of this image.

        They are scaled where the image was resized since. Tools that do not know EXIF give boxes of the
        image as it lies in the file: where the size they give is that of an image on its side, the boxes
        are turned with it. (Turned by half, mirrored, or square images do not show it: their boxes are
        taken as upright.)
        """
        if size is None or size == self.image.size:
            return list(boxes)
        width, height = size
        if self.orientation >= 5 and (width >= height) != (self.image.width >= self.image.height):
            boxes = [_rotate_box(box, width, height, self.orientation) for box in boxes]
            width, height = height, width
        x, y = self.image.width / width, self.image.height / height
        return [(left * x, top * y, right * x, bottom * y) for left, top, right, bottom in boxes]


def open_image(source: str | Path | Image.Image, id: str | None = None) -> LoadedImage:
    """Open an image by its content, whatever the suffix of its file.

    Args:
        source: path, or an open Pillow image.
        id: name in messages and issues; by default the path.

    Raises:
        ImageError: an `OSError` with an issue of `UNUSABLE`.
    """
    if isinstance(source, Image.Image):
        return _load_upright(source, "" if id is None else id, None)
    path, id = Path(source), str(source) if id is None else id
    try:
        with path.open("rb") as file:
            head = file.read(256).lstrip().lower()
            size = path.stat().st_size
    except (OSError, ValueError) as error:  # ValueError: a path that can't be one
        raise ImageError(ImageIssue(id, "missing", f"{path.name}: {error}")) from error
    if size == 0:
        raise ImageError(ImageIssue(id, "empty", f"{path.name} has no bytes"))
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        detail = f"{path.name} is a web page that was saved as an image"
        raise ImageError(ImageIssue(id, "html", detail))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as opened:
                opened.load()
                return _load_upright(opened, id, path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(ImageIssue(id, "bomb", f"{path.name}: {error}")) from error
    except Exception as error:  # decoders raise many types
        raise ImageError(ImageIssue(id, "corrupt", f"{path.name}: {error}")) from error


def upright_size(path: str | Path) -> tuple[int, int]:
    """Return width and height of an image's upright form, from the header of its file.

    Raises:
        OSError: when it is not there, or is no image.
    """
    with Image.open(path) as opened:
        width, height = opened.size
        return (height, width) if _orientation(opened) >= 5 else (width, height)


def _load_upright(opened: Image.Image, id: str, path: Path | None) -> LoadedImage:
    """Return the image in RGB, transposed as EXIF says, with its first issue in the order of `ISSUE_CODES`."""
    name = path.name if path else id
    unusual: dict[str, str] = {}
    expected = FORMATS.get(path.suffix.lower()) if path else None
    if expected and opened.format not in expected:
        unusual["mislabelled"] = f"{name} is {opened.format} inside"
    if min(opened.size) <= 1:
        unusual["tiny"] = f"{name} has {opened.width} x {opened.height} pixels"
    orientation = _orientation(opened)
    if orientation in _TRANSPOSES:
        unusual["turned"] = f"{name} has EXIF orientation {orientation}"
    if getattr(opened, "is_animated", False) and opened.format != "MPO":
        unusual["animated"] = f"{name} has {getattr(opened, 'n_frames', 'several')} frames"
    if opened.has_transparency_data:
        unusual["transparent"] = f"{name} is {opened.mode} with transparency"
    if opened.mode not in ("RGB", "RGBA", "L"):
        unusual["colours"] = f"{name} is {opened.mode}"
    if max(opened.size) >= LARGE_SIDE:
        unusual["large"] = f"{name} has {opened.width} x {opened.height} pixels"
    image = _to_rgb(opened)
    if orientation in _TRANSPOSES:
        image = image.transpose(_TRANSPOSES[orientation])
    kind = next((kind for kind in ISSUE_CODES if kind in unusual), None)
    return LoadedImage(image, orientation, ImageIssue(id, kind, unusual[kind]) if kind else None)


@cache
def _formats() -> tuple[str, ...]:
    """Those of `OPENED` that this Pillow was built with."""
    Image.init()
    return tuple(format for format in OPENED if format in Image.OPEN)


_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # a damaged EXIF block does not make the image unusable
        return 1


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    if image.mode.startswith("I"):  # Pillow clips 16-bit values at 255
        return image.convert("I").point(lambda value: value / 257).convert("RGB")
    return image.copy() if image.mode == "RGB" else image.convert("RGB")


def _rotate_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """A box of an image of this size as it lies in the file, in the upright image of height x width."""
    left, top, right, bottom = box
    # transposed, (x, y) -> (y, x); then mirrored along the axes that the orientation names
    x1, y1, x2, y2 = top, left, bottom, right
    if orientation in (6, 7):
        x1, x2 = height - x2, height - x1
    if orientation in (7, 8):
        y1, y2 = width - y2, width - y1
    return x1, y1, x2, y2


def file_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; the key of an image's features."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
