"""Images of posts: found by id, never outside their folder, and checked before they are trusted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from pathlib import Path

from mnergraph.features.vision.image_io import ImageError, ImageIssue, file_sha256, open_image

SUFFIXES = (".jpg", ".png", ".jpeg")


def image_path_of(folder: str | Path, id: str) -> Path | None:
    """The image ``<id>.jpg``, ``.png`` or ``.jpeg`` in a folder, or None.

    Raises:
        ValueError: when the id, or a link of its name, leads out of the folder.
    """
    folder = Path(folder)
    parts = id.replace("\\", "/").split("/")
    if not id or "\0" in id or "\\" in id or id.startswith("/") or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"post id {id!r} leads out of {folder}; right is the name of an image in it, without suffix")
    for suffix in SUFFIXES:
        path = folder / f"{id}{suffix}"
        if path.is_file():
            if not path.resolve().is_relative_to(folder.resolve()):
                raise ValueError(f"image of post {id!r} is a link out of {folder}; copy the file there")
            return path
    return None


def image_files(folder: str | Path) -> list[Path]:
    """Every image file of a folder, by name."""
    return sorted(path for path in Path(folder).iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def placeholders(folder: str | Path, *, copies: int = 10, sha256: Collection[str] = ()) -> set[str]:
    """Names, without suffix, of the images that stand in for a missing one.

    A placeholder has the same bytes as at least ``copies - 1`` other images of the folder, or one of these
    SHA-256 checksums.
    """
    by_size = defaultdict(list)
    for path in image_files(folder):
        by_size[path.stat().st_size].append(path)
    by_content = defaultdict(list)
    for paths in by_size.values():
        if len(paths) >= copies or sha256:
            for path in paths:
                by_content[file_sha256(path)].append(path.stem)
    return {
        name for content, names in by_content.items() if len(names) >= copies or content in sha256 for name in names
    }


def check_image(path: Path, id: str) -> ImageIssue | None:
    """What is unusual about an image, or None; decodes it, unless that would take too much memory."""
    try:
        return open_image(path, id).issue
    except ImageError as error:
        return error.issue
