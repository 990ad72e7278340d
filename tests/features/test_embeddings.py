"""Word vectors from text files: both formats, what is kept, and what is no line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mnergraph.features.embeddings import read_embeddings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vectors.txt"


def test_both_formats(file: Path) -> None:
    lines = "the 1 -2.5 3e-1\nin 0 0 1\r\n\nNew York 4 5 6\nin 9 9 9\né 7 8 9 \n"
    wanted = torch.tensor([[1, -2.5, 0.3], [0, 0, 1], [4, 5, 6], [7, 8, 9]])
    for header in ("", "5 3\n"):
        file.write_bytes((header + lines).encode())
        words, vectors = read_embeddings(file)
        assert words == ["the", "in", "New York", "é"], "of a word that stands there twice the first counts"
        assert vectors.dtype == torch.float32
        assert torch.equal(vectors, wanted)


def test_a_number_is_a_word_where_a_vector_follows(file: Path) -> None:
    file.write_text("5 3 4\n7 1 2\n")
    words, vectors = read_embeddings(file)
    assert words == ["5", "7"]
    assert vectors.tolist() == [[3, 4], [1, 2]]


def test_what_is_kept(file: Path) -> None:
    file.write_text("a 1\nb 2\nc 3\nd 4\ne 5\n")
    assert read_embeddings(file, first=2)[0] == ["a", "b"]
    words, vectors = read_embeddings(file, wanted={"d", "a", "z"}, first=2)
    assert words == ["a", "b", "d"]
    assert vectors[:, 0].tolist() == [1, 2, 4]
    words, vectors = read_embeddings(file, wanted={"z"}, first=0)
    assert words == []
    assert vectors.shape == (0, 1)
    assert read_embeddings(file)[0] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"a 1 2\nb 1\n", r"vectors.txt:2: b'b 1' is not a word and 2 finite numbers"),
        (b"a 1 2\nb 1 x\n", r"vectors.txt:2: .*right is a word and 2 finite numbers"),
        (b"a 1 2\nb 1 nan\n", r"vectors.txt:2: b'b 1 nan' is not"),
        (b"a 1 2\n\xff\xfe 1 2\n", r"vectors.txt:2: .*in UTF-8"),
        (b"garbage\n", r"vectors.txt:1: b'garbage' is not a word and its finite numbers"),
        (b"a 1 2\n 1 2\n", r"vectors.txt:2: b' 1 2' is not"),
        (b"", r"vectors.txt holds no vector; right is a word and its finite numbers"),
        (b"0 2\n", r"vectors.txt holds no vector; right is a word and 2 finite numbers"),
    ],
)
def test_what_is_no_line(file: Path, content: bytes, told: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=told):
        read_embeddings(file)


def test_no_such_file(file: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file of word vectors .*vectors.txt"):
        read_embeddings(file)
