"""brat's standoff files: ``<id>.txt`` with a text and ``<id>.ann`` with its annotation.

A line of ``.ann`` is ``T1<TAB>PER 0 13<TAB>Kawhi Leonard``; offsets are code points. Lines of other kinds (relations,
events, attributes, notes) are left out and counted. Scores of predicted entities are notes: ``#1<TAB>AnnotatorNotes
T1<TAB>score 0.93``. ``annotation.conf``, which brat needs, lists the types.

brat needs an ``.ann`` beside each text that it shows, so an empty one is a text without entities, or one that is yet
to be annotated; where there is none, the text is not annotated.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from mnergraph.data.formats.doccano import note_of_boxes
from mnergraph.data.formats.text_spans import (
    Align,
    AnnotatedText,
    AnnotationError,
    Notes,
    TextSpan,
    entity_types,
    require_text_at,
    tokenizer_of,
)
from mnergraph.data.image_files import leads_out
from mnergraph.files import replacing_entries
from mnergraph.quoting import quoted

CONFIGURATION = "annotation.conf"
_LINE = re.compile(r"T\d+\S*\t(?P<type>\S+) (?P<spans>\d+ \d+(?:;\d+ \d+)*)(?:\t(?P<text>.*))?", re.DOTALL)
_KINDS = {
    "E": "events",
    "R": "relations",
    "*": "relations",
    "A": "attributes",
    "M": "attributes",
    "N": "normalizations",
}


def read_brat(folder: str | Path, *, align: Align = "error", notes: Notes | None = None) -> list[AnnotatedText]:
    """Return the texts of a folder of ``.txt`` and ``.ann`` files, by name, those of folders within it too.

    Args:
        folder: the folder.
        align: what is done with an entity of several parts: it is an error, or becomes all from its first to its last
            character (``"expand"``).
        notes: where what was left out or changed is counted.

    Raises:
        AnnotationError: at the first fault, naming file and line.
        FileNotFoundError: for a folder without texts.
    """
    notes = Notes() if notes is None else notes
    folder = Path(folder)
    names = {path.relative_to(folder).as_posix().removesuffix(".txt"): path for path in folder.rglob("*.txt")}
    if not names:
        raise FileNotFoundError(f"{folder} has no <id>.txt; give the folder of a brat collection")
    return [_read(names[name], name, align, notes) for name in sorted(names)]


def write_brat(texts: Iterable[AnnotatedText], folder: str | Path, *, notes: Notes | None = None) -> None:
    """Write texts as a collection of brat: ``<id>.txt``, ``<id>.ann`` and ``annotation.conf``.

    Of texts with one id the further ones are ``<id>.2``, ``<id>.3`` and so on.

    Args:
        texts: the texts.
        folder: the folder, which is created; all files are written or none.
        notes: where what brat has no place for is counted.

    Raises:
        AnnotationError: for an id that can't be a file's name, or a type with white space.
        FileExistsError: when the folder has files.
    """
    notes = Notes() if notes is None else notes
    texts, folder = list(texts), Path(folder)
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} has files; give another folder")
    used: set[str] = set()
    with replacing_entries(folder) as unfinished:
        for number, text in enumerate(texts, 1):
            name = _free_name(text, number, used, notes)
            path = unfinished / f"{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                path.write_bytes(text.text.encode())
            except UnicodeEncodeError:
                raise AnnotationError(f"{text.where}: half a character in its text; no UTF-8 has it") from None
            _annotation_of(path).write_bytes("".join(_lines(text, notes)).encode())
        types = "\n".join(entity_types(texts))
        configuration = f"[entities]\n{types}\n\n[relations]\n\n[events]\n\n[attributes]\n"
        (unfinished / CONFIGURATION).write_text(configuration, encoding="utf-8")


def _annotation_of(path: Path) -> Path:
    # not with_suffix: an id may hold dots
    return path.with_name(f"{path.name.removesuffix('.txt')}.ann")


def _read(path: Path, id: str, align: Align, notes: Notes) -> AnnotatedText:
    try:
        text = path.read_bytes().decode()
    except UnicodeDecodeError as error:
        raise AnnotationError(f"{path}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    annotation = _annotation_of(path)
    if not annotation.is_file():
        return AnnotatedText(text, id=id, where=str(path))
    spans = []
    for number, line in enumerate(annotation.read_bytes().decode(errors="replace").split("\n"), 1):
        line, where = line.removesuffix("\r"), f"{annotation}:{number}"
        if not line.strip():
            continue
        if not line.startswith("T"):
            if not line.startswith("#"):
                notes.add(f"{_KINDS.get(line[0], 'lines of unknown kind')} were left out", where)
            continue
        match = _LINE.fullmatch(line)
        if match is None:
            raise AnnotationError(f"{where}: {quoted(line)} is no entity; right is T1<TAB>PER 0 13<TAB>Kawhi Leonard")
        spans.append(_span(match, text, where, align, notes))
    return AnnotatedText(text, tuple(spans), id=id, where=str(path))


def _span(match: re.Match[str], text: str, where: str, align: Align, notes: Notes) -> TextSpan:
    parts = [tuple(map(int, part.split(" "))) for part in match["spans"].split(";")]
    start, end = min(part[0] for part in parts), max(part[1] for part in parts)
    if match["text"] is not None and end <= len(text):
        if len(parts) == 1:
            require_text_at(text, start, end, match["text"], where)
        else:
            joined = "".join(text[part[0] : part[1]] for part in parts)
            require_text_at(joined, 0, len(joined), match["text"], where)
    if len(parts) > 1:
        if align == "error":
            raise AnnotationError(
                f"{where}: {quoted(match['text'] or match['spans'])} is an entity of {len(parts)} parts, and tags mark "
                "adjacent words; mark it as one in brat, or set align to expand for all words between, too"
            )
        notes.add("entities of several parts became all from their first to their last character", where)
    return TextSpan(start, end, match["type"])


def _free_name(text: AnnotatedText, number: int, used: set[str], notes: Notes) -> str:
    name = text.id or str(number)
    if leads_out(name) or any(part in ("", ".") for part in name.split("/")) or not name.isprintable():
        raise AnnotationError(f"{text.where}: id {text.id!r} can't be a file's name; right is a name without suffix")
    free, count = name, 1
    while free in used:
        count += 1
        free = f"{name}.{count}"
    if free != name:
        notes.add("texts have an id that an earlier one has, and got a number behind it", text.where)
    used.add(free)
    return free


def _lines(text: AnnotatedText, notes: Notes) -> Iterator[str]:
    """The lines of an annotation; empty for a text without one."""
    if text.spans is None:
        notes.add("texts without annotation have an empty .ann, which brat needs", "")
        return
    if tokenizer_of(text) is None:
        notes.add("texts have words that neither tokenizer finds again", text.where)
    note_of_boxes(text, "brat", notes)
    yield from _entity_lines(text.text, text.spans, text.where)


def _entity_lines(text: str, spans: Sequence[TextSpan], where: str) -> Iterator[str]:
    for number, span in enumerate(spans, 1):
        if re.search(r"\s", span.type) or not span.type:
            raise AnnotationError(f"{where}: type {quoted(span.type)} holds white space, which brat does not read")
        words = re.sub(r"\s", " ", text[span.start : span.end])
        yield f"T{number}\t{span.type} {span.start} {span.end}\t{words}\n"
        if span.score is not None:
            yield f"#{number}\tAnnotatorNotes T{number}\tscore {span.score:g}\n"
