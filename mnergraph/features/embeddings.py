"""Word vectors from a text file in word2vec's or GloVe's format."""

from __future__ import annotations

import os
from collections.abc import Container
from pathlib import Path

import numpy as np
import torch
from torch import Tensor


def read_embeddings(
    path: str | os.PathLike[str], *, wanted: Container[str] = (), first: int | None = None
) -> tuple[list[str], Tensor]:
    """The words of a file and their vectors ``[words, width]``, float32, in the file's order.

    A line is a word and its numbers, with spaces between them; word2vec's format has a line with the number
    of words and the width before all others. A word may hold spaces itself. Of a word that stands there twice
    the first vector counts.

    Args:
        path: the file, UTF-8.
        wanted: words to keep wherever they stand.
        first: how many of the file's words to keep besides, from its beginning, where the frequent ones
            stand; None keeps all.

    Raises:
        FileNotFoundError: when there is no such file.
        ValueError: for a line that is none, naming file and line.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file of word vectors {path}")
    rows: dict[str, np.ndarray] = {}
    width: int | None = None
    empty = True
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            line = raw.rstrip(b" \r\n")
            if number == 1 and len(line.split()) == 2 and line.replace(b" ", b"").isdigit():
                width = int(line.split()[1])
                continue
            if not line:
                continue
            empty, width = False, width or len(line.split(b" ")) - 1
            parts = line.rsplit(b" ", width)
            try:
                word = parts[0].decode()
                if word in rows or not (first is None or len(rows) < first or word in wanted):
                    continue
                rows[word] = vector = np.array(parts[1:], dtype=np.float32)
            except ValueError as error:
                raise ValueError(f"{path}:{number}: {error}; right is {_right(width)}") from None
            if not word or not width or len(vector) != width or not np.isfinite(vector).all():
                raise ValueError(f"{path}:{number}: {line[:40]!r} is not {_right(width)}")
    if empty or width is None:
        raise ValueError(f"{path} holds no vector; right is {_right(width)} in each line")
    vectors = np.stack([*rows.values()]) if rows else np.zeros((0, width), dtype=np.float32)
    return [*rows], torch.from_numpy(vectors)


def _right(width: int | None) -> str:
    return f"a word and {width or 'its'} finite numbers, with spaces between them, in UTF-8"
