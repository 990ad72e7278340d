"""Conversion of VinVL's and bottom-up attention's ``.npz`` files, one per image, to objects.jsonl and features."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor
from tqdm.auto import tqdm

from mnergraph.data.evidence import FEATURES, OBJECTS
from mnergraph.data.formats.evidence_jsonl import Detections, EvidenceError, parse_object, write_objects
from mnergraph.data.formats.feature_file import write_features
from mnergraph.data.image_files import SUFFIXES

#: Names of the arrays of a file: as GMNER distributes VinVL's, and as bottom-up attention writes them.
ARRAY_NAMES: dict[str, dict[str, str]] = {
    "VinVL": {"boxes": "bounding_boxes", "features": "box_features", "count": "num_boxes"},
    "bottom-up attention": {"boxes": "bbox", "features": "x", "count": "num_bbox"},
}


WIDTH, HEIGHT, SCORES, LABELS = "image_w", "image_h", "scores", "objects"


def convert_vinvl(
    folder: str | Path,
    out: str | Path,
    *,
    names: Sequence[str] | None = None,
    labels: bool = True,
    top_k: int | None = None,
    dtype: torch.dtype = torch.float16,
    progress: bool = True,
) -> int:
    """Write the objects of a folder of ``.npz`` files to objects.jsonl and features.safetensors.

    ``7.jpg.npz`` belongs to image 7. A file holds boxes (left, top, right, bottom in pixels), a feature row
    each, how many of them count, width and height of the image, and perhaps scores and labels; their names
    are those of `ARRAY_NAMES`. An array that needs unpickling is not read: unpickling executes code from the file.

    Args:
        folder: holds the files.
        out: folder for the two files; what is there of their names is replaced.
        names: class names, for labels that are numbers.
        labels: whether to read labels; without, objects have none.
        top_k: number of objects kept per image, best score first; None for all, in the file's order.
        dtype: of the features; in float16 those of 8,000 images with 36 objects take 1.2 GB of memory.
        progress: whether to show a progress bar.

    Returns:
        the number of images.

    Raises:
        FileNotFoundError: when there is no such file.
        EvidenceError: for a file that is something else, naming it and the arrays it holds.
    """
    paths = sorted(Path(folder).glob("*.npz"))
    if not paths:
        raise FileNotFoundError(f"no .npz file in {folder}")
    detections: dict[str, Detections] = {}
    regions: dict[str, Tensor] = {}
    for path in tqdm(paths, desc="converting", unit="image", disable=not progress):
        id = path.stem
        for suffix in SUFFIXES:
            id = id.removesuffix(suffix)
        if id in detections:
            raise EvidenceError(f"{path}: a second file for image {id!r}")
        detected, rows = _read(path, names, labels)
        order: Sequence[int] = range(len(rows))
        if top_k is not None:
            order = sorted(order, key=lambda place: -detected.objects[place].score)[:top_k]
        objects = tuple(detected.objects[place] for place in order)
        detections[id] = Detections(detected.width, detected.height, objects)
        regions[id] = rows[list(order)].to(dtype)
        if not regions[id].isfinite().all():
            raise EvidenceError(f"{path}: a feature is not finite, or too large for {dtype}")
    Path(out).mkdir(parents=True, exist_ok=True)
    write_objects(detections, Path(out) / OBJECTS)
    write_features(regions, {}, Path(out) / FEATURES)
    return len(detections)


def _read(path: Path, names: Sequence[str] | None, labels: bool) -> tuple[Detections, Tensor]:
    """Return the objects of one file and their features ``[objects, width]``."""
    try:
        with path.open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            form = next((form for form in ARRAY_NAMES.values() if set(form.values()) <= set(file.files)), None)
            if form is None or not {WIDTH, HEIGHT} <= set(file.files):
                wanted = " or ".join(", ".join([*form.values(), WIDTH, HEIGHT]) for form in ARRAY_NAMES.values())
                raise EvidenceError(f"{path} holds {', '.join(file.files)}; right is {wanted}")
            count = int(file[form["count"]])
            size = int(file[WIDTH]), int(file[HEIGHT])
            boxes, rows = (np.atleast_2d(file[form[part]])[:count] for part in ("boxes", "features"))
            scores = file[SCORES].reshape(-1)[:count] if SCORES in file.files else np.ones(count)
            classes = _labels(file, count, path, names) if labels else [""] * count
    except (OSError, BadZipFile) as error:
        raise EvidenceError(f"{path}: not an .npz file ({error})") from error
    if not len(boxes) == len(rows) == len(scores) == len(classes) == count:
        raise EvidenceError(
            f"{path}: {count} objects, but {len(boxes)} boxes, {len(rows)} features, {len(scores)} scores "
            f"and {len(classes)} labels"
        )
    objects = [
        parse_object({"label": label, "score": float(score), "box": box}, size, f"{path}: object {place}")
        for place, (label, score, box) in enumerate(zip(classes, scores, boxes.tolist(), strict=True), 1)
    ]
    return Detections(*size, tuple(objects)), torch.from_numpy(rows.astype(np.float32))


def _labels(file: Mapping[str, Any], count: int, path: Path, names: Sequence[str] | None) -> list[str]:
    """Return the labels of one file, empty strings where it has none."""
    if LABELS not in file:
        return [""] * count
    try:
        found = file[LABELS].reshape(-1)[:count]
    except ValueError as error:
        raise EvidenceError(
            f"{path}: {LABELS!r} is pickled ({error}); save it as an array of text, or give labels=False"
        ) from error
    if found.dtype.kind in "iu":
        if names is None:
            raise EvidenceError(f"{path}: {LABELS!r} are numbers; give their class names")
        if unnamed := [number for number in found.tolist() if not 0 <= number < len(names)]:
            raise EvidenceError(f"{path}: {LABELS!r} has the number {unnamed[0]}, but there are {len(names)} names")
        return [names[number] for number in found.tolist()]
    return [label.decode() if isinstance(label, bytes) else str(label) for label in found.tolist()]
