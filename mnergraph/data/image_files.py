"""Images of posts: found by id, never outside their folder, and checked before they are trusted."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from mnergraph.features.vision.image_io import ImageError, ImageIssue, file_sha256, open_image
from mnergraph.pair import Pair
from mnergraph.quoting import quoted

#: The suffixes of images, in any case; of two files of one id the one whose suffix stands first is taken.
SUFFIXES = (".jpg", ".png", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")


def image_path_of(folder: str | Path, id: str) -> Path | None:
    """The image of this id in a folder, ``<id>.jpg`` or another of `SUFFIXES` in any case, or None.

    A warning names both where two files have one id.

    Raises:
        ValueError: when the id, or a link of its name, leads out of the folder.
    """
    folder = Path(folder)
    parts = id.split("/")
    if leads_out(id) or any(part in ("", ".") for part in parts):
        raise ValueError(f"post id {id!r} leads out of {folder}; right is the name of an image in it, without suffix")
    parent = folder.joinpath(*parts[:-1])
    if not parent.is_dir():
        return None
    found = _images_by_stem(parent, parent.stat().st_mtime_ns).get(parts[-1], ())
    if not found:  # the index can be older than a file of the same moment
        found = [path for suffix in SUFFIXES if (path := parent / f"{parts[-1]}{suffix}").is_file()]
    if not found:
        return None
    path = found[0]
    if len(found) > 1:
        names = ", ".join(one.name for one in found)
        warnings.warn(f"post {id!r} has {len(found)} images, {names}; the first is taken", stacklevel=2)
    if not _lies_in(path, folder):
        raise ValueError(f"image of post {id!r} is a link out of {folder}; copy the file there")
    return path


def image_path_in(folder: str | Path, name: str) -> Path:
    """The path of an image that a file in a folder names; whether there is such a file is not checked.

    Raises:
        ValueError: when the name, or a link on the way, leads out of the folder.
    """
    path = Path(folder, name)
    if leads_out(name):
        raise ValueError(f"image {quoted(name)} leads out of {folder}; right is a path within it, with / between parts")
    if not _lies_in(path, Path(folder)):
        raise ValueError(f"image {quoted(name)} is a link out of {folder}; copy the file there")
    return path


def leads_out(name: str) -> bool:
    """Whether a name can lead out of the folder that it is looked for in: the rule for ids and for paths.

    So can an absolute path of any system, ``..``, a user's folder (``~/``) and a separator of Windows.
    """
    parts = name.split("/")
    home = parts[0].startswith("~") and len(parts) > 1
    absolute = name.startswith("/") or re.match("[A-Za-z]:(/|$)", name) is not None
    return not name or "\0" in name or "\\" in name or ".." in parts or home or absolute


def _lies_in(path: Path, folder: Path) -> bool:
    """Whether a path is in a folder when all links are followed."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # links that lead to themselves
        return False


@lru_cache(maxsize=64)
def _images_by_stem(folder: Path, modified: int) -> dict[str, list[Path]]:
    """Return the image files of a folder by name without suffix, in the order of `SUFFIXES`."""
    found: dict[str, list[Path]] = defaultdict(list)
    for path in image_files(folder):
        found[path.stem].append(path)
    return {stem: sorted(paths, key=lambda path: SUFFIXES.index(path.suffix.lower())) for stem, paths in found.items()}


def attach_images(pairs: Iterable[Pair], attach: Callable[[Pair], Pair]) -> Iterator[Pair]:
    """Yield the pairs with the paths of their images; those whose id leads out of the folder have none.

    A warning counts and names these at the end.

    Args:
        pairs: the posts.
        attach: returns a post with its image, or raises ValueError, as `image_path_of` does.
    """
    refused = Refused()
    for pair in pairs:
        try:
            found = attach(pair)
        except ValueError as error:
            found = pair
            refused.add(str(error))
        yield found
    refused.warn(stacklevel=4)


class Refused:
    """Counts posts whose images were refused."""

    def __init__(self) -> None:
        self.posts = 0
        self._first: list[str] = []

    def add(self, why: str) -> None:
        """Count a post.

        Args:
            why: what is wrong with its image.
        """
        self.posts += 1
        self._first += [why] * (len(self._first) < 5)

    def warn(self, *, stacklevel: int = 3) -> None:
        """Warn of their number and of the first five, if there are any."""
        if self.posts:
            warnings.warn(f"{self.posts} posts have no image: {'; '.join(self._first)}", stacklevel=stacklevel)


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
