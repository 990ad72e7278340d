"""CoNLL files of any columns, scheme and headers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mnergraph.data.formats.conll import ConllError
from mnergraph.data.formats.conll_columns import read_conll_columns
from mnergraph.data.formats.text_spans import Notes

CONLL_2003 = """-DOCSTART- -X- -X- O

EU NNP B-NP I-ORG
rejects VBZ B-VP O
German JJ B-NP I-MISC

Peter NNP B-NP I-PER
Blackburn NNP I-NP I-PER
Paul NNP I-NP B-PER
"""


def written(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "eng.txt"
    path.write_text(content, encoding="utf-8")
    return path


def test_conll_2003(tmp_path: Path) -> None:
    notes = Notes()
    first, second = read_conll_columns(written(tmp_path, CONLL_2003), mapping={"MISC": "OTHER"}, notes=notes)
    assert (first.id, first.words) == ("eng-1", ("EU", "rejects", "German"))
    assert first.labels == ("B-ORG", "O", "B-OTHER")
    assert (second.id, second.labels) == ("eng-2", ("B-PER", "I-PER", "B-PER"))
    assert notes.lines() == [
        "eng.txt: tags of IOB1 converted to BIO2: 3 I- to B-",
        "1 -DOCSTART- lines were left out",
    ]
    chunks, _ = read_conll_columns(written(tmp_path, CONLL_2003), word_column=1, tag_column=2)
    assert (chunks.words, chunks.labels) == (("NNP", "VBZ", "JJ"), ("B-NP", "B-VP", "B-NP"))


def test_tabs_headers_and_comments(tmp_path: Path) -> None:
    content = "# id 1\n0\tNew York\t_\tB-LOC\n1\t#\t_\tO\n\nIMGID:7\n\n0\ta\t_\tS-X\n\n"
    path = written(tmp_path, content.replace("S-X", "B-X"))
    notes = Notes()
    first, second = read_conll_columns(path, word_column=1, comments=True, notes=notes)
    assert (first.id, first.words, first.labels) == ("eng-1", ("New York", "#"), ("B-LOC", "O"))
    assert (second.id, second.words) == ("7", ("a",))
    assert notes.lines() == ["1 comments were left out"]


def test_a_hash_is_a_word(tmp_path: Path) -> None:
    (post,) = read_conll_columns(written(tmp_path, "# O\nNBA B-ORG\n"))
    assert post.words == ("#", "NBA")


@pytest.mark.parametrize(
    ("content", "options", "fault"),
    [
        ("a\tO\nb\n", {"tag_column": 1}, "eng.txt:2: no tag in column 1 of ['b']; columns count from 0"),
        ("a\t\n", {}, "eng.txt:1: no tag in column -1 of ['a', '']"),
        ("a\tNN\n", {}, "eng.txt: 'NN' is no tag; right is O, or a prefix such as B, '-' and a type; is tag_column"),
        ("\n\n", {}, "eng.txt: no posts in it"),
        ("a\tO\nb\tE-X\n", {"scheme": "BIO2"}, "eng.txt:1, post 'eng-1': 'E-X' is no tag of BIO2"),
    ],
)
def test_faults(tmp_path: Path, content: str, options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConllError) as raised:
        read_conll_columns(written(tmp_path, content), **options)
    assert fault in str(raised.value)
