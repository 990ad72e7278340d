"""Write files so that they are complete or not there: beside the target, and renamed when they are on disk."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


#: Errors of a write, in which the system names no file.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def replacing(path: Path, *, own: bool = False) -> Iterator[Path]:
    """Yield a path on the same file system, whose file replaces the given one when the block ends.

    If the block or the disk fails, the file at ``path`` stays as it was and the other one is removed.

    Args:
        path: the file.
        own: whether several processes may write it at once: then each has an unfinished file of its own.
    """
    unfinished = path.with_name(f"{path.name}.{os.getpid()}.unfinished" if own else f"{path.name}.unfinished")
    try:
        with disk_errors(path):
            yield unfinished
            fsync(unfinished)
            unfinished.replace(path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Within it a failure to write, such as on a full disk, names this file where the system names none."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISK and error.filename is None:
            raise OSError(error.errno, f"can't be written ({error.strerror})", str(path)) from error
        raise


@contextmanager
def replacing_entries(folder: Path) -> Iterator[Path]:
    """Yield an empty folder within the given one, whose files and folders replace those there when the block ends.

    If the block or the disk fails, the entries of ``folder`` stay as they were.
    """
    unfinished = folder / ".unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        yield unfinished
        for path in unfinished.rglob("*"):
            fsync(path)
        for path in list(unfinished.iterdir()):
            target = folder / path.name
            if target.is_dir():
                target.rename(unfinished / f".{path.name}")
            path.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file's new content to disk so that readers have the old content or the new one."""
    with replacing(path) as unfinished:
        unfinished.write_bytes(content)


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None, *, own: bool = False
) -> None:
    """Write a safetensors file atomically.

    Args:
        path: the file.
        tensors: by name, contiguous.
        metadata: of the file's header.
        own: see `replacing`.

    Raises:
        OSError: when it can't be written, such as on a full disk.
    """
    from safetensors.torch import save_file

    with replacing(path, own=own) as unfinished, tensor_file_errors(path):
        save_file(dict(tensors), unfinished, metadata=None if metadata is None else dict(metadata))


@contextmanager
def tensor_file_errors(path: Path) -> Iterator[None]:
    """Within it a failure of safetensors or `torch.save` to write a file is an OSError that names the file."""
    from safetensors import SafetensorError

    try:
        yield
    except SafetensorError as error:
        raise OSError(f"{path} can't be written: {error}") from error
    except RuntimeError as error:
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise OSError(f"{path} can't be written, perhaps as the disk is full") from error


def fsync(path: Path) -> None:
    """Write what the system holds of a file, or of a folder's names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
