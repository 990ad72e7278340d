"""Reading word vectors: formats, selection of words, and malformed files."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import torch

from mnergraph.features.text.word2vec_io import read_embeddings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "vectors.txt"


def test_both_formats(file: Path) -> None:
    lines = "the 1 -2.5 3e-1\nin 0 0 1\r\n\nNew York 4 5 6\nin 9 9 9\né 7 8 9 \n"
    expected = torch.tensor([[1, -2.5, 0.3], [0, 0, 1], [4, 5, 6], [7, 8, 9]])
    for header in ("", "5 3\n"):
        file.write_bytes((header + lines).encode())
        words, vectors = read_embeddings(file)
        assert words == ["the", "in", "New York", "é"], "the first vector of a repeated word is taken"
        assert vectors.dtype == torch.float32
        assert torch.equal(vectors, expected)


def test_numbers_can_be_words(file: Path) -> None:
    file.write_text("5 3 4\n7 1 2\n")
    words, vectors = read_embeddings(file)
    assert words == ["5", "7"]
    assert vectors.tolist() == [[3, 4], [1, 2]]


def test_what_is_kept(file: Path) -> None:
    file.write_text("a 1\nb 2\nc 3\nd 4\ne 5\n")
    assert read_embeddings(file, max_words=2)[0] == ["a", "b"]
    words, vectors = read_embeddings(file, always_keep={"d", "a", "z"}, max_words=2)
    assert words == ["a", "b", "d"]
    assert vectors[:, 0].tolist() == [1, 2, 4]
    words, vectors = read_embeddings(file, always_keep={"z"}, max_words=0)
    assert words == []
    assert vectors.shape == (0, 1)
    assert read_embeddings(file)[0] == ["a", "b", "c", "d", "e"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2\nb 1\n", r"vectors.txt:2: b'b 1' is not a word and 2 finite numbers"),
        (b"a 1 2\nb 1 x\n", r"vectors.txt:2: b'b 1 x' is not a word and 2 finite numbers"),
        (b"a 1 2\nb 1 nan\n", r"vectors.txt:2: b'b 1 nan' is not"),
        (b"a 1 2\n\xff\xfe 1 2\n", r"vectors.txt:2: .*in UTF-8"),
        (b"garbage\n", r"vectors.txt:1: b'garbage' is not a word and its finite numbers"),
        (b"a 1 2\n 1 2\n", r"vectors.txt:2: b' 1 2' is not"),
        (b"", r"vectors.txt has no vectors; each line should be a word and its finite numbers"),
        (b"0 2\n", r"vectors.txt has no vectors; each line should be a word and 2 finite numbers"),
        (b"a 1 2\n\nb 1 2 3\n", r"vectors.txt:3: b'b 1 2 3' is not a word and 2 finite numbers"),
        (b"a 1 2\nb 1 1e99\n", r"vectors.txt:2: b'b 1 1e99' is not .*NaN or infinity"),
        (b"2 3\na 1 2\n", r"vectors.txt:2: b'a 1 2' is not a word and 3 finite numbers"),
        (b"2 2\na 1 2\n", r"vectors.txt: the first line declares 2 words, and there are 1 or more"),
        (b"1 2\na 1 2\nb 1 2\n", r"vectors.txt: the first line declares 1 words, and there are 2 or more"),
        (b"2 2\na \x00\x00\x80\x3f\x00\x00\x80\x3f\nb 12345678\n", r"vectors.txt:2: "),
    ],
)
def test_malformed_lines(file: Path, content: bytes, message: str) -> None:
    file.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_embeddings(file)


def test_no_such_file(file: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"there is no file of word vectors .*vectors.txt"):
        read_embeddings(file)


WORDS = ("the", "Paris", "#é🇫🇷")
VECTORS = torch.tensor([[0.5, -1, 2e-3], [1, 2, 3], [0, 0, 0]])


def binary(between: bytes = b"") -> bytes:
    rows = zip(WORDS, VECTORS.numpy(), strict=True)
    return b"3 3\n" + between.join(word.encode() + b" " + row.astype("<f4").tobytes() for word, row in rows)


@pytest.mark.parametrize("between", [b"", b"\n"])
@pytest.mark.parametrize("name", ["v.bin", "v.bin.gz"])
def test_binary(tmp_path: Path, name: str, between: bytes) -> None:
    path, content = tmp_path / name, binary(between)
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    words, vectors = read_embeddings(path)
    assert words == list(WORDS)
    assert vectors.dtype == torch.float32
    assert torch.equal(vectors, VECTORS)
    assert read_embeddings(path, always_keep={"#é🇫🇷"}, max_words=1)[0] == ["the", "#é🇫🇷"]


def test_gzipped_text(tmp_path: Path) -> None:
    path = tmp_path / "v.txt.gz"
    path.write_bytes(gzip.compress(b"a 1 2\nb 3 4\n"))
    words, vectors = read_embeddings(path)
    assert (words, vectors.tolist()) == (["a", "b"], [[1, 2], [3, 4]])
    vectors += 1  # the tensor is writable


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 0.5 -1\n", r"v.bin:1: b'the 0.5 -1' are not the number of words and the width; a text file's"),
        (b"", r"v.bin:1: b'' are not the number"),
        (b"2 0\n", r"v.bin:1: b'2 0' are not the number"),
        (b"0 2\n", r"v.bin has no vectors"),
        (binary()[:-1], r"v.bin: word 3 of 3, b'#.*': the file ends before its 3 numbers do"),
        (b"2 1\na 1234", r"v.bin: word 2 of 2, b'': the file ends before its 1 numbers do"),
        (b"1 1\na \0\0\xc0\x7f", r"v.bin: word 1 of 1: b'a' is not a word and 1 finite numbers.*NaN"),
        (b"1 1\n\xff 1234", r"v.bin: word 1 of 1: b'\\xff' is not .*in UTF-8"),
        (b"1 1\na 1234\nb 1234", r"v.bin: the first line declares 1 words, and there are 2 or more"),
    ],
)
def test_malformed_binary_files(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "v.bin"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_embeddings(path)


@pytest.mark.parametrize("content", [b"a 1 2\n", gzip.compress(b"a 1 2\n" * 999, mtime=0)[:-9]])
def test_malformed_gzip_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "v.txt.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"v.txt.gz is a truncated or invalid gzip file"):
        read_embeddings(path)


def test_progress(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file.write_text("a 1\nb 2\n")
    read_embeddings(file, progress=True)
    assert "reading vectors.txt: 2word" in capsys.readouterr().err
    read_embeddings(file)
    assert capsys.readouterr().err == ""
