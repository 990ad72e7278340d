"""Generation of Lookalikes: posts, images and evidence in a folder, written as a whole or not at all.

Sentences do not depend on the settings of the images: with the same seed and sizes, a data set with only
irrelevant images has the same posts word for word.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from PIL import Image
from tqdm import tqdm

from mnergraph.data.datasets.base import SPLITS
from mnergraph.data.formats.conll import write_conll
from mnergraph.data.formats.evidence_jsonl import Detections, write_captions, write_objects
from mnergraph.data.lookalikes import grammar, scenes
from mnergraph.data.lookalikes.ceilings import GroundTruth
from mnergraph.data.lookalikes.drawing import draw_image
from mnergraph.data.lookalikes.grammar import Sentence
from mnergraph.data.lookalikes.scenes import ImageRole
from mnergraph.files import write_atomically
from mnergraph.labels import spans_to_tags
from mnergraph.pair import DetectedObject, Pair

#: Raised when the same settings give other posts than before, so that older folders are generated again.
GENERATOR_VERSION = 2


SETTINGS_FILE = "settings.json"


def generate(
    root: str | Path,
    *,
    seed: int = 0,
    sizes: tuple[int, int, int] = (1600, 200, 400),
    image_irrelevant_ratio: float = 0.1,
    image_missing_ratio: float = 0.1,
    irrelevant_images_mislead: bool = False,
    size: int = 160,
    progress: bool = True,
) -> Path:
    """Return the folder ``root/raw`` with the benchmark, which is written unless it exists with these settings.

    It is written to a temporary folder that is renamed when complete; a killed run leaves the old folder or none.

    Args:
        root: the parent folder of ``raw``.
        seed: of all random draws: words, images, boxes, scores, captions.
        sizes: number of posts of train, valid and test.
        image_irrelevant_ratio: share, among the posts with an image, of images that determine no entity's type.
        image_missing_ratio: share of posts without an image.
        irrelevant_images_mislead: whether irrelevant images have objects of random types, not only distractors.
        size: width and height of an image in pixels.
        progress: whether to show a progress bar.

    Raises:
        ValueError: for a setting out of range.
        FileExistsError: when ``root/raw`` has other files.
    """
    if len(sizes) != len(SPLITS) or min(sizes) < 0:
        raise ValueError(f"sizes are the numbers of posts of train, valid and test, not {sizes}")
    for name, ratio in (
        ("image_irrelevant_ratio", image_irrelevant_ratio),
        ("image_missing_ratio", image_missing_ratio),
    ):
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} is a share of posts, from 0 to 1, not {ratio}")
    if size < 64:
        raise ValueError(f"size is 64 pixels or more, not {size}: objects in a smaller image can't be recognized")
    settings = {
        "version": GENERATOR_VERSION,
        "seed": seed,
        "sizes": list(sizes),
        "irrelevant": image_irrelevant_ratio,
        "no_picture": image_missing_ratio,
        "misleading": irrelevant_images_mislead,
        "size": size,
    }
    raw = Path(root) / "raw"
    if _is_complete(raw, settings):
        return raw
    temporary = raw.with_name(f".making-{uuid4().hex}")
    _remove_stale(raw.parent)
    try:
        _write(temporary, settings, progress)
        if not _is_complete(raw, settings):  # by another process, in the meantime
            _publish(temporary, raw)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return raw


def read_truth(raw: str | Path) -> dict[str, GroundTruth]:
    """Return the ground truth of every post by id, from ``raw/truth.jsonl``."""
    truth = {}
    for line in (Path(raw) / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        entry = json.loads(line)
        id = entry.pop("id")
        truth[id] = GroundTruth(**{name: frozenset(map(tuple, spans)) for name, spans in entry.items()})
    return truth


def _is_complete(raw: Path, settings: Mapping[str, Any]) -> bool:
    """Return whether the folder has the benchmark with these settings; FileExistsError when it has other files."""
    if (raw / SETTINGS_FILE).exists():
        return json.loads((raw / SETTINGS_FILE).read_text(encoding="utf-8")) == settings
    if raw.exists() and any(raw.iterdir()):
        raise FileExistsError(f"{raw} has files that are not of Lookalikes; give it a folder of its own")
    return False


def _remove_stale(root: Path) -> None:
    """Remove temporary folders of killed runs that are over an hour old."""
    for folder in root.glob(".making-*"):
        if time.time() - folder.stat().st_mtime > 3600:
            shutil.rmtree(folder, ignore_errors=True)


def _publish(temporary: Path, raw: Path) -> None:
    """Rename a complete temporary folder to ``raw``, in place of an older one."""
    old = temporary.with_name(f"{temporary.name}-old")
    if raw.exists():
        raw.rename(old)
    temporary.rename(raw)
    shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, settings: Mapping[str, Any], progress: bool) -> None:
    """Write all files of the benchmark, the settings last."""
    (folder / "images").mkdir(parents=True)
    detections: dict[str, Detections] = {}
    captions: dict[str, str] = {}
    truth: list[dict[str, Any]] = []
    with tqdm(total=sum(settings["sizes"]), desc="drawing Lookalikes", unit="post", disable=not progress) as bar:
        for split_number, (split, count) in enumerate(zip(SPLITS, settings["sizes"], strict=True), start=1):
            pairs = []
            for index, (sentence, role) in enumerate(_posts(split, count, settings)):
                post_id = f"{split_number}{index:06d}"
                tags = spans_to_tags(sentence.entities, len(sentence.words))
                pairs.append(Pair(sentence.words, tuple(tags), id=post_id))
                truth.append({"id": post_id, **_truth(sentence, role)})
                if role is not None:
                    rng = random.Random(f"{settings['seed']} {post_id}")
                    objects = scenes.compose(sentence, role, rng)
                    image, detections[post_id] = _draw_image(objects, settings["size"], rng)
                    image.save(folder / "images" / f"{post_id}.jpg", quality=85)
                    captions[post_id] = scenes.caption([item.label for item in objects], rng)
                bar.update()
            write_conll(pairs, folder / f"{split}.txt")
    write_objects(detections, folder / "objects.jsonl")
    write_captions(captions, folder / "captions.jsonl")
    lines = "".join(json.dumps(entry) + "\n" for entry in truth)
    write_atomically(folder / "truth.jsonl", lines.encode())
    write_atomically(folder / SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())


def _posts(split: str, count: int, settings: Mapping[str, Any]) -> Iterator[tuple[Sentence, ImageRole | None]]:
    """Return the sentences of a split, each with the role of its image; None for no image."""
    seed = settings["seed"]
    sentences = grammar.sample_sentences(count, random.Random(f"{seed} {split} words"))
    num_missing = round(settings["no_picture"] * count)
    num_irrelevant = round(settings["irrelevant"] * (count - num_missing))
    irrelevant: ImageRole = "misleading" if settings["misleading"] else "irrelevant"
    roles: list[ImageRole | None] = [None] * num_missing + [irrelevant] * num_irrelevant
    roles += ["informative"] * (count - len(roles))
    random.Random(f"{seed} {split} pictures").shuffle(roles)
    return zip(sentences, roles, strict=True)


def _draw_image(objects: Sequence[scenes.SceneObject], size: int, rng: random.Random) -> tuple[Image.Image, Detections]:
    """Return the image of these objects, and their detections, best score first."""
    image, boxes = draw_image([item.label for item in objects], size, rng)
    scored = zip(objects, boxes, scenes.scores(len(objects), rng), strict=True)
    detected = (DetectedObject(item.label, box, score, item.span) for item, box, score in scored)
    return image, Detections(size, size, tuple(detected))


def _truth(sentence: Sentence, role: ImageRole | None) -> dict[str, list[tuple[int, int]]]:
    """Return the entry of truth.jsonl: spans of ambiguous names, of depicted ones, and of resolved ones."""
    ambiguous = [(name.start, name.end) for name in sentence.ambiguous]
    depicted = ambiguous if role in ("informative", "misleading") else []
    resolved = ambiguous if role == "informative" else []
    return {"ambiguous": ambiguous, "depicted": depicted, "resolved": resolved}
