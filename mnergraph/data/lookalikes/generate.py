"""Makes Lookalikes: writes its posts, images and evidence to a folder, all of it or nothing.

Sentences do not depend on the settings of the images: with the same seed and sizes, a data set with only
irrelevant images holds the same posts word for word.
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
from mnergraph.labels import spans_to_tags
from mnergraph.pair import DetectedObject, Pair

#: Raised when the generator makes other posts from the same settings, so that older ones are made again.
GENERATOR_VERSION = 1


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
    """Write the benchmark to ``root/raw``, unless it is there with these settings, and return that folder.

    It is written beside and moved into place when it is whole; a run that is killed leaves the old one or
    none.

    Args:
        root: where ``raw`` goes.
        seed: of every choice: words, images, boxes, scores, captions.
        sizes: how many posts train, valid and test hold.
        image_irrelevant_ratio: the share of the posts with an image whose image says nothing of any type.
        image_missing_ratio: the share of posts without an image.
        irrelevant_images_mislead: let irrelevant images show objects of types drawn at random, not distractors alone.
        size: width and height of an image in pixels.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when a setting makes no sense.
        FileExistsError: when ``root/raw`` holds something else.
    """
    if len(sizes) != len(SPLITS) or min(sizes) < 0:
        raise ValueError(f"sizes are how many posts train, valid and test hold, not {sizes}")
    for name, share in (
        ("image_irrelevant_ratio", image_irrelevant_ratio),
        ("image_missing_ratio", image_missing_ratio),
    ):
        if not 0 <= share <= 1:
            raise ValueError(f"{name} is a share of posts, from 0 to 1, not {share}")
    if size < 64:
        raise ValueError(f"nobody recognises objects in an image of {size} pixels; size is 64 or more")
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
    if _is_made(raw, settings):
        return raw
    making = raw.with_name(f".making-{uuid4().hex}")
    _remove_stale(raw.parent)
    try:
        _write(making, settings, progress)
        if not _is_made(raw, settings):  # by another process, in the meantime
            _publish(making, raw)
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return raw


def read_truth(raw: str | Path) -> dict[str, GroundTruth]:
    """What the generator knows of every post, by id, from ``raw/truth.jsonl``."""
    truth = {}
    for line in (Path(raw) / "truth.jsonl").read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        known = {key: frozenset(map(tuple, record[key])) for key in ("ambiguous", "shown", "told")}
        truth[record["id"]] = GroundTruth(**known)
    return truth


def _is_made(raw: Path, settings: Mapping[str, Any]) -> bool:
    """Whether the folder holds the benchmark with these settings; FileExistsError when it is another's."""
    if (raw / SETTINGS_FILE).exists():
        return json.loads((raw / SETTINGS_FILE).read_text(encoding="utf-8")) == settings
    if raw.exists() and any(raw.iterdir()):
        raise FileExistsError(f"{raw} holds files that Lookalikes did not make; give it a folder of its own")
    return False


def _remove_stale(root: Path) -> None:
    """Remove what killed runs left: folders in the making that are over an hour old."""
    for left in root.glob(".making-*"):
        if time.time() - left.stat().st_mtime > 3600:
            shutil.rmtree(left, ignore_errors=True)


def _publish(made: Path, raw: Path) -> None:
    """Put a finished folder in the place of the old one, which is there in full until it is gone in full."""
    old = made.with_name(f"{made.name}-old")
    if raw.exists():
        raw.rename(old)
    made.rename(raw)
    shutil.rmtree(old, ignore_errors=True)


def _write(folder: Path, settings: Mapping[str, Any], progress: bool) -> None:
    """Every file of the benchmark; the settings last."""
    (folder / "images").mkdir(parents=True)
    sights: dict[str, Detections] = {}
    captions: dict[str, str] = {}
    truth: list[dict[str, Any]] = []
    drawn = sum(settings["sizes"])
    with tqdm(total=drawn, desc="drawing Lookalikes", unit="post", disable=not progress) as bar:
        for number, (split, count) in enumerate(zip(SPLITS, settings["sizes"], strict=True), start=1):
            pairs = []
            for place, (sentence, fate) in enumerate(_posts(split, count, settings)):
                name = f"{number}{place:06d}"
                tags = spans_to_tags(sentence.entities, len(sentence.words))
                pairs.append(Pair(sentence.words, tuple(tags), id=name))
                truth.append({"id": name, **_truth(sentence, fate)})
                if fate is not None:
                    rng = random.Random(f"{settings['seed']} {name}")
                    things = scenes.compose(sentence, fate, rng)
                    image, sights[name] = _draw_image(things, settings["size"], rng)
                    image.save(folder / "images" / f"{name}.jpg", quality=85)
                    captions[name] = scenes.caption([thing.label for thing in things], rng)
                bar.update()
            write_conll(pairs, folder / f"{split}.txt")
    write_objects(sights, folder / "objects.jsonl")
    write_captions(captions, folder / "captions.jsonl")
    lines = "".join(json.dumps(record) + "\n" for record in truth)
    (folder / "truth.jsonl").write_text(lines, encoding="utf-8")
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def _posts(split: str, count: int, settings: Mapping[str, Any]) -> Iterator[tuple[Sentence, ImageRole | None]]:
    """The sentences of a split, each with what its image does for it; None for no image."""
    seed = settings["seed"]
    sentences = grammar.write(count, random.Random(f"{seed} {split} words"))
    without = round(settings["no_picture"] * count)
    wrong = round(settings["irrelevant"] * (count - without))
    irrelevant: ImageRole = "misleading" if settings["misleading"] else "irrelevant"
    fates: list[ImageRole | None] = [None] * without + [irrelevant] * wrong
    fates += ["telling"] * (count - len(fates))
    random.Random(f"{seed} {split} pictures").shuffle(fates)
    return zip(sentences, fates, strict=True)


def _draw_image(things: Sequence[scenes.SceneObject], size: int, rng: random.Random) -> tuple[Image.Image, Detections]:
    """The image of these things, and what a detector sees in it, best score first."""
    image, boxes = draw_image([thing.label for thing in things], size, rng)
    seen = zip(things, boxes, scenes.scores(len(things), rng), strict=True)
    objects = (DetectedObject(thing.label, box, score, thing.span) for thing, box, score in seen)
    return image, Detections(size, size, tuple(objects))


def _truth(sentence: Sentence, fate: ImageRole | None) -> dict[str, list[tuple[int, int]]]:
    """The spans of ambiguous names, of those an object stands for, and of those whose type is told."""
    ambiguous = [(name.start, name.end) for name in sentence.ambiguous]
    shown = ambiguous if fate in ("telling", "misleading") else []
    return {"ambiguous": ambiguous, "shown": shown, "told": ambiguous if fate == "telling" else []}
