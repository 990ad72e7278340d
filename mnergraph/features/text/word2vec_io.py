"""Reading word vectors: word2vec's text and binary formats and GloVe's text format, plain or gzipped."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Container, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm


def read_embeddings(
    path: str | os.PathLike[str],
    *,
    always_keep: Container[str] = (),
    max_words: int | None = None,
    progress: bool = False,
) -> tuple[list[str], Tensor]:
    """Return the words of a file and their vectors ``[words, width]``, float32, in the file's order.

    A line is a word and its numbers, separated by spaces; in word2vec's format the first line is the number of words
    and the width. A word may have spaces. In a file whose name ends in ``.bin``, that first line is followed by each
    word, a space, and its numbers as float32. Files whose name ends in ``.gz`` are gzipped. Of a word that occurs
    twice the first vector is taken.

    Args:
        path: the file, UTF-8.
        always_keep: words to keep anywhere in the file.
        max_words: number of further words to keep, from the beginning of the file, where the frequent ones are; None
            keeps all.
        progress: whether to show a progress bar.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a malformed line, naming file and line; in a binary file, for a malformed word.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of word vectors {path}")
    gzipped = path.suffix == ".gz"
    entries = _binary_entries if (path.with_suffix("") if gzipped else path).suffix == ".bin" else _text_entries
    known: dict[str, None] = {}
    numbers = bytearray()
    width = 0
    with cast(IO[bytes], gzip.open(path) if gzipped else path.open("rb")) as file:
        bar = tqdm(entries(file, path), f"reading {path.name}", unit="word", disable=not progress)
        try:
            for entry in bar:
                width = len(entry.numbers)
                word = entry.text()
                if word not in known and (max_words is None or len(known) < max_words or word in always_keep):
                    known[word] = None
                    numbers += entry.vector().tobytes()
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise ValueError(f"{path} is a truncated or invalid gzip file ({error})") from error
    vectors = np.frombuffer(numbers, dtype=np.float32) if known else np.zeros(0, dtype=np.float32)
    return [*known], torch.from_numpy(vectors.reshape(len(known), width))


class _Entry(NamedTuple):
    """A word and its numbers as in the file, their location, and the original line."""

    where: str
    line: bytes
    word: bytes
    numbers: Sequence[bytes] | np.ndarray

    def text(self) -> str:
        try:
            return self.word.decode()
        except ValueError as error:
            raise self.error(str(error)) from None

    def vector(self) -> np.ndarray:
        try:
            with np.errstate(over="ignore"):
                vector = np.array(self.numbers, dtype=np.float32)
        except ValueError as error:
            raise self.error(str(error)) from None
        if not np.isfinite(vector).all():
            raise self.error("NaN or infinity")
        return vector

    def error(self, reason: str) -> ValueError:
        return ValueError(f"{self.where}: {self.line[:40]!r} is not {_expected(len(self.numbers))} ({reason})")


def _expected(width: int | None) -> str:
    return f"a word and {width or 'its'} finite numbers, with spaces between them, in UTF-8"


def _text_entries(file: IO[bytes], path: Path) -> Iterator[_Entry]:
    width, declared, count = 0, None, 0
    for number, raw in enumerate(file, 1):
        line = raw.rstrip(b" \r\n")
        if number == 1 and len(line.split()) == 2 and line.replace(b" ", b"").isdigit():
            declared, width = map(int, line.split())
            continue
        if not line:
            continue
        width = width or line.count(b" ")
        word, *numbers = line.rsplit(b" ", width) if width else [line]
        # a word may have spaces, but does not end in a further number
        if not word or not numbers or len(numbers) < width or _is_number(word.partition(b" ")[2]):
            raise ValueError(f"{path}:{number}: {line[:40]!r} is not {_expected(width)}")
        yield _Entry(f"{path}:{number}", line, word, numbers)
        count += 1
    _check_count(path, declared, count, width)


def _binary_entries(file: IO[bytes], path: Path) -> Iterator[_Entry]:
    header = file.readline(100).split()
    if len(header) != 2 or not all(map(bytes.isdigit, header)) or not int(header[1]):
        raise ValueError(
            f"{path}:1: {b' '.join(header)!r} are not the number of words and the width; a text file's name "
            "does not end in .bin"
        )
    declared, width = map(int, header)
    for index in range(1, declared + 1):
        characters = bytearray()
        while (character := file.read(1)) not in (b" ", b""):
            characters += character
        word, numbers = bytes(characters).removeprefix(b"\n"), file.read(4 * width)
        where = f"{path}: word {index} of {declared}"
        if len(numbers) < 4 * width:
            raise ValueError(f"{where}, {word[:40]!r}: the file ends before its {width} numbers do")
        yield _Entry(where, word, word, np.frombuffer(numbers, dtype="<f4"))
    _check_count(path, declared, declared + bool(file.read().strip()), width)


def _check_count(path: Path, declared: int | None, count: int, width: int) -> None:
    if not count:
        raise ValueError(f"{path} has no vectors; each line should be {_expected(width)}")
    if declared not in (None, count):
        raise ValueError(f"{path}: the first line declares {declared} words, and there are {count} or more")


def _is_number(field: bytes) -> bool:
    try:
        float(field)
    except ValueError:
        return False
    return True
