"""Data sets of the Hugging Face library `datasets`, which the extra ``datasets`` installs: one function each way.

A row has ``id``, ``tokens``, ``ner_tags`` (`ClassLabel` over BIO2 tags), ``image`` where there are images, and
``entities`` where there are gold boxes: a list of ``start``, ``end`` (words, half-open), ``type`` and ``boxes`` (xyxy
in pixels), with ``width`` and ``height`` of the image.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from mnergraph.data.formats.tag_schemes import Scheme, TagConversion, TagSchemeError, detect_scheme, to_bio2
from mnergraph.data.formats.text_spans import AnnotationError
from mnergraph.labels import OUTSIDE, LabelSet, is_tag
from mnergraph.pair import GroundedEntity, Pair
from mnergraph.quoting import listed, quoted

if TYPE_CHECKING:
    import datasets

#: The library's names of splits, and ours.
_SPLIT_NAMES = {"validation": "valid"}


def to_dataset(pairs: Iterable[Pair], *, labels: LabelSet | Sequence[str] | None = None) -> datasets.Dataset:
    """Return posts as a `datasets.Dataset`; images are read when a row is.

    Args:
        pairs: the posts, all with labels or none.
        labels: the tags, in the order of their class indices; None for those of `LabelSet.from_data`. Give those of the
            training split for all splits.

    Raises:
        ImportError: without the library.
        ValueError: for posts of which some have labels, or a label that is not among the given ones.
    """
    library = _library()
    pairs = list(pairs)
    labelled = [pair.labels is not None for pair in pairs]
    if any(labelled) and not all(labelled):
        without = [pair.id for pair in pairs if pair.labels is None]
        raise ValueError(f"posts without labels beside others that have some ({listed(without)}); convert them apart")
    names = tuple(LabelSet.from_data(pair.labels or () for pair in pairs) if labels is None else labels)
    index = {name: number for number, name in enumerate(names)}
    columns: dict[str, list[Any]] = {"id": [pair.id for pair in pairs], "tokens": [list(pair.words) for pair in pairs]}
    features: dict[str, Any] = {"id": library.Value("string"), "tokens": library.List(library.Value("string"))}
    if any(labelled):
        columns["ner_tags"] = [[_class(tag, index, pair) for tag in pair.labels or ()] for pair in pairs]
        features["ner_tags"] = library.List(library.ClassLabel(names=list(names)))
    if any(pair.image_path for pair in pairs):
        columns["image"] = [None if pair.image_path is None else str(pair.image_path) for pair in pairs]
        features["image"] = library.Image()
    if any(pair.size for pair in pairs):
        for place, side in enumerate(("width", "height")):
            columns[side] = [None if pair.size is None else pair.size[place] for pair in pairs]
            features[side] = library.Value("int32")
    if any(pair.grounding is not None for pair in pairs):
        columns["entities"] = [_entities(pair) for pair in pairs]
        features["entities"] = library.List(
            {
                "start": library.Value("int32"),
                "end": library.Value("int32"),
                "type": library.Value("string"),
                "boxes": library.List(library.List(library.Value("float64"))),
            }
        )
    return library.Dataset.from_dict(columns, features=library.Features(features))


def from_dataset(
    rows: Iterable[Mapping[str, Any]],
    *,
    names: Sequence[str] | None = None,
    scheme: Scheme | Literal["auto"] = "BIO2",
    tokens: str = "tokens",
    tags: str = "ner_tags",
    image: str = "image",
    id: str = "id",
    image_folder: str | Path | None = None,
    mapping: Mapping[str, str] | None = None,
) -> Iterator[Pair]:
    """Yield the posts of a `datasets.Dataset`, of a streamed `IterableDataset`, or of any iterable of rows.

    Args:
        rows: the rows, read one at a time.
        names: the tags by class index; None for those of the data set's `ClassLabel`. Tags that are texts need none.
        scheme: the tags' scheme; ``"auto"`` detects it from ``names``, or else from each row.
        tokens: the column of the words.
        tags: the column of the tags; rows without it have no labels.
        image: the column of the images; rows without it, or with None, have none.
        id: the column of the ids; rows without it are numbered from 0.
        image_folder: where images that have no file are written; without it such a row is an error.
        mapping: entity types to rename.

    Raises:
        AnnotationError: for a row that is no post, naming its number.
    """
    data: Any = rows
    features = getattr(data, "features", None)
    if names is None and features is not None and tags in features:
        names = getattr(getattr(features[tags], "feature", features[tags]), "names", None)
    detected = detect_scheme([names]) if scheme == "auto" and names is not None else scheme
    if features is not None and image in features and hasattr(features[image], "decode"):
        data = data.cast_column(image, _library().Image(decode=False))
    for number, row in enumerate(data):
        where = f"row {number}"
        words = row.get(tokens)
        if not isinstance(words, list | tuple) or not words or not all(isinstance(word, str) for word in words):
            raise AnnotationError(f"{where}: {tokens!r} is {quoted(words)}, no list of words; name the column, tokens=")
        key = str(row[id]) if row.get(id) is not None else str(number)
        labels = None if row.get(tags) is None else _labels(row[tags], names, detected, mapping or {}, where)
        path = _image_file(row.get(image), key, image_folder, where)
        try:
            pair = Pair(tuple(words), labels, key, image_path=path)
            if row.get("width") and row.get("height"):
                pair = replace(pair, size=(int(row["width"]), int(row["height"])))
            if row.get("entities") is not None and labels is not None:
                pair = replace(pair, grounding=tuple(_grounded(entity, mapping or {}) for entity in row["entities"]))
        except (ValueError, KeyError, TypeError) as error:
            raise AnnotationError(f"{where}: {error}") from None
        yield pair


def load_saved(folder: str | Path) -> dict[str | None, datasets.Dataset]:
    """Return the data sets that `save` wrote, by split; one without splits under None."""
    library = _library()
    loaded = library.load_from_disk(str(folder))
    if not isinstance(loaded, library.DatasetDict):
        return {None: loaded}
    return {_SPLIT_NAMES.get(name, name): rows for name, rows in loaded.items()}


def save(
    data: datasets.Dataset | Mapping[str, datasets.Dataset], folder: str | Path, *, progress: bool = False
) -> None:
    """Write a data set, or one for each split, as `datasets.load_from_disk` reads it; our ``valid`` is ``validation``.

    Args:
        data: the data set, or those by split.
        folder: the folder.
        progress: whether the library shows its progress bars.
    """
    library = _library()
    if isinstance(data, Mapping):
        names = {own: theirs for theirs, own in _SPLIT_NAMES.items()}
        data = library.DatasetDict({names.get(name, name): rows for name, rows in data.items()})
    bars = library.are_progress_bars_disabled()
    if not progress:
        library.disable_progress_bars()
    try:
        data.save_to_disk(str(folder))
    finally:
        if not bars:
            library.enable_progress_bars()


def _library() -> Any:
    try:
        import datasets
    except ImportError as error:
        raise ImportError(
            "Hugging Face data sets need the extra datasets: pip install 'mnergraph[datasets]'"
        ) from error
    return datasets


def _class(tag: str, index: Mapping[str, int], pair: Pair) -> int:
    if tag not in index:
        raise ValueError(f"post {pair.id!r}: {quoted(tag)} is not among the labels {listed(list(index))}")
    return index[tag]


def _entities(pair: Pair) -> list[dict[str, Any]] | None:
    if pair.grounding is None:
        return None
    return [
        {"start": entity.start, "end": entity.end, "type": entity.type, "boxes": [list(box) for box in entity.boxes]}
        for entity in pair.grounding
    ]


def _grounded(entity: Mapping[str, Any], mapping: Mapping[str, str]) -> GroundedEntity:
    boxes = tuple((float(box[0]), float(box[1]), float(box[2]), float(box[3])) for box in entity["boxes"] or ())
    return GroundedEntity(entity["start"], entity["end"], mapping.get(entity["type"], entity["type"]), boxes)


def _labels(
    given: Sequence[Any],
    names: Sequence[str] | None,
    scheme: Scheme | Literal["auto"],
    mapping: Mapping[str, str],
    where: str,
) -> tuple[str, ...]:
    texts = []
    for tag in given:
        if isinstance(tag, str):
            texts.append(tag)
        elif names is None:
            raise AnnotationError(f"{where}: tag {quoted(tag)} is a number and the data set names no classes; names=")
        elif not 0 <= int(tag) < len(names):
            raise AnnotationError(f"{where}: tag {quoted(tag)} is not among the {len(names)} classes")
        else:
            texts.append(names[int(tag)])
    try:
        own = detect_scheme([texts]) if scheme == "auto" else scheme
        converted = to_bio2(texts, TagConversion(own))
    except TagSchemeError as error:
        raise AnnotationError(f"{where}: {error}; give scheme=") from None
    assert all(map(is_tag, converted))
    return tuple(tag if tag == OUTSIDE else tag[:2] + mapping.get(tag[2:], tag[2:]) for tag in converted)


def _image_file(value: Any, key: str, folder: str | Path | None, where: str) -> Path | None:
    """The path of a row's image, which is a path, ``{"path", "bytes"}``, or a PIL image."""
    if value is None:
        return None
    if isinstance(value, str | Path):
        return Path(value)
    content = None
    if isinstance(value, Mapping):
        path, content = value.get("path"), value.get("bytes")
        if path is not None and Path(path).is_file():
            return Path(path)
        if content is None:
            raise AnnotationError(f"{where}: there is no image {path}")
    if folder is None:
        raise AnnotationError(f"{where}: its image has no file; give image_folder, where images are written")
    from PIL import Image

    from mnergraph.data.image_files import SUFFIXES, leads_out

    if leads_out(key):
        raise AnnotationError(f"{where}: id {key!r} can't be a file's name")
    suffix = "" if content is None else Path(str(value.get("path") or "")).suffix
    target = Path(folder) / f"{key}{suffix if suffix.lower() in SUFFIXES else '.png'}"
    target.parent.mkdir(parents=True, exist_ok=True)
    if content is not None and target.suffix == suffix:
        target.write_bytes(content)
    else:
        image = value if content is None else Image.open(BytesIO(content))
        image.save(target, "PNG", compress_level=1)
    return target
