"""Files and folders of annotated posts in any format, read and written: the converters behind ``convert-data``.

Every format is read as texts with spans of characters (`AnnotatedText`), which say of each entity where it is in the
text and in the image, and written from these.
"""

from __future__ import annotations

import json
import random
import shutil
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from mnergraph.data.datasets.base import BOXES, SPLITS, PostFolder, describe_folder, find_text_file
from mnergraph.data.evidence import OBJECTS
from mnergraph.data.formats.boxes import GoldBox, GoldBoxes, write_boxes
from mnergraph.data.formats.brat import read_brat, write_brat
from mnergraph.data.formats.conll import HEADER, read_conll, write_conll
from mnergraph.data.formats.conll_columns import read_conll_columns
from mnergraph.data.formats.conversion_options import ConversionOptions, SourceFormat, TargetFormat
from mnergraph.data.formats.doccano import read_doccano, write_doccano
from mnergraph.data.formats.evidence_jsonl import Detections, write_json_lines, write_objects
from mnergraph.data.formats.jsonl import CONLL, JSONL, is_labelled, read_posts
from mnergraph.data.formats.label_studio import labeling_config, read_label_studio, write_label_studio
from mnergraph.data.formats.predictions import read_predictions
from mnergraph.data.formats.text_spans import (
    Annotated,
    AnnotatedText,
    AnnotationError,
    Notes,
    entity_types,
    tokenizer_of,
)
from mnergraph.data.image_files import image_path_in, leads_out
from mnergraph.features.vision.image_io import upright_size
from mnergraph.files import replacing_entries, write_atomically
from mnergraph.labels import LabelSet, invalid_inside_tags
from mnergraph.pair import Pair
from mnergraph.quoting import quoted


def read_annotations(path: str | Path, format: SourceFormat = "auto", **options: Any) -> list[Pair]:
    """Return the posts of a file or folder of any format, with a BIO2 tag for each word and the entities' boxes.

    A warning says what was changed or left out.

    Args:
        path: the file or folder.
        format: its format; ``"auto"`` detects it from the content.
        options: those of `ConversionOptions`.

    Raises:
        AnnotationError: at the first fault, naming the place.
        ValueError: for a format that is not recognized.
    """
    settings, notes = ConversionOptions(**options), Notes()
    texts = read_texts(path, format, settings, notes)
    pairs = [_pair(text, settings, notes) for text in texts]
    for line in notes.lines():
        warnings.warn(f"{path}: {line}", stacklevel=2)
    return pairs


def write_annotations(
    pairs: Iterable[Pair | Annotated], path: str | Path, format: TargetFormat, **options: Any
) -> None:
    """Write posts, or results of `mnergraph.pipeline`, in any format; a warning says what it has no place for.

    Entities of results are written as a model's, with their scores and boxes: in Label Studio as predictions, which are
    pre-annotations there. Posts that could not be predicted are texts without annotation, and are counted. Posts
    without an id are numbered from 1.

    Args:
        pairs: the posts, or the results of posts.
        path: the file or folder.
        format: the format.
        options: those of `ConversionOptions`, such as ``model_version``.

    Raises:
        AnnotationError: for a post that can't be written, by its name.
        FileExistsError: when ``path`` exists.
        TypeError: for posts beside results: a file is of annotations or of predictions.
    """
    settings, notes = ConversionOptions(**options), Notes()
    texts: list[AnnotatedText] = []
    predicted: set[bool] = set()
    for number, post in enumerate(pairs, 1):
        predicted.add(not isinstance(post, Pair))
        text = _from_pair(post, notes) if isinstance(post, Pair) else _from_result(post, notes)
        texts.append(text if text.id else replace(text, id=str(number)))
    if len(predicted) > 1:
        raise TypeError("posts and results of the pipeline are among what is to be written; write them apart")
    write_texts(texts, path, format, settings, notes, predictions=True in predicted)
    for line in notes.lines():
        warnings.warn(f"{path}: {line}", stacklevel=2)


# --- reading ------------------------------------------------------------------------------------------


def detect_format(path: str | Path) -> SourceFormat:
    """Return the format of a file or folder, by its content.

    Raises:
        FileNotFoundError: when it is not there.
        ValueError: when it is of no format.
    """
    path = Path(path)
    if path.is_dir():
        if (path / "dataset_info.json").is_file() or (path / "dataset_dict.json").is_file():
            return "datasets"
        if any(find_text_file(folder, split) for folder in (path, path / "raw") for split in SPLITS):
            return "folder"
        if any(path.rglob("*.ann")):
            return "brat"
        raise ValueError(f"{path} is of no known format (there is: {describe_folder(path)}); name it, --from")
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}")
    suffix = path.suffix.lower()
    if suffix == ".json":
        return "label-studio"
    if suffix == JSONL:
        return _format_of_lines(path)
    if suffix not in CONLL:
        raise ValueError(f"{path}: the format of {suffix or 'such'} files is not known; name it, --from")
    with path.open("rb") as file:
        first = next((line for line in file if line.strip()), b"").removeprefix(b"\xef\xbb\xbf")
    return "conll" if first.startswith(HEADER.encode()) else "columns"


def _format_of_lines(path: Path) -> SourceFormat:
    keys: set[str] = set()
    with path.open("rb") as file:
        for raw in file:
            try:
                line = json.loads(raw.removeprefix(b"\xef\xbb\xbf")) if raw.strip() else {}
            except ValueError:
                raise ValueError(f"{path}: not JSON lines; name its format, --from") from None
            keys |= set(line) if isinstance(line, dict) else set()
            entities = line.get("entities") if isinstance(line, dict) else None
            if entities and isinstance(entities, list):
                return "predictions" if isinstance(entities[0], dict) and "score" in entities[0] else "doccano"
    if keys & {"label", "labels", "relations", "post"}:
        return "doccano"
    return "predictions" if keys & {"entities", "error"} else "posts"


def read_texts(
    path: str | Path,
    format: SourceFormat,
    options: ConversionOptions,
    notes: Notes,
    *,
    image_folder: Path | None = None,
) -> list[AnnotatedText]:
    """Return the texts of a file or folder, with their images' files as far as these are found.

    Args:
        path: the file or folder.
        format: its format.
        options: how it is read.
        notes: where what was changed or left out is counted.
        image_folder: where images that lie within a Hugging Face data set are written; without it they are an error.

    Raises:
        AnnotationError: at the first fault, naming the place.
        ValueError: for another fault, such as a format that is not recognized.
    """
    path = Path(path)
    if format == "auto":
        format = detect_format(path)
    elif not path.exists():
        raise FileNotFoundError(f"there is no {path}")
    if options.posts is not None and format != "predictions":
        raise ValueError(f"posts={str(options.posts)!r} goes with predictions; {path} is read as {format}")
    texts = list(_read(path, format, options, notes, image_folder))
    if not texts:
        raise AnnotationError(f"{path}: no posts in it, read as {format}")
    if format not in ("folder", "posts"):
        texts = _with_images(texts, options.images or (path if path.is_dir() else path.parent), notes)
    if options.mapping:
        texts = [_renamed(text, options.mapping) for text in texts]
    return [text if text.id else replace(text, id=str(number)) for number, text in enumerate(texts, 1)]


def _read(
    path: Path, format: str, options: ConversionOptions, notes: Notes, image_folder: Path | None
) -> Iterable[AnnotatedText]:
    if format == "label-studio":
        return read_label_studio(path, text_key=options.text_key, image_key=options.image_key, notes=notes)
    if format == "doccano":
        return read_doccano(path, text_key=options.text_key, graphemes=options.graphemes, notes=notes)
    if format == "brat":
        return read_brat(path, align=options.align, notes=notes)
    if format == "predictions":
        posts = None if options.posts is None else read_texts_of_posts(options.posts, options.images)
        return read_predictions(path, posts=posts, notes=notes)
    if format == "folder":
        return _read_folder(path, options, notes)
    if format == "datasets":
        return _read_datasets(path, options, notes, image_folder)
    if format == "posts":
        pairs = read_posts(path, images=options.images)
    elif format == "conll":
        pairs = read_conll(path, labelled=is_labelled(path))
    else:
        pairs = read_conll_columns(
            path,
            word_column=options.word_column,
            tag_column=options.tag_column,
            scheme=options.scheme,
            comments=options.comments,
            notes=notes,
        )
    return (_from_pair(pair, notes) for pair in pairs)


def read_texts_of_posts(path: Path, images: Path | None) -> list[Pair]:
    """Return the posts of a file that ``mnergraph predict`` reads."""
    if not path.is_file():
        raise FileNotFoundError(f"posts={str(path)!r} is no file; give the one that was predicted")
    return read_posts(path, images=images if path.suffix.lower() != JSONL else None)


def _read_folder(path: Path, options: ConversionOptions, notes: Notes) -> Iterator[AnnotatedText]:
    splits = [name for name in SPLITS if any(find_text_file(folder, name) for folder in (path, path / "raw"))]
    if not splits:
        raise FileNotFoundError(f"{path} has no train.txt, valid.txt or test.txt; there is: {describe_folder(path)}")
    for split in splits:
        for pair in PostFolder(path, split, images=options.images).pairs:
            yield _from_pair(pair, notes, split)


def _read_datasets(
    path: Path, options: ConversionOptions, notes: Notes, image_folder: Path | None
) -> Iterator[AnnotatedText]:
    from mnergraph.data.formats.hf_datasets import from_dataset, load_saved

    for split, rows in load_saved(path).items():
        for pair in from_dataset(rows, scheme=options.scheme, image_folder=image_folder):
            yield _from_pair(pair, notes, split)


def _from_pair(pair: Pair, notes: Notes, split: str | None = None) -> AnnotatedText:
    notes.add("I- tags continue no entity and begin one", pair.id, len(invalid_inside_tags(pair.labels or ())))
    if pair.caption or pair.context or pair.image_features is not None:
        notes.add("posts have captions, context or image features, which were left out")
    return AnnotatedText.from_pair(pair, split=split)


def _from_result(result: Annotated, notes: Notes) -> AnnotatedText:
    text = result.to_annotated_text()
    if text.spans is None:
        notes.add("posts could not be predicted and have no entities", text.where)
    return text


def _renamed(text: AnnotatedText, mapping: Mapping[str, str]) -> AnnotatedText:
    if text.spans is None:
        return text
    return replace(text, spans=tuple(span._replace(type=mapping.get(span.type, span.type)) for span in text.spans))


def _pair(text: AnnotatedText, options: ConversionOptions, notes: Notes) -> Pair:
    return text.to_pair(align=options.align, overlap=options.overlap, tokenizer=options.tokenizer, notes=notes)


def _with_images(texts: list[AnnotatedText], folder: Path, notes: Notes) -> list[AnnotatedText]:
    """The texts with the files of their images, found in a folder by the ends of the images' addresses."""
    return [
        text if text.image is None or text.image_path is not None else _with_image(text, text.image, folder, notes)
        for text in texts
    ]


def _with_image(text: AnnotatedText, image: str, folder: Path, notes: Notes) -> AnnotatedText:
    for name in _names_in(image):
        if leads_out(name):
            continue
        try:
            path = image_path_in(folder, name)
        except ValueError:
            continue
        if path.is_file():
            return replace(text, image_path=path)
    notes.add(f"images were not found in {folder}; the option images names their folder", text.where)
    return text


def _names_in(address: str) -> Iterator[str]:
    """The names by which an image may lie in a folder, most specific first.

    Label Studio serves local files as ``/data/local-files/?d=<path>`` and uploads as
    ``/data/upload/<project>/<8 digits>-<name>``.
    """
    parts = urlsplit(address)
    given = parse_qs(parts.query).get("d", [parts.path])[0]
    path = PurePosixPath(unquote(given).replace("\\", "/"))
    names = [part for part in path.parts if part != "/"]
    for begin in range(len(names)):
        yield "/".join(names[begin:])
    prefix, dash, rest = path.name.partition("-")
    if dash and len(prefix) == 8 and all(letter in "0123456789abcdef" for letter in prefix):
        yield rest


# --- writing ------------------------------------------------------------------------------------------


def write_texts(
    texts: Sequence[AnnotatedText],
    out: str | Path,
    format: TargetFormat,
    options: ConversionOptions,
    notes: Notes,
    *,
    predictions: bool = False,
    progress: bool = False,
) -> list[str]:
    """Write texts and return one line for each file or kind of files.

    Args:
        texts: the texts.
        out: the file or folder.
        format: its format.
        options: how it is written.
        notes: where what was changed or left out is counted.
        predictions: whether the entities are a model's.
        progress: whether to show a progress bar.

    Raises:
        AnnotationError: for a post that can't be written, by its name.
        FileExistsError: when ``out`` exists.
    """
    out = Path(out)
    require_absent(out, format)
    out.parent.mkdir(parents=True, exist_ok=True)
    entities = sum(len(text.spans or ()) for text in texts)
    if format == "label-studio":
        sized = [_with_size(text) for text in texts]
        write_label_studio(
            sized,
            out,
            predictions=predictions,
            model_version=options.model_version,
            image_prefix=options.image_prefix,
            objects=options.objects,
            notes=notes,
        )
        has_images = any(text.image or text.image_path for text in texts)
        config = _labeling_file(out)
        objects = sorted({item.label for text in texts for item in text.objects if item.label})
        interface = labeling_config(entity_types(texts), image=has_images, objects=objects if options.objects else ())
        write_atomically(config, interface.encode())
        return [f"{out}: {len(texts):,} tasks", f"{config}: labeling interface of the project"]
    if format in ("doccano", "brat"):
        scores = sum(span.score is not None for text in texts for span in text.spans or ())
        if format == "doccano":
            notes.add("scores were left out, which doccano does not have", "", scores)
            write_doccano(texts, out, graphemes=options.graphemes, notes=notes)
        else:
            write_brat(texts, out, notes=notes)
        return [f"{out}: {len(texts):,} texts"]
    if format == "posts":
        notes.add("entities were left out, which posts.jsonl does not have", "", entities)
        return _write_posts(texts, out, progress)
    pairs = _labelled(texts, options, notes, progress)
    if format == "conll":
        write_conll([pair for pair, _ in pairs], out)
        notes.add("boxes were left out, which a CoNLL file does not have", "", _count_boxes(pair for pair, _ in pairs))
        return [f"{out}: {len(pairs):,} posts"]
    if format == "datasets":
        return _write_datasets(pairs, out, progress)
    return _write_folder(pairs, out, options, progress)


def require_absent(out: Path, format: TargetFormat) -> None:
    """Check that nothing is overwritten.

    Raises:
        FileExistsError: when ``out``, or the file beside it, exists; a folder may be there and empty.
    """
    for path in (out, _labeling_file(out)) if format == "label-studio" else (out,):
        if path.is_file() or (path.is_dir() and any(path.iterdir())):
            raise FileExistsError(f"{path} exists; give another --out, or delete it")


def _labeling_file(out: Path) -> Path:
    """The file of Label Studio's labeling interface beside the tasks."""
    return out.with_suffix(".xml")


def _bar(items: Sequence[Any], what: str, progress: bool, unit: str = "post") -> Iterable[Any]:
    from tqdm.auto import tqdm

    return tqdm(items, what, unit=unit, disable=not progress)


def _labelled(
    texts: Sequence[AnnotatedText], options: ConversionOptions, notes: Notes, progress: bool
) -> list[tuple[Pair, str | None]]:
    """The posts and their splits; where some are annotated, those that are not are left out."""
    annotated = [text for text in texts if text.spans is not None]
    if annotated and len(annotated) < len(texts):
        notes.add("posts without annotation were left out", "", len(texts) - len(annotated))
    kept = annotated or list(texts)
    return [(_pair(text, options, notes), text.split) for text in _bar(kept, "converting", progress)]


def _with_size(text: AnnotatedText) -> AnnotatedText:
    """The text with its image's size, where boxes need it."""
    if text.size is not None or text.image_path is None or not any(span.boxes for span in text.spans or ()):
        return text
    return replace(text, size=upright_size(text.image_path))


def _count_boxes(pairs: Iterable[Pair]) -> int:
    return sum(len(entity.boxes) for pair in pairs for entity in pair.grounding or ())


def _write_posts(texts: Sequence[AnnotatedText], out: Path, progress: bool) -> list[str]:
    lines = []
    images = _image_names([(text.id, text.image_path) for text in texts])
    for text in texts:
        line: dict[str, Any] = {"id": text.id}
        if tokenizer_of(text) == "tweets":
            line["text"] = text.text
        else:
            line["words"] = [text.text[start:end] for start, end in text.word_offsets or ()]
        if text.image_path is not None:
            line["image"] = f"images/{images[text.id][0]}"
        lines.append(line)
    _copy_images(images, out.parent / "images", progress)
    write_json_lines(lines, out)
    return [f"{out}: {len(lines):,} posts", *_images_line(images, out.parent)]


def _write_datasets(pairs: Sequence[tuple[Pair, str | None]], out: Path, progress: bool) -> list[str]:
    from mnergraph.data.formats.hf_datasets import save, to_dataset

    labels = LabelSet.from_data(pair.labels or () for pair, _ in pairs)
    if any(split is None for _, split in pairs):
        save(to_dataset([pair for pair, _ in pairs], labels=labels), out, progress=progress)
        return [f"{out}: {len(pairs):,} rows"]
    splits = {name: [pair for pair, split in pairs if split == name] for name in dict.fromkeys(s for _, s in pairs)}
    save({str(name): to_dataset(part, labels=labels) for name, part in splits.items()}, out, progress=progress)
    return [f"{out}: " + ", ".join(f"{name} {len(part):,} rows" for name, part in splits.items())]


def _write_folder(
    pairs: Sequence[tuple[Pair, str | None]], out: Path, options: ConversionOptions, progress: bool
) -> list[str]:
    splits = _splits(pairs, options)
    images = _image_names([(pair.id, pair.image_path) for pair, _ in pairs])
    with replacing_entries(out) as unfinished:
        for name, part in splits.items():
            write_conll(part, unfinished / f"{name}.txt")
        if any(pair.grounding is not None for pair, _ in pairs):
            write_boxes(_gold_boxes(pair for pair, _ in pairs), unfinished / BOXES)
        detections = {pair.id: Detections(*_size_of(pair), pair.objects) for pair, _ in pairs if pair.objects}
        if detections:
            write_objects(detections, unfinished / OBJECTS)
        _copy_images(images, unfinished / "images", progress)
    lines = [f"{out / name}.txt: {len(part):,} posts" for name, part in splits.items()]
    boxes = _count_boxes(pair for pair, _ in pairs)
    lines += [f"{out / BOXES}: {boxes:,} boxes"] * any(pair.grounding is not None for pair, _ in pairs)
    lines += [f"{out / OBJECTS}: objects of {len(detections):,} posts"] * bool(detections)
    return [*lines, *_images_line(images, out)]


def _splits(pairs: Sequence[tuple[Pair, str | None]], options: ConversionOptions) -> dict[str, list[Pair]]:
    """The posts by split: those that the source has, else random shares in which no image or text is in two splits."""
    if all(split in SPLITS for _, split in pairs):
        return {name: part for name in SPLITS if (part := [pair for pair, split in pairs if split == name])}
    groups = _groups([pair for pair, _ in pairs])
    random.Random(options.seed).shuffle(groups)
    ends = [round(len(pairs) * sum(options.fractions[:place])) for place in (1, 2, 3)]
    shares: dict[str, list[int]] = {name: [] for name in SPLITS}
    taken = 0
    for group in groups:
        name = next((name for name, end in zip(SPLITS, ends, strict=True) if taken < end), "test")
        shares[name] += group
        taken += len(group)
    return {name: [pairs[index][0] for index in sorted(share)] for name, share in shares.items() if share}


def _groups(pairs: Sequence[Pair]) -> list[list[int]]:
    """The posts' numbers in groups that share an id, an image or a text."""
    group_of: dict[Any, int] = {}
    groups: list[list[int]] = []
    for index, pair in enumerate(pairs):
        keys = [("id", pair.id), ("text", pair.words), *([("image", pair.image_path)] if pair.image_path else [])]
        joined = sorted({group_of[key] for key in keys if key in group_of})
        first = joined[0] if joined else len(groups)
        if not joined:
            groups.append([])
        for other in joined[1:]:
            groups[first] += groups[other]
            groups[other] = []
            group_of |= {key: first for key, group in group_of.items() if group == other}
        groups[first].append(index)
        group_of |= dict.fromkeys(keys, first)
    return [group for group in groups if group]


def _gold_boxes(pairs: Iterable[Pair]) -> dict[str, GoldBoxes]:
    found: dict[str, GoldBoxes] = {}
    for pair in pairs:
        boxes = [
            GoldBox(box, " ".join(pair.words[entity.start : entity.end]), (entity.start, entity.end))
            for entity in pair.grounding or ()
            for box in entity.boxes
        ]
        if boxes:
            known = found.get(pair.id)
            width, height = _size_of(pair)
            found[pair.id] = GoldBoxes(width, height, (*(known.boxes if known else ()), *boxes))
    return found


def _size_of(pair: Pair) -> tuple[int, int]:
    if pair.size is not None:
        return pair.size
    if pair.image_path is None:
        raise AnnotationError(
            f"post {pair.id!r} has boxes, but no image and no size; the option images names the images' folder"
        )
    return upright_size(pair.image_path)


def _image_names(posts: Sequence[tuple[str, Path | None]]) -> dict[str, tuple[str, Path]]:
    """By id the name of its image in a folder of ours, and the file."""
    names: dict[str, tuple[str, Path]] = {}
    for id, path in posts:
        if path is None:
            continue
        if leads_out(id) or any(part in ("", ".") for part in id.split("/")):
            raise AnnotationError(f"post id {quoted(id)} can't be an image's name; right is a name without suffix")
        if id in names and names[id][1] != path:
            raise AnnotationError(f"two posts have the id {id!r} and different images, {names[id][1]} and {path}")
        names[id] = f"{id}{path.suffix}", path
    return names


def _copy_images(images: Mapping[str, tuple[str, Path]], folder: Path, progress: bool) -> None:
    for name, path in _bar(list(images.values()), "copying images", progress and bool(images), "image"):
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _images_line(images: Mapping[str, Any], out: Path) -> list[str]:
    return [f"{out / 'images'}: {len(images):,} images"] if images else []


def describe_texts(texts: Sequence[AnnotatedText]) -> str:
    """Return one line on texts: how many there are, their entities by type, boxes and images."""
    types = Counter(span.type for text in texts for span in text.spans or ())
    unannotated = sum(text.spans is None for text in texts)
    boxes = sum(len(span.boxes) for text in texts for span in text.spans or ())
    images = sum(text.image_path is not None for text in texts)
    parts = [f"{len(texts):,} posts", f"{types.total():,} entities"]
    parts[1] += f" ({', '.join(f'{kind} {count:,}' for kind, count in types.most_common())})" if types else ""
    parts += [f"{boxes:,} boxes of entities"] * bool(boxes) + [f"{images:,} images"] * bool(images)
    parts += [f"{unannotated:,} posts without annotation"] * bool(unannotated)
    return ", ".join(parts)


__all__ = [
    "ConversionOptions",
    "describe_texts",
    "detect_format",
    "read_annotations",
    "read_texts",
    "write_annotations",
    "write_texts",
]
