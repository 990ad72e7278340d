"""Images of columns, which are paths, addresses or bytes, as files."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Self

from mnergraph.data.formats.jsonl import require_file
from mnergraph.data.image_files import image_path_in, leads_out
from mnergraph.quoting import quoted


def is_address(name: str) -> bool:
    """Whether a name is an address of a file system, such as ``s3://bucket/images``."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]+://", name) is not None


class ImageFiles:
    """Gives images a path; those that are bytes, or lie elsewhere, are written to a folder that lives as long.

    Use it as a context manager.

    Args:
        folder: in which paths are looked up: a local folder, or an address of a file system that pyarrow knows.
        allow_paths: whether images may lie anywhere, by absolute paths, ``..``, links and addresses.
    """

    def __init__(self, folder: str, *, allow_paths: bool = False) -> None:
        self.folder, self.allow_paths = folder, allow_paths
        self._temporary: Path | None = None
        self._written = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._temporary is not None:
            shutil.rmtree(self._temporary, ignore_errors=True)

    def path_of(self, image: str | bytes) -> Path | None:
        """Return the path of an image; None for a path that leads out of the folder.

        Raises:
            ValueError: when there is no such image, or it is neither text nor bytes.
        """
        if isinstance(image, bytes | bytearray | memoryview):
            return self._write(bytes(image))
        if not isinstance(image, str):
            raise ValueError(f"image is {quoted(image)}, which is neither a path nor bytes")
        if is_address(image):
            return self._write(_read(image)) if self.allow_paths else None
        if is_address(self.folder):
            if leads_out(image):
                return None
            return self._write(_read(f"{self.folder.rstrip('/')}/{image}"))
        try:
            path = Path(self.folder, image) if self.allow_paths else image_path_in(self.folder, image)
        except ValueError:
            return None
        return require_file(path)

    def _write(self, content: bytes) -> Path:
        if self._temporary is None:
            self._temporary = Path(tempfile.mkdtemp(prefix="mnergraph-"))
        self._written += 1
        path = self._temporary / str(self._written)
        path.write_bytes(content)
        return path


def _read(address: str) -> bytes:
    """Return the content of a file of any file system that pyarrow knows."""
    from pyarrow import ArrowException
    from pyarrow.fs import FileSystem

    try:
        system, path = FileSystem.from_uri(address)
        with system.open_input_file(path) as file:
            content: bytes = file.read()
    except (OSError, ArrowException, ValueError) as error:
        raise ValueError(f"there is no image {quoted(address)}: {' '.join(str(error).split())[:200]}") from error
    return content
