"""Word vectors: the rows of words, trainable rows, saving and loading."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from mnergraph.features.text.word_embeddings import (
    UNKNOWN_ID,
    Alphabet,
    Vocabulary,
    WordTable,
    WordVectors,
    lookup_forms,
    random_vectors,
    read_vectors,
    word_vectors_from_config,
)

POSTS = ("Paris in 2017", "paris IN 1999", "Kawhi @user8 @User9", "once")
WORDS = [word for post in POSTS for word in post.split()]


def vector(encoder: WordVectors, word: str) -> list[float]:
    (ids,) = encoder.tokenizer([word])
    return encoder.model(torch.tensor(ids))[0].tolist()


def test_forms() -> None:
    assert lookup_forms("ÉTÉ2017") == ("ÉTÉ2017", "été2017", "été0000")


def test_a_word_is_looked_up_as_written_first() -> None:
    pieces = Vocabulary(["Paris", "paris", "0000", "2017", "in"])
    words = ["Paris", "PARIS", "paris", "1999", "2017", "In", "London"]
    assert pieces(words) == [(1,), (2,), (2,), (3,), (4,), (5,), (UNKNOWN_ID,)]
    assert pieces([]) == []
    assert (pieces.start, pieces.end) == ((), ())


def test_alphabet_keeps_case() -> None:
    letters = Alphabet("abA")
    assert len(letters) == 4
    assert letters(["aAb", "a?", ""]) == [(1, 3, 2), (1, UNKNOWN_ID), (UNKNOWN_ID,)]


def test_random_vectors() -> None:
    torch.manual_seed(0)
    encoder = random_vectors(WORDS, 12)
    assert encoder.name == "random:12"
    assert encoder.hidden_size == 12
    # words that occur twice: paris, in, 0000, @user0
    assert sorted(encoder.tokenizer.words) == ["0000", "@user0", "in", "paris"]
    assert encoder.tokenizer(["Kawhi", "once", "never"]) == [(UNKNOWN_ID,)] * 3
    assert vector(encoder, "PARIS") == vector(encoder, "paris") != vector(encoder, "in")
    assert vector(encoder, "2042") == vector(encoder, "1999")
    table = encoder.model.learned
    assert table.shape == (5, 12)
    assert not len(encoder.model.fixed)
    assert 0.5 * math.sqrt(3 / 12) < table.abs().max() <= math.sqrt(3 / 12)
    torch.manual_seed(0)
    assert torch.equal(random_vectors(WORDS, 12).model.learned, table), "vectors depend on torch's random state"
    assert len(random_vectors(WORDS, 4, min_count=1).tokenizer.words) == 6
    with pytest.raises(ValueError, match="a vector is at least 1 wide, not 0"):
        random_vectors(WORDS, 0)


def test_the_alphabet_is_that_of_the_training_words() -> None:
    characters = random_vectors(["ab", "aB", "b", "aa"], 4).characters.characters
    assert characters == "ab", "B occurs once only"
    assert random_vectors(["ab", "aB"], 4, min_count=1).characters.characters == "Bab"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    lines = ["the 1 1", "Paris 2 2", "paris 3 3", "london 4 4", "0000 5 5", "rare 6 6", "kawhi 7 7"]
    (tmp_path / "glove.txt").write_text("\n".join(lines))
    return tmp_path / "glove.txt"


def test_vectors_of_a_file(file: Path) -> None:
    encoder = read_vectors(file, WORDS, max_words=5)
    assert (encoder.name, encoder.hidden_size) == ("glove.txt", 2)
    for word, expected in {
        "Paris": 2,
        "paris": 3,
        "PARIS": 3,
        "1999": 5,
        "Kawhi": 7,  # a training word, beyond the first five
        "London": 4,  # no training word, among the first five
    }.items():
        assert vector(encoder, word) == [expected, expected], word
    for word in ("rare", "once", "never"):
        assert encoder.tokenizer([word]) == [(UNKNOWN_ID,)], word
    for word in ("in", "@user5"):
        assert encoder.tokenizer([word]) != [(UNKNOWN_ID,)], "not in the file, but in two posts"


def test_only_rows_of_training_words_are_trained(file: Path) -> None:
    encoder = read_vectors(file, WORDS)
    table = encoder.model
    rows = [row for (row,) in encoder.tokenizer(WORDS)]
    others = [row for (row,) in encoder.tokenizer(["the", "london", "rare"])]
    assert sorted(set(rows) | {UNKNOWN_ID}) == list(range(len(table.learned)))
    assert min(others) == len(table.learned)
    table(torch.tensor(others)).sum().backward()
    assert not table.learned.grad.any()
    table(torch.tensor(rows)).sum().backward()
    assert table.learned.grad.any(1).nonzero()[:, 0].tolist() == sorted(set(rows))
    assert [name for name, _ in table.named_parameters()] == ["learned"]
    assert [name for name, _ in table.named_buffers()] == ["fixed"]


@pytest.mark.parametrize("fixed", [0, 4])
def test_table_against_one_table(fixed: int) -> None:
    torch.manual_seed(0)
    learned, rest = torch.randn(3, 5), torch.randn(fixed, 5)
    table, ids = WordTable(learned.clone(), rest), torch.randint(0, 3 + fixed, (4, 6))
    assert torch.equal(table(ids), torch.cat([learned, rest])[ids])
    weights = torch.randn(4, 6, 5)
    (table(ids) * weights).sum().backward()
    for row in range(3):
        torch.testing.assert_close(table.learned.grad[row], weights[ids == row].sum(0))


def test_saved_and_rebuilt_untrained(file: Path, tmp_path: Path) -> None:
    encoder = read_vectors(file, [*WORDS, "😀‍🔥"], min_count=1)
    encoder.save(tmp_path / "deep" / "encoder")
    assert [path.name for path in (tmp_path / "deep" / "encoder").iterdir()] == ["vocabulary.json"]
    again = word_vectors_from_config(tmp_path / "deep" / "encoder")
    assert (again.name, again.hidden_size) == (encoder.name, encoder.hidden_size)
    words = [*WORDS, "London", "never", "😀‍🔥"]
    assert again.tokenizer(words) == encoder.tokenizer(words)
    assert again.characters(words) == encoder.characters(words)
    again.model.load_state_dict(encoder.model.state_dict(), strict=True)
    assert [vector(again, word) for word in words] == [vector(encoder, word) for word in words]
