"""Download the benchmarks; incomplete or altered files are discarded, errors say how to proceed by hand."""

from __future__ import annotations

import tempfile
import zipfile
from http.client import HTTPException
from pathlib import Path, PurePosixPath
from urllib.error import HTTPError

from torch_geometric.data import download_google_url, download_url, extract_zip

from mnergraph.data.image_files import SUFFIXES
from mnergraph.features.vision.image_io import file_sha256

#: The providers' archive of the images of both benchmarks, as UMT's repository links it.
IMAGES_DRIVE_ID = "1PpvvncnQkgDNeBMKVgG2zFYuRhbL873g"


IMAGES_URL = f"https://drive.google.com/file/d/{IMAGES_DRIVE_ID}/view"


YEARS = ("2015", "2017")


def fetch_text(url: str, target: Path, sha256: str) -> None:
    """Download a file to ``target`` if it has this checksum.

    Raises:
        ConnectionError: when the download fails, with the address and the target path.
    """
    by_hand = f"fetch {url} yourself and put it at {target}"
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        try:
            got = Path(download_url(url, folder))
        except (OSError, HTTPException) as error:
            if isinstance(error, HTTPError):
                error.close()
            raise ConnectionError(f"cannot download ({error}); {by_hand}") from error
        found = file_sha256(got)
        if found != sha256:
            raise ConnectionError(
                f"{url} is incomplete or another file: its sha256 is {found}, right is {sha256}; retry, or {by_hand}"
            )
        got.replace(target)


def fetch_images(root: Path, year: str) -> Path:
    """Return the folder of a benchmark's images; if there is none, download them to ``root/raw/images``.

    The archive holds both years; the images of ``year`` are kept. It has no published checksum; that it is
    a whole archive with images in it is all that can be checked.

    Raises:
        ConnectionError: when the archive cannot be downloaded completely.
    """
    target = root / "raw" / "images"
    for there in (target, root / "images"):
        if there.is_dir():
            return there
    by_hand = f"fetch {IMAGES_URL} yourself and put its images of {year} into {target}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".download-") as folder:
        try:
            archive = download_google_url(IMAGES_DRIVE_ID, folder, "pictures.zip")
        except (OSError, HTTPException) as error:
            raise ConnectionError(f"cannot download the images ({error}); {by_hand}") from error
        unpacked = Path(folder) / "unpacked"
        try:
            _check_names(archive)
            extract_zip(archive, str(unpacked))
        except zipfile.BadZipFile as error:
            raise ConnectionError(
                f"the download is incomplete, or a web page in place of an archive ({error}); {by_hand}"
            ) from error
        chosen = Path(folder) / "images"
        chosen.mkdir()
        for path in _images_of_year(unpacked, year):
            path.replace(chosen / path.name)
        if not any(chosen.iterdir()):
            raise ConnectionError(f"the archive holds no images of {year}; {by_hand}")
        chosen.replace(target)
    return target


def _check_names(archive: str) -> None:
    """Raise BadZipFile for an archive with paths outside the folder that it is extracted to."""
    with zipfile.ZipFile(archive) as file:
        for name in file.namelist():
            path = PurePosixPath(name.replace("\\", "/"))
            if path.is_absolute() or ".." in path.parts or ":" in path.parts[0]:
                raise zipfile.BadZipFile(f"it holds {name!r}, which leads out of its folder")


def _images_of_year(folder: Path, year: str) -> list[Path]:
    """The images below a folder named after the year, or else below none named after any year."""
    images = [path for path in sorted(folder.rglob("*")) if path.suffix.lower() in SUFFIXES and path.is_file()]
    places = {path: str(path.parent.relative_to(folder)) for path in images}
    own = [path for path in images if year in places[path]]
    return own or [path for path in images if not any(other in places[path] for other in YEARS)]
