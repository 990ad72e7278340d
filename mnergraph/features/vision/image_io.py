"""What may be unusual about a picture, and what becomes of it: every kind has a declared outcome."""

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

#: A picture with a side this long or longer is *large*.
LARGE_SIDE = 10_000


#: Kinds of pictures that give nothing, and why.
UNUSABLE = {
    "missing": "there is no such file, or it can't be read",
    "refused": "the id, or a link of its name, leads out of the folder of pictures",
    "empty": "the file has no bytes",
    "html": "a web page saved as a picture",
    "bomb": "more pixels than Pillow's limit (Image.MAX_IMAGE_PIXELS); it is not decoded",
    "corrupt": "truncated, or no picture at all",
    "unfit": "the extractor's own preprocessing can't take it (a strip of 12,000 x 1 pixels, for a detector)",
}


#: Kinds of pictures that are used although something is wrong with the file.
USABLE = {
    "mislabelled": "of another format than its suffix says; read by content",
    "tiny": "a side of one pixel; used as it is",
}


#: Kinds of pictures that need care and get it.
HANDLED = {
    "turned": "EXIF says it lies on its side or is mirrored; turned upright first, boxes are of the upright",
    "animated": "the first frame is used",
    "transparent": "laid on white",
    "colours": "CMYK, palette, 16 bits and others; converted to RGB",
    "large": f"a side of {LARGE_SIDE:,} pixels or more; decoded whole and scaled down",
}


ISSUE_CODES = {**UNUSABLE, **USABLE, **HANDLED}


class ImageIssue(NamedTuple):
    """What is unusual about a picture; ``code`` is one of `ISSUE_CODES`, the first that applies in their order."""

    id: str
    code: str
    detail: str

    @property
    def usable(self) -> bool:
        """Whether the picture is used all the same."""
        return self.code not in UNUSABLE


class ImageError(OSError):
    """A picture that gives nothing, with its ``issue``."""

    def __init__(self, issue: ImageIssue) -> None:
        super().__init__(f"{issue.id}: {issue.detail}")
        self.issue = issue

    def __reduce__(self) -> tuple[type[ImageError], tuple[ImageIssue]]:
        return type(self), (self.issue,)


def summarize_issues(faults: Iterable[ImageIssue | None], most: int = 3) -> str:
    """How many pictures are of each kind, in the order of `ISSUE_CODES`; of those that give nothing, the first ids.

    >>> summary([None, ImageIssue("7", "html", "7.jpg is a web page")])
    '1 html (a web page saved as a picture): 7'
    """
    met = [fault for fault in faults if fault is not None]
    counts = Counter(fault.code for fault in met)
    lines = []
    for kind in (kind for kind in ISSUE_CODES if kind in counts):
        line = f"{counts[kind]} {kind} ({ISSUE_CODES[kind]})"
        if kind in UNUSABLE:
            ids = [fault.id for fault in met if fault.code == kind]
            line += f": {', '.join(ids[:most])}{', ...' if len(ids) > most else ''}"
        lines.append(line)
    return "\n".join(lines)


#: What a picture of each suffix is inside; MPO is the JPEG of some telephones.
FORMATS = {".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".png": ("PNG",)}


#: The formats that are opened, whatever the suffix; others (EPS runs a program) are not pictures here.
OPENED = ("JPEG", "PNG", "GIF", "WEBP", "AVIF", "BMP", "TIFF", "JPEG2000", "ICO", "PPM")


@dataclass(frozen=True)
class LoadedImage:
    """An opened picture: upright, in RGB.

    Args:
        image: the pixels.
        orientation: EXIF's number of how the file's pixels had to be turned; 1 for not at all.
        issue: what is unusual about it, or None.
    """

    image: Image.Image
    orientation: int = 1
    issue: ImageIssue | None = None

    def boxes(self, boxes: Sequence[Box], size: tuple[int, int] | None) -> list[Box]:
        """Boxes given in pixels of a picture of this size, in pixels of this one.

        They are scaled where the picture was resized since. Tools that do not know EXIF give boxes of the
        picture as it lies in the file: where the size they give is that of a picture on its side, the boxes
        are turned with it. (Turned by half, mirrored, or square pictures do not show it: their boxes are
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
    """A picture by its content, whatever its file's suffix says.

    Args:
        source: its path, or a picture that is open already.
        id: what messages and its fault call it; by default its path.

    Raises:
        ImageError: an `OSError` that says which of `UNUSABLE` it is.
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
        detail = f"{path.name} is a web page that was saved as a picture"
        raise ImageError(ImageIssue(id, "html", detail))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path, formats=_formats()) as picture:
                picture.load()
                return _load_upright(picture, id, path)
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise ImageError(ImageIssue(id, "bomb", f"{path.name}: {error}")) from error
    except Exception as error:  # decoders raise whatever they stumble over
        raise ImageError(ImageIssue(id, "corrupt", f"{path.name}: {error}")) from error


def _load_upright(picture: Image.Image, id: str, path: Path | None) -> LoadedImage:
    """The picture turned as EXIF says, in RGB, with the first thing that is unusual about it."""
    name = path.name if path else id
    unusual: dict[str, str] = {}
    expected = FORMATS.get(path.suffix.lower()) if path else None
    if expected and picture.format not in expected:
        unusual["mislabelled"] = f"{name} is {picture.format} inside"
    if min(picture.size) <= 1:
        unusual["tiny"] = f"{name} has {picture.width} x {picture.height} pixels"
    orientation = _orientation(picture)
    if orientation in _TRANSPOSES:
        unusual["turned"] = f"{name} has EXIF orientation {orientation}"
    if getattr(picture, "is_animated", False) and picture.format != "MPO":
        unusual["animated"] = f"{name} has {getattr(picture, 'n_frames', 'several')} frames"
    if picture.has_transparency_data:
        unusual["transparent"] = f"{name} is {picture.mode} with transparency"
    if picture.mode not in ("RGB", "RGBA", "L"):
        unusual["colours"] = f"{name} is {picture.mode}"
    if max(picture.size) >= LARGE_SIDE:
        unusual["large"] = f"{name} has {picture.width} x {picture.height} pixels"
    image = _to_rgb(picture)
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


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF does not cost a good picture
        return 1


def _to_rgb(picture: Image.Image) -> Image.Image:
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB")
    if picture.mode.startswith("I"):  # Pillow cuts off at 255 what has 16 bits
        return picture.convert("I").point(lambda value: value / 257).convert("RGB")
    return picture.copy() if picture.mode == "RGB" else picture.convert("RGB")


def _rotate_box(box: Box, width: int, height: int, orientation: int) -> Box:
    """A box of a picture of this size as it lies in the file, in the upright picture of height x width."""
    left, top, right, bottom = box
    # transposed, (x, y) -> (y, x); then mirrored along the axes that the orientation names
    x1, y1, x2, y2 = top, left, bottom, right
    if orientation in (6, 7):
        x1, x2 = height - x2, height - x1
    if orientation in (7, 8):
        y1, y2 = width - y2, width - y1
    return x1, y1, x2, y2


def file_sha256(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal: what a picture's features are kept under."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
