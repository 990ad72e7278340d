"""Generated pictures for Twitter-GMNER: drawings of the true sizes, with an object wherever a gold box is.

    uv run python -m benchmarks.grounded_pictures --root DIR --out DIR

GMNER's own pictures come with neither this project nor its text. These run the whole chain, from pictures and proposals
to scores, on GMNER's text and gold boxes. An object's class follows from its entity's type, and the proposals are those
of an oracle detector: gold boxes among distractors. So **no score on them is one on GMNER**, and a file in the folder
says so.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

from jsonargparse import auto_cli
from PIL import Image
from tqdm import tqdm

from mnergraph.data.datasets.grounded import GroundedTwitter
from mnergraph.data.formats.boxes import GoldBox, GoldBoxes, write_boxes
from mnergraph.data.formats.evidence_jsonl import Detections, write_objects
from mnergraph.data.lookalikes.drawing import background, sprite
from mnergraph.data.lookalikes.sketches import NEUTRAL, TYPED_CLASSES
from mnergraph.pair import Box, DetectedObject, Pair

#: The file that says so, beside the text.
NOTE = "GENERATED.txt"


NOTE_TEXT = """Generated pictures for the text and gold boxes of Twitter-GMNER (benchmarks/grounded_pictures.py).
Objects are drawn where gold boxes are, of a class of their entity's type, among distractors; objects.jsonl lists them
all, as an oracle detector would. Scores on these pictures are not scores on GMNER.
"""


#: Smallest and largest number of distractors in a picture.
DISTRACTOR_RANGE = (2, 6)


#: Range of a distractor's sides, relative to the picture's.
DISTRACTOR_SIDES = (0.1, 0.4)


#: Longest side, in pixels, at which an object is drawn before it is enlarged.
MAX_SPRITE_SIDE = 240


def main(root: Path, out: Path, seed: int = 0, limit: int | None = None, progress: bool = True) -> None:
    """Write GMNER's text and gold boxes with generated pictures and proposals.

    Args:
        root: folder of GMNER's text and boxes.
        out: folder to write, which must not exist.
        seed: of all random draws.
        limit: draw pictures for this many posts of each split only; None for all.
        progress: whether to show a progress bar.
    """
    generate_pictures(root, out, seed=seed, limit=limit, progress=progress)


def generate_pictures(
    root: str | Path, out: str | Path, *, seed: int = 0, limit: int | None = None, progress: bool = True
) -> Path:
    """Return the folder ``out`` with GMNER's text and gold boxes, generated pictures, and proposals.

    A post without gold boxes has a picture of the size of some other post's, with distractors alone.

    Args:
        root: folder of GMNER's text and boxes.
        out: folder to write.
        seed: of all random draws.
        limit: draw pictures for this many posts of each split only; None for all.
        progress: whether to show a progress bar.

    Raises:
        FileExistsError: when the folder exists.
    """
    out = Path(out)
    images = out / "images"
    out.mkdir(parents=True)
    images.mkdir()
    (out / NOTE).write_text(NOTE_TEXT, encoding="utf-8")
    pairs: list[Pair] = []
    boxes: dict[str, GoldBoxes] = {}
    for split in ("train", "valid", "test"):
        data = GroundedTwitter(root, split)
        text = Path(data.raw_paths[0])
        (out / text.name).write_bytes(text.read_bytes())
        boxes |= {pair.id: _gold_boxes(pair, *pair.size) for pair in data.pairs if pair.size is not None}
        pairs += data.pairs[:limit]
    sizes = [(gold.width, gold.height) for gold in boxes.values()]
    detections: dict[str, Detections] = {}
    for pair in tqdm(pairs, desc="drawing pictures", unit="picture", disable=not progress):
        rng = random.Random(f"{seed} {pair.id}")
        image, detections[pair.id] = draw_picture(pair, pair.size or rng.choice(sizes), rng)
        image.save(images / f"{pair.id}.jpg", quality=75)
    write_boxes(boxes, out / "boxes.jsonl")
    write_objects(detections, out / "objects.jsonl")
    return out


def draw_picture(pair: Pair, size: tuple[int, int], rng: random.Random) -> tuple[Image.Image, Detections]:
    """Return a picture of this size with the post's gold boxes and distractors, and the proposals, best score first."""
    width, height = size
    canvas = background(64, rng).resize((width, height), Image.Resampling.NEAREST)
    gold = {box: _label(entity.type, rng) for entity in pair.grounding or () for box in entity.boxes}
    distractors = dict(_distractors(gold, width, height, rng))
    for box, label in (distractors | gold).items():  # gold boxes last: a distractor hides no entity
        _paste(canvas, label, box, rng)
    objects = [*(distractors | gold).items()]
    rng.shuffle(objects)
    scores = sorted((round(rng.uniform(0.3, 0.99), 3) for _ in objects), reverse=True)
    found = (DetectedObject(label, box, score) for (box, label), score in zip(objects, scores, strict=True))
    return canvas, Detections(width, height, tuple(found))


def _gold_boxes(pair: Pair, width: int, height: int) -> GoldBoxes:
    """Return a post's gold boxes as GMNER has them: those of the same words once."""
    gold = {
        (" ".join(pair.words[entity.start : entity.end]), number): box
        for entity in pair.grounding or ()
        for number, box in enumerate(entity.boxes)
    }
    return GoldBoxes(width, height, tuple(GoldBox(box, name) for (name, _), box in gold.items()))


def _label(entity_type: str, rng: random.Random) -> str:
    return rng.choice(TYPED_CLASSES.get(entity_type, TYPED_CLASSES["MISC"]))


def _distractors(gold: Mapping[Box, str], width: int, height: int, rng: random.Random) -> Iterable[tuple[Box, str]]:
    """Yield boxes that cover no gold box, half of them of a type, with their labels."""
    labels = [label for labels in TYPED_CLASSES.values() for label in labels]
    for _ in range(rng.randint(*DISTRACTOR_RANGE)):
        box_width, box_height = (max(4.0, side * rng.uniform(*DISTRACTOR_SIDES)) for side in (width, height))
        left, top = rng.uniform(0, width - box_width), rng.uniform(0, height - box_height)
        box = (left, top, left + box_width, top + box_height)
        if all(_iou(box, other) < 0.5 for other in gold):
            yield box, rng.choice(labels if rng.random() < 0.5 else NEUTRAL)


def _iou(box: Box, other: Box) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    shared = max(0.0, width) * max(0.0, height)
    areas = sum((each[2] - each[0]) * (each[3] - each[1]) for each in (box, other))
    return shared / (areas - shared)


def _paste(canvas: Image.Image, label: str, box: Box, rng: random.Random) -> None:
    """Draw an object in a box; a large one is drawn small and enlarged."""
    width, height = max(1, round(box[2] - box[0])), max(1, round(box[3] - box[1]))
    scale = min(1.0, MAX_SPRITE_SIDE / max(width, height))
    drawing = sprite(label, max(16, round(width * scale)), max(16, round(height * scale)), rng)
    drawing = drawing.resize((width, height), Image.Resampling.BILINEAR)
    canvas.paste(drawing, (round(box[0]), round(box[1])), drawing)


if __name__ == "__main__":
    auto_cli(main, as_positional=False)
