"""Nearest words of a vocabulary: search, cache, saving and loading, and use by the builder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import mnergraph.features.text.nearest_words
from mnergraph.features.text.nearest_words import NearestWords

NAMES = ("paris", "rome", "Oslo", "bob", "tom", "nothing", "far")
TABLE = {
    "paris": (4.0, 1.0, 0.0),
    "rome": (4.0, 1.1, 0.0),
    "Oslo": (4.0, 1.4, 0.0),
    "bob": (0.0, 1.0, 4.0),
    "tom": (0.0, 1.3, 4.0),
    "nothing": (0.0, 0.0, 0.0),
    "far": (0.0, -1.0, -4.0),
}
VOCABULARY = ["Paris", "paris", "oslo", "Oslo", "Bob", "zzz", "nothing"]


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "vectors.txt"
    path.write_text("".join(f"{word} {' '.join(map(str, row))}\n" for word, row in TABLE.items()))
    return path


def find(table: Path, words: list[str] = VOCABULARY, **options: object) -> NearestWords:
    return NearestWords.from_file(table, words, **{"progress": False, **options})  # type: ignore[arg-type]


def cosine(a: str, b: str) -> float:
    one, other = np.array(TABLE[a]), np.array(TABLE[b])
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_nearest_words_by_name(table: Path) -> None:
    found = find(table, k=2)
    assert found.neighbors("paris") == [
        ("rome", pytest.approx(cosine("paris", "rome"), abs=1e-6)),
        ("Oslo", pytest.approx(cosine("paris", "Oslo"), abs=1e-6)),
    ]
    assert found.neighbors("Paris") == found.neighbors("paris"), "looked up in lower case"
    assert [name for name, _ in found.neighbors("Bob")] == ["tom", "Oslo"]
    assert [name for name, _ in found.neighbors("Oslo")] == ["rome", "paris"]
    assert found.neighbors("oslo") == [], "the table has it in upper case only"
    assert found.neighbors("zzz") == found.neighbors("nothing") == [], "a vector of zeros has no direction"
    # only the rows that are neighbors of any word
    assert set(found.names) == {"rome", "Oslo", "paris", "tom"}
    for name, vector in zip(found.names, found.vectors, strict=True):
        assert vector.tolist() == pytest.approx(TABLE[name])
    assert repr(found) == "NearestWords(4 words, 4 vectors of width 3)"


def test_more_neighbors_than_words(table: Path) -> None:
    found = find(table, k=50)
    assert [name for name, _ in found.neighbors("paris")] == ["rome", "Oslo", "tom", "bob", "far"]
    assert found.neighbors("paris")[-1][1] == pytest.approx(cosine("paris", "far"), abs=1e-6)


def test_exact_case_only(table: Path) -> None:
    found = find(table, lower=False)
    assert found.words == ("Oslo", "paris")
    assert found.neighbors("Paris") == []
    assert NearestWords.from_table(["a"], torch.ones(1, 2), ["a"], progress=False).neighbors("a") == []


def test_words_outside_the_vocabulary(table: Path) -> None:
    found = find(table, ["paris", "zzz"])
    assert found.neighbors("PARIS") == found.neighbors("paris") != []
    assert found.neighbors("bob") == [], "it is in the table, but not in the vocabulary"


def test_random_vectors_for_unknown_words(table: Path) -> None:
    plain, found = find(table, k=2), find(table, k=2, seed=3)
    for word in ("paris", "Paris", "Bob", "Oslo"):
        assert found.neighbors(word) == plain.neighbors(word)
    for word in ("zzz", "oslo", "nothing"):
        assert found.neighbors(word) == [(word, 1.0)]
    drawn = found.vectors[len(plain.names) :]
    assert drawn.shape == (3, 3)
    assert drawn.unique(dim=0).shape == (3, 3)
    assert drawn.abs().max() <= 1
    assert torch.equal(find(table, k=2, seed=3).vectors, found.vectors)
    assert not torch.equal(find(table, k=2, seed=4).vectors[-3:], drawn)
    many = find(table, [f"w{i}" for i in range(500)] + ["bob"], seed=0).vectors[-500:]
    assert 0.99 < many.abs().max() <= 1, "sqrt(3 / 3)"
    assert abs(many.mean()) < 0.05


def test_neighbors_of_a_sentence(table: Path) -> None:
    found = find(table, k=2)
    rows, word, cosines = found(["zzz", "Bob", "never seen", "PARIS", "Bob"])
    assert word.tolist() == [1, 1, 3, 3, 4, 4]
    assert [found.names[row] for row in rows] == ["tom", "Oslo", "rome", "Oslo", "tom", "Oslo"]
    assert cosines.dtype == np.float32
    assert cosines.tolist() == [value for word_of in ("Bob", "paris", "Bob") for _, value in found.neighbors(word_of)]
    assert [len(part) for part in found(["zzz"])] == [0, 0, 0]
    assert [part.dtype for part in found([])] == [np.int64, np.int64, np.float32]


def test_saved_and_loaded(table: Path, tmp_path: Path) -> None:
    found = find(table, seed=1)
    found.save(tmp_path / "a.safetensors")
    again = NearestWords.load(tmp_path / "a.safetensors")
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert (again.words, again.names, again.lower) == (found.words, found.names, found.lower)
    for name in ("counts", "rows", "cosines", "vectors"):
        assert torch.equal(getattr(again, name), getattr(found, name))
    assert [again.neighbors(word) for word in VOCABULARY] == [found.neighbors(word) for word in VOCABULARY]


def test_looked_up_once(table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = tmp_path / "new" / "cache"
    found = find(table, cache=cache)
    real, reads = mnergraph.features.text.nearest_words.read_embeddings, []

    def counted_read(path: Path, *, progress: bool) -> tuple[list[str], torch.Tensor]:
        reads.append(path)
        return real(path, progress=progress)

    monkeypatch.setattr(mnergraph.features.text.nearest_words, "read_embeddings", counted_read)
    again = find(table, [*reversed(VOCABULARY), "Bob"], cache=cache)
    assert reads == []
    assert [again.neighbors(word) for word in VOCABULARY] == [found.neighbors(word) for word in VOCABULARY]
    # other arguments are looked up again
    for options in ({"k": 3}, {"lower": False}, {"seed": 0}, {"words": [*VOCABULARY, "rome"]}):
        find(table, **{"cache": cache, **options})
    assert len(reads) == 4
    table.write_text(table.read_text() + "new 1 1 1\n")
    assert dict(find(table, k=50, cache=cache).neighbors("paris")).keys() >= {"new"}
    assert len(reads) == 5
    assert len(list(cache.iterdir())) == 6
    assert not list(cache.glob("*.part"))


@pytest.mark.parametrize("content", [b"", b"no safetensors at all", None])
def test_a_damaged_cache(table: Path, tmp_path: Path, content: bytes | None) -> None:
    find(table, cache=tmp_path / "cache")
    path = next((tmp_path / "cache").iterdir())
    if content is None:
        save_file({"x": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=r"similar-vectors-.* has no nearest words .*; delete it"):
        find(table, cache=tmp_path / "cache")


def test_a_table_of_other_words(table: Path, tmp_path: Path) -> None:
    message = r"vectors.txt: none of the 2 words has a vector, such as \['aaa', 'bbb'\]"
    with pytest.raises(ValueError, match=message):
        find(table, ["bbb", "aaa"], seed=1, cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()
    with pytest.raises(ValueError, match=r"vectors.txt: k is a number of neighbors, 1 or more, not 0"):
        find(table, k=0)
    with pytest.raises(FileNotFoundError, match=r"there is no file of word vectors .*none.txt"):
        find(tmp_path / "none.txt", cache=tmp_path)
