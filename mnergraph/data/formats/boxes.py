"""Gold boxes of entities, per post id: JSON lines, or the Pascal VOC files of GMNER (Yu et al., ACL 2023).

``boxes.jsonl`` has one image per line; boxes are left, top, right, bottom in pixels of an image of this width and
height::

    {"id": "7", "width": 600, "height": 800, "boxes": [{"entity": "Kevin Durant", "box": [1, 2, 3, 4]}]}

``entity`` is the entity's words with blanks between: every mention of these words has the box, as in GMNER, which joins
boxes and entities by their words alone. ``"words": [start, end]``, half-open, beside it or in its place, gives the box
to one mention. An entity may have several boxes.

GMNER's own annotation is a folder of ``<id>.xml``: ``size`` and one ``object`` per box, whose ``name`` is the entity.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from mnergraph.data.formats.evidence_jsonl import (
    RIGHT_SIZE,
    EvidenceError,
    is_size,
    json_entries,
    parse_box,
    parse_words,
    write_json_lines,
)
from mnergraph.labels import tags_to_spans
from mnergraph.pair import Box, GroundedEntity, Pair
from mnergraph.quoting import listed, quoted

BOX_EXAMPLE = '{"entity": "Kevin Durant", "box": [x1, y1, x2, y2]}'


BOXES_EXAMPLE = f'{{"id": "7", "width": 600, "height": 800, "boxes": [{BOX_EXAMPLE}, ...]}}'


XML_EXAMPLE = (
    "<annotation><size><width>600</width><height>800</height></size><object><name>Kevin Durant</name><bndbox>"
    "<xmin>1</xmin><ymin>2</ymin><xmax>3</xmax><ymax>4</ymax></bndbox></object></annotation>"
)


@dataclass(frozen=True)
class GoldBox:
    """A gold box and the entity that it shows; at least one of ``entity`` and ``words`` is given.

    Args:
        box: left, top, right, bottom in pixels.
        entity: the entity's words with blanks between; None where ``words`` alone name it.
        words: the half-open word span of the one mention that it belongs to; None for all of these words.
    """

    box: Box
    entity: str | None = None
    words: tuple[int, int] | None = None

    def __post_init__(self) -> None:
        if self.entity is None and self.words is None:
            raise ValueError(f"box {self.box} names no entity: give entity, words, or both")

    def belongs_to(self, start: int, end: int, words: str) -> bool:
        """Return whether it is a box of the entity of this span, whose words are these, with blanks between."""
        return self.words in (None, (start, end)) and self.entity in (None, words)


@dataclass(frozen=True)
class GoldBoxes:
    """All gold boxes of an image, and its size in pixels.

    Args:
        width: of the image.
        height: of the image.
        boxes: the boxes, in the file's order.
        where: file, or file and line, that they were read from, for messages; "" for others.
    """

    width: int
    height: int
    boxes: tuple[GoldBox, ...]
    where: str = field(default="", compare=False)


def read_boxes(path: str | Path) -> dict[str, GoldBoxes]:
    """Return the gold boxes of every image by post id, clipped to the image.

    Raises:
        EvidenceError: at the first fault, naming file and line.
    """
    found = {}
    for where, key, entry in json_entries(Path(path), BOXES_EXAMPLE):
        size: tuple[Any, Any] = entry.get("width"), entry.get("height")
        if not is_size(size):
            raise EvidenceError(f"{where}: width and height are {quoted(size)}; {RIGHT_SIZE}")
        if not isinstance(entry.get("boxes"), list):
            raise EvidenceError(f'{where}: no list "boxes"; right is {BOXES_EXAMPLE}')
        boxes = (_parse(raw, size, f"{where}: box {place}") for place, raw in enumerate(entry["boxes"], 1))
        found[key] = GoldBoxes(size[0], size[1], tuple(boxes), where)
    return found


def read_boxes_xml(folder: str | Path, ids: Collection[str] | None = None) -> dict[str, GoldBoxes]:
    """Return the gold boxes of a folder of Pascal VOC files ``<id>.xml`` by post id, clipped to the image.

    Args:
        folder: the folder.
        ids: the posts whose files are read; None for all.

    Raises:
        EvidenceError: at the first fault, naming the file. A document type is a fault, so no entity is ever expanded.
        FileNotFoundError: when the folder has no file ``<id>.xml``.
    """
    paths = sorted(Path(folder).glob("*.xml"))
    if not paths:
        raise FileNotFoundError(f"{folder} has no <id>.xml; give the folder xml of GMNER, or a file boxes.jsonl")
    return {path.stem: _read_xml(path) for path in paths if ids is None or path.stem in ids}


def write_boxes(boxes: Mapping[str, GoldBoxes], path: str | Path) -> None:
    """Write gold boxes by post id for `read_boxes`."""
    lines = []
    for key, image in boxes.items():
        entries = []
        for gold in image.boxes:
            entity = {} if gold.entity is None else {"entity": gold.entity}
            words = {} if gold.words is None else {"words": list(gold.words)}
            entries.append({**entity, **words, "box": list(gold.box)})
        lines.append({"id": key, "width": image.width, "height": image.height, "boxes": entries})
    write_json_lines(lines, path)


def with_gold_boxes(pair: Pair, boxes: GoldBoxes | None) -> Pair:
    """Return the pair with ``grounding``: every entity of its labels, with all of its gold boxes.

    Entities are those of `mnergraph.labels.tags_to_spans`. A post with labels and no gold boxes has entities without
    boxes; one without labels has no grounding. The image's size is filled in where the pair has none.

    Args:
        pair: the post.
        boxes: the gold boxes of its image; None where it has none.

    Raises:
        EvidenceError: for a box of no entity of the post, or boxes in the pixels of another size than the pair's.
    """
    grounded, unmatched = _grounded(pair, boxes)
    where = boxes.where if boxes and boxes.where else f"post {pair.id!r}"
    if boxes and unmatched:
        raise EvidenceError(
            f"{where}: {quoted(_name(boxes.boxes[unmatched[0]]))} has a box and is no entity of post {pair.id!r}; its "
            f"entities are {listed([_words(pair, entity) for entity in grounded.grounding or ()]) or 'none'}"
        )
    if boxes and _other_size(grounded, boxes):
        raise EvidenceError(
            f"{where}: boxes are in pixels of {boxes.width} x {boxes.height}, but the image of post {pair.id!r} has "
            f"{grounded.size}"
        )
    return grounded


def attach_gold_boxes(pairs: Iterable[Pair], boxes: Mapping[str, GoldBoxes], *, stacklevel: int = 2) -> list[Pair]:
    """Return the pairs with their gold boxes by id; see `with_gold_boxes`, whose errors are warnings here.

    One warning counts the boxes that are of no entity of their post and names the posts; such a box is left out. Of
    posts with the same id, each has the boxes of its own entities. Another warning counts the posts whose boxes are in
    pixels of another size than their image's, which is that of their proposals, too.
    """
    ready = []
    unmatched_of: dict[str, set[int]] = {}
    other_size = []
    for pair in pairs:
        found = boxes.get(pair.id)
        grounded, unmatched = _grounded(pair, found)
        ready.append(grounded)
        if found is None or grounded.grounding is None:
            continue
        unmatched_of[pair.id] = unmatched_of.get(pair.id, set(unmatched)) & set(unmatched)
        if _other_size(grounded, found):
            other_size.append(pair.id)
    lost = {key: [boxes[key].boxes[number] for number in sorted(left)] for key, left in unmatched_of.items() if left}
    if lost:
        names = listed([f"{key}: {_name(gold[0])}" for key, gold in lost.items()])
        warnings.warn(
            f"{sum(map(len, lost.values()))} gold boxes are of no entity of their post and are left out, in "
            f"{len(lost)} posts ({names}); right is an entity's words with blanks between",
            stacklevel=stacklevel + 1,
        )
    if other_size:
        warnings.warn(
            f"the gold boxes of {len(other_size)} posts are in pixels of another size than their image's, so no "
            f"proposal can be compared with them ({listed(other_size)}); give the images that were annotated",
            stacklevel=stacklevel + 1,
        )
    return ready


def _grounded(pair: Pair, boxes: GoldBoxes | None) -> tuple[Pair, list[int]]:
    """Return the pair with its grounding and size, and the numbers of the boxes that are of none of its entities."""
    if boxes and pair.size is None:
        pair = replace(pair, size=(boxes.width, boxes.height))
    if pair.labels is None:
        return pair, []
    given = boxes.boxes if boxes else ()
    entities = []
    used: set[int] = set()
    for start, end, entity_type in tags_to_spans(pair.labels):
        words = " ".join(pair.words[start:end])
        own = [number for number, gold in enumerate(given) if gold.belongs_to(start, end, words)]
        used.update(own)
        entities.append(GroundedEntity(start, end, entity_type, tuple(given[number].box for number in own)))
    return replace(pair, grounding=tuple(entities)), [number for number in range(len(given)) if number not in used]


def _other_size(pair: Pair, boxes: GoldBoxes) -> bool:
    return bool(boxes.boxes) and pair.size != (boxes.width, boxes.height)


def _name(gold: GoldBox) -> str:
    words = "" if gold.words is None else f"words {gold.words[0]}:{gold.words[1]}"
    return " at ".join(filter(None, (gold.entity, words)))


def _words(pair: Pair, entity: GroundedEntity) -> str:
    return " ".join(pair.words[entity.start : entity.end])


def _parse(raw: Any, size: tuple[int, int], where: str) -> GoldBox:
    if not isinstance(raw, dict) or "box" not in raw:
        raise EvidenceError(f'{where}: no "box"; right is {BOX_EXAMPLE}')
    entity, words = raw.get("entity"), parse_words(raw.get("words"), where)
    if not (isinstance(entity, str) and entity) and not (entity is None and words is not None):
        raise EvidenceError(f'{where}: entity {quoted(entity)} and no "words"; right is {BOX_EXAMPLE}')
    return GoldBox(parse_box(raw["box"], size, where), entity, words)


def _read_xml(path: Path) -> GoldBoxes:
    root = _xml_root(path)
    size = _whole(root.findtext("size/width")), _whole(root.findtext("size/height"))
    if not is_size(size):
        found = root.findtext("size/width"), root.findtext("size/height")
        raise EvidenceError(f"{path}: width and height are {quoted(found)}; {RIGHT_SIZE}, in {XML_EXAMPLE}")
    boxes = []
    for place, item in enumerate(root.iterfind("object"), 1):
        where = f"{path}: object {place}"
        # Words can hold no-break spaces, so only those of the layout are stripped.
        name = (item.findtext("name") or "").strip(" \t\r\n")
        if not name:
            raise EvidenceError(f"{where}: no name; right is {XML_EXAMPLE}")
        sides = [_number(item.findtext(f"bndbox/{side}")) for side in ("xmin", "ymin", "xmax", "ymax")]
        boxes.append(GoldBox(parse_box(sides, (size[0] or 0, size[1] or 0), where), name))
    return GoldBoxes(size[0] or 0, size[1] or 0, tuple(boxes), str(path))


def _xml_root(path: Path) -> Element:
    """Return the root of an XML file without document type: entities that expand without end need one."""
    builder, parser = TreeBuilder(), expat.ParserCreate()

    def refuse(*_: object) -> None:
        raise EvidenceError(f"{path}: a document type, which can define entities, is not read; delete <!DOCTYPE ...>")

    parser.buffer_text = True
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = builder.start
    parser.EndElementHandler = builder.end
    parser.CharacterDataHandler = builder.data
    try:
        parser.Parse(path.read_bytes(), True)
    except (expat.ExpatError, ValueError) as error:
        if isinstance(error, EvidenceError):
            raise
        raise EvidenceError(f"{path}: not XML ({quoted(str(error))}); right is {XML_EXAMPLE}") from None
    return builder.close()


def _number(text: str | None) -> float | str | None:
    """The number of a text; the text itself where it is none, for the message."""
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _whole(text: str | None) -> int | None:
    value = _number(text)
    return int(value) if isinstance(value, float) and value.is_integer() else None
