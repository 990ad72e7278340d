"""What may be unusual about a picture, and what becomes of it: every kind has a declared outcome."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import NamedTuple

#: A picture with a side this long or longer is *large*.
LARGE = 10_000

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
ODD = {
    "mislabelled": "of another format than its suffix says; read by content",
    "tiny": "a side of one pixel; used as it is",
}
#: Kinds of pictures that need care and get it.
HANDLED = {
    "turned": "EXIF says it lies on its side or is mirrored; turned upright first, boxes are of the upright",
    "animated": "the first frame is used",
    "transparent": "laid on white",
    "colours": "CMYK, palette, 16 bits and others; converted to RGB",
    "large": f"a side of {LARGE:,} pixels or more; decoded whole and scaled down",
}
KINDS = {**UNUSABLE, **ODD, **HANDLED}


class PictureFault(NamedTuple):
    """What is unusual about a picture; ``kind`` is one of `KINDS`, the first that applies in their order."""

    id: str
    kind: str
    detail: str

    @property
    def usable(self) -> bool:
        """Whether the picture is used all the same."""
        return self.kind not in UNUSABLE


class PictureError(OSError):
    """A picture that gives nothing, with its ``fault``."""

    def __init__(self, fault: PictureFault) -> None:
        super().__init__(f"{fault.id}: {fault.detail}")
        self.fault = fault

    def __reduce__(self) -> tuple[type[PictureError], tuple[PictureFault]]:
        return type(self), (self.fault,)


def summary(faults: Iterable[PictureFault | None], most: int = 3) -> str:
    """How many pictures are of each kind, in the order of `KINDS`; of those that give nothing, the first ids.

    >>> summary([None, PictureFault("7", "html", "7.jpg is a web page")])
    '1 html (a web page saved as a picture): 7'
    """
    met = [fault for fault in faults if fault is not None]
    counts = Counter(fault.kind for fault in met)
    lines = []
    for kind in (kind for kind in KINDS if kind in counts):
        line = f"{counts[kind]} {kind} ({KINDS[kind]})"
        if kind in UNUSABLE:
            ids = [fault.id for fault in met if fault.kind == kind]
            line += f": {', '.join(ids[:most])}{', ...' if len(ids) > most else ''}"
        lines.append(line)
    return "\n".join(lines)
