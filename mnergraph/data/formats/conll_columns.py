"""CoNLL files of any columns and tag scheme, with or without IMGID lines, as other corpora have them.

`mnergraph.data.formats.conll` is the strict format of the multimodal benchmarks: two columns, BIO2, an ``IMGID:`` line
for every post.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from mnergraph.data.formats.conll import HEADER, ConllError, read_lines
from mnergraph.data.formats.tag_schemes import Scheme, TagConversion, TagSchemeError, detect_scheme, to_bio2
from mnergraph.data.formats.text_spans import Notes
from mnergraph.pair import Pair
from mnergraph.quoting import quoted

#: The line that begins a document in CoNLL-2003.
DOCUMENT = "-DOCSTART-"


def read_conll_columns(
    path: str | Path,
    *,
    word_column: int = 0,
    tag_column: int = -1,
    scheme: Scheme | Literal["auto"] = "auto",
    comments: bool = False,
    mapping: Mapping[str, str] | None = None,
    notes: Notes | None = None,
) -> list[Pair]:
    """Return the posts of a CoNLL file, with BIO2 tags.

    Posts are parted by blank lines. One under a line ``IMGID:<id>`` has that id; the others are ``<file>-1``,
    ``<file>-2`` and so on. Columns are parted by tabs where the line has one, else by blanks.

    Args:
        path: the file, UTF-8.
        word_column: the column of the words, from 0; negative ones count from the last.
        tag_column: the column of the tags.
        scheme: the tags' scheme; ``"auto"`` for the one that fits, see `detect_scheme`.
        comments: whether lines that begin with ``#`` are comments; else ``#`` is a word.
        mapping: entity types to rename.
        notes: where it is said which scheme was converted, and what was left out.

    Raises:
        ConllError: at the first fault, with file and line.
    """
    notes = Notes() if notes is None else notes
    path = Path(path)
    posts: list[tuple[str, list[str], list[tuple[int, str]]]] = []
    id: str | None = None
    words: list[str] = []
    tags: list[tuple[int, str]] = []

    def close() -> None:
        nonlocal id, words, tags
        if words:
            posts.append((id or f"{path.stem}-{len(posts) + 1}", words, tags))
        id, words, tags = None, [], []

    for number, line in read_lines(path):
        if not line.strip(" \t"):
            if words:  # blank lines may follow an IMGID line
                close()
        elif line.startswith(HEADER) and "\t" not in line and len(line.split()) == 1:
            close()
            id = line.removeprefix(HEADER).strip(" ") or None
        elif comments and line.startswith("#"):
            notes.add("comments were left out")
        else:
            columns = [part.strip(" ") for part in line.split("\t")] if "\t" in line else line.split(" ")
            columns = [part for part in columns if part] if "\t" not in line else columns
            if columns[0] == DOCUMENT:
                notes.add(f"{DOCUMENT} lines were left out")
                continue
            words.append(_column(columns, word_column, "word", f"{path}:{number}"))
            tags.append((number, _column(columns, tag_column, "tag", f"{path}:{number}")))
    close()
    if not posts:
        raise ConllError(f"{path}: no posts in it; right is a line per word, and a blank line behind each post")
    return _converted(path, posts, scheme, mapping or {}, notes)


def _column(columns: list[str], index: int, name: str, where: str) -> str:
    if not -len(columns) <= index < len(columns) or not columns[index]:
        raise ConllError(
            f"{where}: no {name} in column {index} of {quoted(columns)}; columns count from 0, and from the last one "
            "as -1, -2"
        )
    return columns[index]


def _converted(
    path: Path,
    posts: list[tuple[str, list[str], list[tuple[int, str]]]],
    scheme: Scheme | Literal["auto"],
    mapping: Mapping[str, str],
    notes: Notes,
) -> list[Pair]:
    try:
        found = detect_scheme([tag for _, tag in tags] for _, _, tags in posts) if scheme == "auto" else scheme
    except TagSchemeError as error:
        raise ConllError(f"{path}: {error}; is tag_column the column of the tags?") from None
    conversion = TagConversion(found)
    pairs = []
    for id, words, tags in posts:
        try:
            labels = to_bio2([tag for _, tag in tags], conversion)
        except TagSchemeError as error:
            raise ConllError(f"{path}:{tags[0][0]}, post {id!r}: {error}") from None
        renamed = (label if label == "O" else label[:2] + mapping.get(label[2:], label[2:]) for label in labels)
        pairs.append(Pair(tuple(words), tuple(renamed), id))
    if found != "BIO2" or conversion.opened:
        notes.say(f"{path.name}: {conversion}")
    return pairs
