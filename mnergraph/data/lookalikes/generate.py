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
from mnergraph.data.formats.boxes import GoldBox, GoldBoxes, write_boxes
from mnergraph.data.formats.conll import write_conll
from mnergraph.data.formats.evidence_jsonl import Detections, write_captions, write_objects
from mnergraph.data.lookalikes import cues, grammar, scenes
from mnergraph.data.lookalikes.ceilings import GroundTruth
from mnergraph.data.lookalikes.cues import Cue, PlacedObject
from mnergraph.data.lookalikes.drawing import PixelBox, draw_image
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
    grounded: bool = False,
    same_kind_distractors: float = 1.0,
    cue_missing_ratio: float = 0.0,
    proposal_missing_ratio: float = 0.0,
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
        grounded: whether posts have gold boxes, and words that say where a name is in the image.
        same_kind_distractors: share of depicted names with another object of their type in the image, where grounded.
        cue_missing_ratio: share of posts with one ambiguous name that do not say where it is, where grounded.
        proposal_missing_ratio: share of objects with a gold box that are not among the proposals, where grounded.
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
    grounding = {
        "same_kind_distractors": same_kind_distractors,
        "cue_missing_ratio": cue_missing_ratio,
        "proposal_missing_ratio": proposal_missing_ratio,
    }
    for name, ratio in grounding.items():
        if not 0 <= ratio <= 1:
            raise ValueError(f"{name} is a share, from 0 to 1, not {ratio}")
        if not grounded and ratio != (name == "same_kind_distractors"):
            raise ValueError(f"{name} is a setting of grounded posts; give grounded=True")
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
        **({"grounded": {"version": cues.VERSION, **grounding}} if grounded else {}),
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
    gold: dict[str, GoldBoxes] = {}
    truth: list[dict[str, Any]] = []
    with tqdm(total=sum(settings["sizes"]), desc="drawing Lookalikes", unit="post", disable=not progress) as bar:
        for split_number, (split, count) in enumerate(zip(SPLITS, settings["sizes"], strict=True), start=1):
            pairs = []
            for index, (sentence, cued, role) in enumerate(_posts(split, count, settings)):
                post_id = f"{split_number}{index:06d}"
                tags = spans_to_tags(sentence.entities, len(sentence.words))
                pairs.append(Pair(sentence.words, tuple(tags), id=post_id))
                entry = _truth(sentence, role)
                if role is not None:
                    rng = random.Random(f"{settings['seed']} {post_id}")
                    if cued is None:
                        objects = scenes.compose(sentence, role, rng)
                        image, detections[post_id] = _draw_image(objects, settings["size"], rng)
                    else:
                        placed = cues.compose(sentence, cued, role, settings["grounded"]["same_kind_distractors"], rng)
                        image, drawn = _draw_placed(placed, settings["size"], rng)
                        hidden = _hidden(placed, settings["grounded"]["proposal_missing_ratio"], post_id, settings)
                        detections[post_id] = _proposals(drawn, placed, hidden, settings["size"], rng)
                        gold[post_id] = _gold_boxes(drawn, placed, role, sentence, settings["size"])
                        entry |= _grounded_truth(placed, hidden)
                    image.save(folder / "images" / f"{post_id}.jpg", quality=85)
                    captions[post_id] = scenes.caption([item.label for item in detections[post_id].objects], rng)
                if cued is not None:
                    given = zip(sentence.ambiguous, cued, strict=True)
                    entry["cued"] = [(name.start, name.end) for name, cue in given if cue.is_given]
                truth.append({"id": post_id, **entry})
                bar.update()
            write_conll(pairs, folder / f"{split}.txt")
    write_objects(detections, folder / "objects.jsonl")
    write_captions(captions, folder / "captions.jsonl")
    if "grounded" in settings:
        write_boxes(gold, folder / "boxes.jsonl")
    lines = "".join(json.dumps(entry) + "\n" for entry in truth)
    write_atomically(folder / "truth.jsonl", lines.encode())
    write_atomically(folder / SETTINGS_FILE, (json.dumps(settings, indent=2) + "\n").encode())


def _posts(
    split: str, count: int, settings: Mapping[str, Any]
) -> Iterator[tuple[Sentence, tuple[Cue, ...] | None, ImageRole | None]]:
    """Return the sentences of a split, each with its cues and the role of its image; None for none."""
    seed = settings["seed"]
    rng = random.Random(f"{seed} {split} words")
    sentences: list[tuple[Sentence, tuple[Cue, ...] | None]]
    if "grounded" in settings:
        cue_rng = random.Random(f"{seed} {split} cues")
        sentences = [*cues.sample_sentences(count, rng, cue_rng, settings["grounded"]["cue_missing_ratio"])]
    else:
        sentences = [(sentence, None) for sentence in grammar.sample_sentences(count, rng)]
    num_missing = round(settings["no_picture"] * count)
    num_irrelevant = round(settings["irrelevant"] * (count - num_missing))
    irrelevant: ImageRole = "misleading" if settings["misleading"] else "irrelevant"
    roles: list[ImageRole | None] = [None] * num_missing + [irrelevant] * num_irrelevant
    roles += ["informative"] * (count - len(roles))
    random.Random(f"{seed} {split} pictures").shuffle(roles)
    return ((sentence, cued, role) for (sentence, cued), role in zip(sentences, roles, strict=True))


def _draw_image(objects: Sequence[scenes.SceneObject], size: int, rng: random.Random) -> tuple[Image.Image, Detections]:
    """Return the image of these objects, and their detections, best score first."""
    image, boxes = draw_image([item.label for item in objects], size, rng)
    scored = zip(objects, boxes, scenes.scores(len(objects), rng), strict=True)
    detected = (DetectedObject(item.label, box, score, item.span) for item, box, score in scored)
    return image, Detections(size, size, tuple(detected))


def _draw_placed(objects: Sequence[PlacedObject], size: int, rng: random.Random) -> tuple[Image.Image, list[PixelBox]]:
    """Return the image of objects in their places, and their boxes."""
    areas = [item.place.area(size) if item.place else None for item in objects]
    return draw_image([item.label for item in objects], size, rng, areas)


def _hidden(objects: Sequence[PlacedObject], ratio: float, post_id: str, settings: Mapping[str, Any]) -> set[int]:
    """Return the numbers of the depicting objects that are not among the proposals."""
    rng = random.Random(f"{settings['seed']} {post_id} proposals")
    return {number for number, item in enumerate(objects) if item.span is not None and rng.random() < ratio}


def _proposals(
    boxes: Sequence[PixelBox], objects: Sequence[PlacedObject], hidden: set[int], size: int, rng: random.Random
) -> Detections:
    """Return the proposals of an oracle detector, in random order, with scores that do not depend on what they are."""
    numbers = [number for number in range(len(objects)) if number not in hidden]
    rng.shuffle(numbers)
    scored = zip(numbers, scenes.scores(len(numbers), rng), strict=True)
    return Detections(
        size, size, tuple(DetectedObject(objects[number].label, boxes[number], score) for number, score in scored)
    )


def _gold_boxes(
    boxes: Sequence[PixelBox], objects: Sequence[PlacedObject], role: ImageRole, sentence: Sentence, size: int
) -> GoldBoxes:
    """Return the boxes of the names that the image depicts with their types."""
    gold = [
        GoldBox(box, " ".join(sentence.words[slice(*item.span)]), item.span)
        for box, item in zip(boxes, objects, strict=True)
        if item.span is not None and role == "informative"
    ]
    return GoldBoxes(size, size, tuple(gold))


def _grounded_truth(objects: Sequence[PlacedObject], hidden: set[int]) -> dict[str, list[tuple[int, int]]]:
    """Return what truth.jsonl has of grounded posts: names with a distractor of their type, and those with a proposal.

    An object with a place that depicts no name is the distractor of the name before it.
    """
    spans = {number: item.span for number, item in enumerate(objects) if item.span is not None}
    distracted = [span for number, span in spans.items() if _is_distractor(objects[number + 1 : number + 2])]
    return {"distracted": distracted, "proposed": [span for number, span in spans.items() if number not in hidden]}


def _is_distractor(following: Sequence[PlacedObject]) -> bool:
    return any(item.place is not None and item.span is None for item in following)


def _truth(sentence: Sentence, role: ImageRole | None) -> dict[str, list[tuple[int, int]]]:
    """Return the entry of truth.jsonl: spans of ambiguous names, of depicted ones, and of resolved ones."""
    ambiguous = [(name.start, name.end) for name in sentence.ambiguous]
    depicted = ambiguous if role in ("informative", "misleading") else []
    resolved = ambiguous if role == "informative" else []
    return {"ambiguous": ambiguous, "depicted": depicted, "resolved": resolved}
