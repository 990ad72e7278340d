"""Pictures of posts: found by id, never outside their folder, and checked before they are trusted."""

from __future__ import annotations

import hashlib
import warnings
from collections import defaultdict
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from PIL import Image

SUFFIXES = (".jpg", ".png", ".jpeg")
#: What a picture of each suffix is inside; MPO is the JPEG of some telephones.
FORMATS = {".jpg": ("JPEG", "MPO"), ".jpeg": ("JPEG", "MPO"), ".png": ("PNG",)}


class PictureFault(NamedTuple):
    """What is wrong with a picture.

    ``kind`` is missing, refused (the id leads out of the folder), empty, html, bomb, corrupt, tiny or
    mislabelled.
    """

    id: str
    kind: str
    detail: str


def picture_path(folder: str | Path, id: str) -> Path | None:
    """The picture ``<id>.jpg``, ``.png`` or ``.jpeg`` in a folder, or None.

    Raises:
        ValueError: when the id, or a link of its name, leads out of the folder.
    """
    folder = Path(folder)
    parts = id.replace("\\", "/").split("/")
    if (
        not id
        or "\0" in id
        or "\\" in id
        or id.startswith("/")
        or any(part in ("", ".", "..") for part in parts)
    ):
        raise ValueError(
            f"post id {id!r} leads out of {folder}; right is the name of a picture in it, without suffix"
        )
    for suffix in SUFFIXES:
        path = folder / f"{id}{suffix}"
        if path.is_file():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"picture of post {id!r} is a link out of {folder}; copy the file there")
            return path
    return None


def picture_files(folder: str | Path) -> list[Path]:
    """Every picture file of a folder, by name."""
    return sorted(
        path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()
    )


def placeholders(folder: str | Path, *, copies: int = 10, sha256: Collection[str] = ()) -> set[str]:
    """Names, without suffix, of the pictures that stand in for a missing one.

    A placeholder has the same bytes as at least ``copies - 1`` other pictures of the folder, or one of these
    SHA-256 checksums.
    """
    by_size = defaultdict(list)
    for path in picture_files(folder):
        by_size[path.stat().st_size].append(path)
    by_content = defaultdict(list)
    for paths in by_size.values():
        if len(paths) >= copies or sha256:
            for path in paths:
                by_content[checksum(path)].append(path.stem)
    return {
        name
        for content, names in by_content.items()
        if len(names) >= copies or content in sha256
        for name in names
    }


def check_picture(path: Path, id: str) -> PictureFault | None:
    """The first fault of a picture, or None; decodes it, unless it would take too much memory (a *bomb*).

    A *mislabelled* picture can be read but is of another format than its suffix says; a *tiny* one has a side
    of one pixel.
    """
    with path.open("rb") as file:
        head = file.read(256).lstrip().lower()
    if path.stat().st_size == 0:
        return PictureFault(id, "empty", f"{path.name} has no bytes")
    if head.startswith((b"<!doctype", b"<html", b"<?xml")):
        return PictureFault(id, "html", f"{path.name} is a web page that was saved as a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as picture:
                picture.load()
    except (Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        return PictureFault(id, "bomb", f"{path.name}: {error}")
    except Exception as error:  # decoders raise whatever they stumble over
        return PictureFault(id, "corrupt", f"{path.name}: {error}")
    if min(picture.size) <= 1:
        return PictureFault(id, "tiny", f"{path.name} has {picture.width} x {picture.height} pixels")
    if picture.format not in FORMATS[path.suffix.lower()]:
        return PictureFault(id, "mislabelled", f"{path.name} is {picture.format} inside")
    return None


def checksum(path: str | Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
