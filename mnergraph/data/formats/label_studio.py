"""Label Studio's JSON: spans of the text, rectangles of the image, and the relation that grounds a span in a rectangle.

A task has ``data`` (text, image, id) and ``annotations``, each a list of regions::

    {"id": "e1", "type": "labels", "from_name": "label", "to_name": "text",
     "value": {"start": 0, "end": 13, "text": "Kawhi Leonard", "labels": ["PER"]}}
    {"id": "b1", "type": "rectanglelabels", "from_name": "box", "to_name": "image",
     "original_width": 600, "original_height": 800, "image_rotation": 0,
     "value": {"x": 1.5, "y": 2.5, "width": 48.0, "height": 85.0, "rotation": 0, "rectanglelabels": ["PER"]}}
    {"type": "relation", "from_id": "e1", "to_id": "b1", "direction": "right"}

Rectangles are percentages of the image. An entity's boxes are the rectangles that a relation joins it with, in either
direction; a rectangle without such a relation is an object of the post. Offsets are code points; those of old versions,
which counted as JavaScript does, are recognized by the text beside them. `labeling_config` is the project's
interface for these fields. Model output goes into ``predictions``, with the regions' and the task's scores and the
model's version.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from mnergraph.data.formats.evidence_jsonl import RIGHT_SIZE, EvidenceError, is_size, parse_box
from mnergraph.data.formats.text_spans import (
    AnnotatedText,
    AnnotationError,
    Notes,
    TextSpan,
    require_text_at,
    tokenizer_of,
)
from mnergraph.files import write_atomically
from mnergraph.pair import Box, DetectedObject
from mnergraph.quoting import listed, quoted

#: Names of the controls and objects of `labeling_config`.
LABELS, RECTANGLES, TEXT, IMAGE = "label", "box", "text", "image"
#: Before the name of an image's file where Label Studio serves local files.
LOCAL_FILES = "/data/local-files/?d="
#: Digits of a pixel that are kept: a percentage and back changes the last digits of a float.
_DIGITS = 6
_NO_SIZE = "boxes were left out, as the image's size is not known; give the images"
_TASK = '{"data": {"text": "..."}, "annotations": [{"result": [...]}]}'


def read_label_studio(
    path: str | Path, *, text_key: str = "text", image_key: str = "image", notes: Notes | None = None
) -> list[AnnotatedText]:
    """Return the texts of a Label Studio export, format JSON.

    Of several annotations of a task the one marked as ground truth is taken, else the latest; cancelled ones are left
    out. Boxes are annotated (`AnnotatedText.grounded`) where a relation of any task joins a span and a rectangle.

    Args:
        path: the file.
        text_key: the field of ``data`` with the text.
        image_key: the field of ``data`` with the image's address.
        notes: where what was left out or changed is counted.

    Raises:
        AnnotationError: at the first fault, naming file and task.
    """
    notes = Notes() if notes is None else notes
    path = Path(path)
    try:
        tasks = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise AnnotationError(f"{path}: not JSON ({quoted(str(error))}); export it as JSON") from None
    if not isinstance(tasks, list):
        raise AnnotationError(f"{path}: no list of tasks; right is [{_TASK}, ...], the export format JSON")
    texts = [
        _read_task(task, f"{path}: task {_task_name(task, place)}", text_key, image_key, notes)
        for place, task in enumerate(tasks, 1)
    ]
    grounded = any(span.boxes for text in texts for span in text.spans or ())
    return [_with_grounding(text) if grounded and text.spans is not None else text for text in texts]


def write_label_studio(
    texts: Iterable[AnnotatedText],
    path: str | Path,
    *,
    predictions: bool = False,
    model_version: str = "",
    image_prefix: str = LOCAL_FILES,
    objects: bool = False,
    notes: Notes | None = None,
) -> None:
    """Write tasks for import into Label Studio.

    Args:
        texts: the texts.
        path: the file.
        predictions: write the entities as ``predictions`` of a model, not as annotations.
        model_version: the model's version, of predictions.
        image_prefix: what stands before the name of an image's file in its address; an address that was read is kept.
        objects: whether to write boxes that belong to no entity, too.
        notes: where what could not be written is counted.

    Raises:
        AnnotationError: for two texts with one id, or text that can't be encoded.
    """
    notes = Notes() if notes is None else notes
    tasks = [_task(text, predictions, model_version, image_prefix, objects, notes) for text in texts]
    write_json(tasks, Path(path))


def labeling_config(types: Iterable[str], *, image: bool = True, objects: Iterable[str] = ()) -> str:
    """Return the labeling interface, XML, of a project for these entity types.

    Args:
        types: the types.
        image: whether the project has images and rectangles.
        objects: labels of rectangles that show no entity, such as a detector's classes.
    """
    types = list(types)
    labels, boxes = (
        "".join(f"\n    <Label value={quoteattr(kind)}/>" for kind in kinds)
        for kinds in (types, dict.fromkeys((*types, *objects)))
    )
    lines = [f'  <Labels name="{LABELS}" toName="{TEXT}">{labels}\n  </Labels>']
    lines += [f'  <Text name="{TEXT}" value="$text"/>']
    if image:
        lines += [f'  <RectangleLabels name="{RECTANGLES}" toName="{IMAGE}">{boxes}\n  </RectangleLabels>']
        lines += [f'  <Image name="{IMAGE}" value="$image"/>']
        lines += ['  <Relations>\n    <Relation value="shown by"/>\n  </Relations>']
    return "\n".join(["<View>", *lines, "</View>", ""])


def write_json(value: Any, path: Path) -> None:
    """Write JSON, UTF-8, atomically.

    Raises:
        AnnotationError: for half a surrogate pair in a text.
    """
    try:
        content = json.dumps(value, ensure_ascii=False, indent=1).encode()
    except UnicodeEncodeError as error:
        raise AnnotationError(f"{path}: {error.object[error.start]!r} is half a character; no UTF-8 has it") from None
    write_atomically(path, content)


# --- reading ------------------------------------------------------------------------------------------


def _task_name(task: Any, place: int) -> str:
    return str(task["id"]) if isinstance(task, dict) and "id" in task else f"number {place}"


def _with_grounding(text: AnnotatedText) -> AnnotatedText:
    return replace(text, grounded=True)


def _read_task(task: Any, where: str, text_key: str, image_key: str, notes: Notes) -> AnnotatedText:
    if not isinstance(task, dict) or not isinstance(task.get("data"), dict):
        hint = ""
        if isinstance(task, dict) and text_key in task:
            hint = "; this looks like JSON-MIN, which has no relations: export as JSON"
        raise AnnotationError(f'{where}: no object "data"; right is {_TASK}{hint}')
    data = task["data"]
    if not isinstance(data.get(text_key), str):
        raise AnnotationError(
            f"{where}: its data has no text {text_key!r}, but {listed(sorted(data))}; name the field by text_key"
        )
    result = _result(task, where, notes)
    common: dict[str, Any] = {
        "id": str(data.get("id", task.get("id", ""))),
        "image": data[image_key] if isinstance(data.get(image_key), str) else None,
        "word_offsets": parse_words_field(data.get("words"), where),
        "split": data.get("split") if isinstance(data.get("split"), str) else None,
        "where": where,
    }
    if result is None:
        return AnnotatedText(data[text_key], **common)
    return _read_regions(data[text_key], result, where, common, notes)


def _result(task: Mapping[str, Any], where: str, notes: Notes) -> list[Any] | None:
    """The regions of the annotation that is taken; None for a task without annotation."""
    given = task.get("annotations", task.get("completions")) or []
    if not isinstance(given, list) or not all(isinstance(each, dict) for each in given):
        raise AnnotationError(
            f"{where}: annotations is no list of objects; export it as JSON, with annotations in full"
        )
    kept = [each for each in given if not each.get("was_cancelled")]
    notes.add("cancelled annotations were left out", where, len(given) - len(kept))
    if not kept:
        return None
    if len(kept) > 1:
        notes.add("tasks have several annotations: the ground truth, or else the latest, is taken", where)
    best = max(kept, key=lambda each: (bool(each.get("ground_truth")), str(each.get("updated_at", ""))))
    result = best.get("result")
    if not isinstance(result, list) or not all(isinstance(region, dict) for region in result):
        raise AnnotationError(f'{where}: its annotation has no list "result"; right is {_TASK}')
    return result


def parse_words_field(raw: Any, where: str) -> tuple[tuple[int, int], ...] | None:
    """Return the words' offsets of a field that a converter wrote, None for none.

    Raises:
        AnnotationError: for another form.
    """
    if raw is None:
        return None
    ends = [end for word in raw for end in word] if isinstance(raw, list) and all(map(_is_span, raw)) else None
    if not ends or any(left > right for left, right in pairwise(ends)):
        raise AnnotationError(f"{where}: words {quoted(raw)} are no offsets; right is [[0, 5], [6, 13]], or no words")
    return tuple((start, end) for start, end in raw)


def _is_span(word: Any) -> bool:
    return (
        isinstance(word, list) and len(word) == 2 and all(type(end) is int for end in word) and 0 <= word[0] < word[1]
    )


def _read_regions(
    text: str, result: Sequence[Mapping[str, Any]], where: str, common: dict[str, Any], notes: Notes
) -> AnnotatedText:
    spans: dict[str, list[TextSpan]] = {}
    rectangles: dict[str, DetectedObject] = {}
    relations: list[tuple[str, str]] = []
    size: tuple[int, int] | None = None
    for place, region in enumerate(result, 1):
        at = f"{where}: region {region.get('id', place)}"
        raw = region.get("value")
        value: dict[str, Any] = raw if isinstance(raw, dict) else {}
        key = str(region.get("id", f"number {place}"))
        if region.get("type") == "relation":
            relations.append((str(region.get("from_id")), str(region.get("to_id"))))
        elif {"x", "y", "width", "height"} <= value.keys() and "ellipselabels" not in value:
            box, found = _read_rectangle(region, value, at, notes, where)
            if size not in (None, found):
                raise AnnotationError(f"{at}: its image is {found[0]} x {found[1]}, but {size} in another region")
            size = found
            label = next(iter(_labels(region, value)), "")
            known = rectangles.get(key)  # Rectangle and Labels give two regions of one id
            rectangles[key] = DetectedObject(label or (known.label if known else ""), box)
        elif {"start", "end"} <= value.keys():
            spans.setdefault(key, []).extend(_read_span(text, region, value, at, notes, where))
        else:
            notes.add(f"regions of type {region.get('type', 'unknown')} were left out", where)
    boxes_of, grounding = _join(relations, spans, rectangles, where, notes)
    objects = tuple(item for key, item in rectangles.items() if key not in grounding)
    notes.add("rectangles without a relation to a span are objects of their post", where, len(objects))
    return AnnotatedText(
        text,
        tuple(span._replace(boxes=boxes_of.get(key, ())) for key, several in spans.items() for span in several),
        size=size,
        objects=objects,
        **common,
    )


def _join(
    relations: Iterable[tuple[str, str]],
    spans: Mapping[str, Any],
    rectangles: Mapping[str, DetectedObject],
    where: str,
    notes: Notes,
) -> tuple[dict[str, tuple[Box, ...]], set[str]]:
    """The boxes by span, and the rectangles that ground one."""
    boxes: dict[str, tuple[Box, ...]] = {}
    grounding: set[str] = set()
    for pair in relations:
        span = next((key for key in pair if key in spans), None)
        rectangle = next((key for key in pair if key in rectangles), None)
        box = None if rectangle is None else rectangles[rectangle].box
        if span is None or rectangle is None or box is None:
            notes.add("relations that join no span with a rectangle were left out", where)
            continue
        boxes[span] = tuple(dict.fromkeys((*boxes.get(span, ()), box)))
        grounding.add(rectangle)
    return boxes, grounding


def _labels(region: Mapping[str, Any], value: Mapping[str, Any]) -> list[str]:
    labels = value.get(str(region.get("type")), value.get("labels", []))
    return [label for label in labels if isinstance(label, str)] if isinstance(labels, list) else []


def _read_span(
    text: str, region: Mapping[str, Any], value: Mapping[str, Any], at: str, notes: Notes, where: str
) -> list[TextSpan]:
    start, end = value["start"], value["end"]
    if isinstance(value.get("globalOffsets"), dict):  # HyperText: start and end are of an element
        start, end = value["globalOffsets"].get("start"), value["globalOffsets"].get("end")
    if type(start) is not int or type(end) is not int or not 0 <= start < end:
        raise AnnotationError(f"{at}: start {quoted(start)} and end {quoted(end)} are no offsets of characters")
    written = value.get("text")
    if isinstance(written, str):
        written = written.replace("\\n", "\n")
        units = _from_utf16(text, start, end)
        if _same(text[start:end], written) or units is None or not _same(text[slice(*units)], written):
            require_text_at(text, start, end, written, at)
        else:
            notes.add("spans were counted in UTF-16 units and converted to characters", where)
            start, end = units
    labels = _labels(region, value)
    if not labels:
        raise AnnotationError(f"{at}: the span {quoted(text[start:end])} has no label; label or delete it in the tool")
    return [TextSpan(start, end, label) for label in labels]


def _same(found: str, written: str) -> bool:
    return "".join(found.split()) == "".join(written.split())


def _from_utf16(text: str, start: int, end: int) -> tuple[int, int] | None:
    """The code points of a span in UTF-16 units; None where it cuts a character."""
    data = text.encode("utf-16-le", "surrogatepass")
    try:
        return len(data[: 2 * start].decode("utf-16-le")), len(data[: 2 * end].decode("utf-16-le"))
    except UnicodeDecodeError:
        return None


def _read_rectangle(
    region: Mapping[str, Any], value: Mapping[str, Any], at: str, notes: Notes, where: str
) -> tuple[Box, tuple[int, int]]:
    size: tuple[Any, Any] = region.get("original_width"), region.get("original_height")
    if not is_size(size):
        raise AnnotationError(f"{at}: original_width and original_height are {quoted(size)}; {RIGHT_SIZE}")
    if region.get("image_rotation"):
        raise AnnotationError(f"{at}: the image was rotated in the tool; rotate its file, and annotate that")
    numbers = [value[side] for side in ("x", "y", "width", "height")]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        raise AnnotationError(f"{at}: x, y, width and height are {quoted(numbers)}, not percentages of the image")
    left, width = (number * size[0] / 100 for number in (numbers[0], numbers[2]))
    top, height = (number * size[1] / 100 for number in (numbers[1], numbers[3]))
    angle = math.radians(value.get("rotation") or 0)
    corners = [
        (left + x * math.cos(angle) - y * math.sin(angle), top + x * math.sin(angle) + y * math.cos(angle))
        for x in (0.0, width)
        for y in (0.0, height)
    ]
    if angle:
        notes.add("rotated rectangles became the upright boxes around them", where)
    columns, rows = zip(*corners, strict=True)
    box = [round(side, _DIGITS) for side in (min(columns), min(rows), max(columns), max(rows))]
    try:
        return parse_box(box, size, at), size
    except EvidenceError as error:
        raise AnnotationError(str(error)) from None


# --- writing ------------------------------------------------------------------------------------------


def _task(
    text: AnnotatedText,
    predictions: bool,
    model_version: str,
    image_prefix: str,
    objects: bool,
    notes: Notes,
) -> dict[str, Any]:
    image = text.image
    if image is None and text.image_path is not None:
        image = f"{image_prefix}{text.image_path.name}"
    data: dict[str, Any] = {"text": text.text, "id": text.id}
    data |= {} if image is None else {"image": image}
    data |= {} if text.split is None else {"split": text.split}
    if tokenizer_of(text) != "tweets":  # else splitting the text gives the words again
        data["words"] = [list(word) for word in text.word_offsets or ()]
    task: dict[str, Any] = {"data": data}
    if text.spans is None:
        return task
    regions = _regions(text, predictions, notes)
    if objects:
        for number, item in enumerate(text.objects):
            if item.box is not None and text.size is not None:
                regions.append(_rectangle(f"object-{number}", item.box, item.label, text.size, item.score))
            else:
                notes.add(_NO_SIZE, text.where)
    else:
        notes.add(
            "objects that belong to no entity were left out; the option objects writes them", "", len(text.objects)
        )
    if not predictions:
        return {**task, "annotations": [{"result": regions}]}
    scores = [span.score for span in text.spans if span.score is not None]
    prediction: dict[str, Any] = {"result": regions}
    prediction |= {"score": min(scores)} if scores else {}
    prediction |= {"model_version": model_version} if model_version else {}
    return {**task, "predictions": [prediction]}


def _regions(text: AnnotatedText, predictions: bool, notes: Notes) -> list[dict[str, Any]]:
    """The spans, then the rectangles, each once, then the relations."""
    regions, relations = [], []
    keys: dict[tuple[Box, str], str] = {}
    rectangles = []
    for number, span in enumerate(text.spans or ()):
        key = f"entity-{number}"
        value = {"start": span.start, "end": span.end, "text": text.text[span.start : span.end], "labels": [span.type]}
        region = {"id": key, "type": "labels", "from_name": LABELS, "to_name": TEXT, "value": value}
        regions.append(region | ({"score": span.score} if predictions and span.score is not None else {}))
        if span.boxes and text.size is None:
            notes.add(_NO_SIZE, text.where, len(span.boxes))
            continue
        for box in span.boxes:
            if (box, span.type) not in keys:
                keys[box, span.type] = f"box-{len(keys)}"
                score = span.box_score if predictions else None
                rectangles.append(_rectangle(keys[box, span.type], box, span.type, text.size, score))
            ends = {"from_id": key, "to_id": keys[box, span.type]}
            relations.append({"type": "relation", **ends, "direction": "right", "labels": ["shown by"]})
    return [*regions, *rectangles, *relations]


def _rectangle(
    key: str, box: Box, label: str, size: tuple[int, int] | None, score: float | None = None
) -> dict[str, Any]:
    assert size is not None
    width, height = size
    value = {
        "x": 100 * box[0] / width,
        "y": 100 * box[1] / height,
        "width": 100 * (box[2] - box[0]) / width,
        "height": 100 * (box[3] - box[1]) / height,
        "rotation": 0,
        "rectanglelabels": [label] if label else [],
    }
    region = {
        "id": key,
        "type": "rectanglelabels",
        "from_name": RECTANGLES,
        "to_name": IMAGE,
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    }
    return region if score is None else {**region, "score": score}
