"""The IMGID CoNLL format of the multimodal NER benchmarks, read and written exactly.

A post is a line ``IMGID:<id>``, one line ``word<TAB>tag`` per word, and a blank line::

    IMGID:16_05_01_100
    Kevin	B-PER
    Durant	I-PER
    wins	O

Read besides: spaces in place of the tab, CRLF, a byte order mark, runs of blank lines, a missing last newline
or blank line, a post that begins right after another. Lines end at a line feed and nowhere else, and only tab
and space part a word from its tag: words of real posts hold no-break spaces, U+0085 and zero-width
characters. Two posts may share an id (two sentences about one image); ``verify`` counts them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mnergraph.files import write_atomically
from mnergraph.labels import fix_bio as repaired
from mnergraph.labels import is_tag
from mnergraph.pair import Pair
from mnergraph.quoting import quoted

HEADER = "IMGID:"


BYTE_ORDER_MARK = b"\xef\xbb\xbf"


#: What may stand in no word: it would end the word, or the line, for a reader.
BREAKS = re.compile(r"[\t \n\r]")


class ConllError(ValueError):
    """A fault in a file of posts: ``file:line: what was wrong; what would be right``."""


def read_conll(
    path: str | Path,
    *,
    fix_bio: bool = False,
    mapping: Mapping[str, str] | None = None,
    labelled: bool = True,
) -> list[Pair]:
    """Return the posts of a file, in order, with ``words``, ``labels`` and ``id``.

    Args:
        path: the file, UTF-8.
        fix_bio: turn every orphan ``I-`` (one that continues nothing) into ``B-``; kept as it is otherwise.
        mapping: entity types to rename, such as ``{"OTHER": "MISC"}``; applied before ``fix_bio``.
        labelled: False for a file with one word per line and no tags; its posts have ``labels=None``.

    Raises:
        ConllError: at the first fault, with file and line.
    """
    return list(stream_conll(path, fix_bio=fix_bio, mapping=mapping, labelled=labelled))


def stream_conll(
    path: str | Path,
    *,
    fix_bio: bool = False,
    mapping: Mapping[str, str] | None = None,
    labelled: bool = True,
) -> Iterator[Pair]:
    """Yield the posts of a file one by one; see `read_conll`."""
    header: tuple[int, str] | None = None
    words: list[str] = []
    tags: list[str] = []

    def closed() -> Iterator[Pair]:
        nonlocal header
        if header is None:
            return
        if not words:
            raise ConllError(
                f"{path}:{header[0]}: post {quoted(header[1])} has no words; its words follow on the next lines"
            )
        labels = tuple(repaired(tags) if fix_bio else tags) if labelled else None
        yield Pair(tuple(words), labels, id=header[1])
        header = None
        words.clear()
        tags.clear()

    for number, line in read_lines(Path(path)):
        where = f"{path}:{number}"
        if not line.strip(" \t"):
            yield from closed()
        elif line.startswith(HEADER) and "\t" not in line:
            yield from closed()
            header = number, line.removeprefix(HEADER).strip(" ")
            if not header[1]:
                raise ConllError(f"{where}: the post has no id; right is {HEADER}<id>")
        elif header is None:
            raise ConllError(f"{where}: {quoted(line)} belongs to no post; a post begins with a line {HEADER}<id>")
        else:
            word, tag = _columns(line, where, labelled)
            words.append(word)
            tags.append(_map_type(tag, mapping or {}))
    yield from closed()


def write_conll(pairs: Iterable[Pair], path: str | Path) -> None:
    """Write posts so that ``read_conll`` gives the same words, labels and ids back.

    Either all posts have labels or none has (read those with ``labelled=False``).

    Raises:
        ConllError: when a post cannot be written so that it reads the same; nothing is written then.
    """
    pairs = list(pairs)
    labelled = any(pair.labels is not None for pair in pairs)
    blocks = []
    for pair in pairs:
        if not pair.id or pair.id != pair.id.strip(" ") or re.search(r"[\t\n\r]", pair.id):
            raise ConllError(f"{path}: post id {pair.id!r} cannot be written; right is one line without tabs")
        if labelled and pair.labels is None:
            raise ConllError(f"{path}: post {pair.id!r} has no labels but others have; write them apart")
        for word in pair.words:
            if not word or BREAKS.search(word) or (not labelled and word.startswith(HEADER)):
                raise ConllError(
                    f"{path}: post {pair.id!r}: {word!r} cannot be written as one word; right is a word "
                    "without tab, space or line break, and, in a file without labels, not beginning with "
                    f"{HEADER}"
                )
        for tag in pair.labels or ():
            if not is_tag(tag) or BREAKS.search(tag):
                raise ConllError(f"{path}: post {pair.id!r}: {tag!r} is no tag; right is O, B-TYPE or I-TYPE")
        rows = pair.words if pair.labels is None else map("\t".join, zip(pair.words, pair.labels, strict=True))
        blocks.append("\n".join([HEADER + pair.id, *rows]) + "\n\n")
    try:
        content = "".join(blocks).encode()
    except UnicodeEncodeError as error:
        raise ConllError(f"{path}: {error.object[error.start]!r} is half a character; no UTF-8 has it") from None
    write_atomically(Path(path), content)


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yield number and text of every line, ended by LF or CRLF alone.

    Raises:
        ConllError: for a line that is not UTF-8, or with a carriage return inside.
    """
    with path.open("rb") as file:
        for number, raw in enumerate(file, 1):
            raw = (raw.removeprefix(BYTE_ORDER_MARK) if number == 1 else raw).removesuffix(b"\n")
            try:
                line = raw.decode().removesuffix("\r")
            except UnicodeDecodeError as error:
                raise ConllError(
                    f"{path}:{number}: byte {error.start + 1} of the line (0x{raw[error.start]:02x}) is not UTF-8"
                    "; save the file as UTF-8"
                ) from None
            if "\r" in line:
                raise ConllError(f"{path}:{number}: a carriage return inside the line; lines end with LF or CRLF")
            yield number, line


def _columns(line: str, where: str, labelled: bool) -> tuple[str, str]:
    """Word and tag of a line; the tag is O where the file has none."""
    columns = re.split(r"[\t ]+", line.rstrip(" \t"))
    wanted = ["word", "tag"] if labelled else ["word"]
    if not columns[0]:
        raise ConllError(f"{where}: {quoted(line)} has no word before its blank; right is {'<TAB>'.join(wanted)}")
    if len(columns) != len(wanted):
        hint = " (a file without tags is read with labelled=False)" if labelled and len(columns) == 1 else ""
        raise ConllError(
            f"{where}: {quoted(line)} has {len(columns)} columns, not {len(wanted)}; "
            f"right is {'<TAB>'.join(wanted)}{hint}"
        )
    if labelled and not is_tag(columns[1]):
        raise ConllError(f"{where}: unknown tag {quoted(columns[1])}; right is O, B-TYPE or I-TYPE")
    return columns[0], columns[1] if labelled else "O"


def _map_type(tag: str, mapping: Mapping[str, str]) -> str:
    return tag if tag == "O" else tag[:2] + mapping.get(tag[2:], tag[2:])
