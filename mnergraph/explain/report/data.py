"""What the page shows, as plain JSON data: words, entities on both sides, picture, boxes, weights."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from mnergraph.explain.record import EdgeWeights, PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.labels import Entity, Span, tags_to_spans
from mnergraph.metrics.scores import classify_errors
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: Longest side of a picture in pixels, and JPEG's quality: two hundred posts stay well under 20 MB.
SIDE, QUALITY = 480, 70


def report_data(
    model: Tagger, pairs: Sequence[Pair], *, batch_size: int = 32, progress: bool = False
) -> dict[str, Any]:
    """The posts as the page takes them: ``posts``, the layers that weighed something, and how many heads.

    Args:
        model: the model; posts are read in evaluation mode.
        pairs: the posts, with the features that the model reads; labelled ones show their errors.
        batch_size: posts at once.
        progress: whether to show a progress bar.
    """
    posts: list[dict[str, Any]] = []
    with tqdm(total=len(pairs), desc="explaining", unit="post", disable=not progress) as bar:
        for some in _batches(pairs, batch_size):
            with record_attention(model) as record:
                found = model.predict(some)
            for pair, seen, entities in zip(some, record.posts, found, strict=True):
                posts.append(_post(pair, seen, entities))
            bar.update(len(some))
    parts = [part for post in posts for part in post["parts"]]
    return {
        "model": type(model).__name__,
        "types": list(model.labels.types),
        "layers": sorted({part["layer"] for part in parts}, key=_order),
        "heads": max((part["heads"] for part in parts), default=0),
        "posts": posts,
    }


def _post(pair: Pair, record: PairRecord, entities: Sequence[Entity]) -> dict[str, Any]:
    gold = None if pair.labels is None else tags_to_spans(pair.labels)
    said = [Span(found.start, found.end, found.type) for found in entities]
    wrong_gold, wrong_said = ([], ["right"] * len(said)) if gold is None else classify_errors(gold, said)
    picture, boxes = embedded_image(pair)
    return {
        "id": pair.id,
        "words": list(pair.words),
        "gold": gold and [[*span, kind] for span, kind in zip(gold, wrong_gold, strict=True)],
        "said": [
            [*span, kind, round(found.score, 4)] for span, kind, found in zip(said, wrong_said, entities, strict=True)
        ],
        "errors": sorted({*wrong_gold, *wrong_said} - {"right"}),
        "picture": picture,
        "caption": pair.caption,
        "objects": [
            {"label": thing.label, "score": round(thing.score, 3), "box": box}
            for thing, box in zip(pair.objects, boxes, strict=True)
        ],
        "parts": [part for weights in record.weights for part in _parts(record, weights)],
    }


def embedded_image(pair: Pair) -> tuple[str | None, list[list[float] | None]]:
    """The picture, scaled, as a data URI, and the boxes as shares of it; nothing where it can't be opened."""
    nowhere: list[list[float] | None] = [None] * len(pair.objects)
    if pair.image_path is None:
        return None, nowhere
    try:
        opened = open_image(Path(pair.image_path))
    except ImageError:
        return None, nowhere
    width, height = opened.image.size
    small = opened.image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    boxed = [place for place, thing in enumerate(pair.objects) if thing.box is not None]
    boxes = opened.boxes([box for thing in pair.objects if (box := thing.box) is not None], pair.size)
    for place, (left, top, right, bottom) in zip(boxed, boxes, strict=True):
        shares = (left / width, top / height, right / width, bottom / height)
        nowhere[place] = [round(min(max(share, 0.0), 1.0), 4) for share in shares]
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", nowhere


def _parts(record: PairRecord, weights: EdgeWeights) -> list[dict[str, Any]]:
    """What words heard of objects and of the picture's cells by these weights, a byte for each number."""
    sender, name, receiver = weights.relation
    rows = [record.node_rows(receiver, (word, word + 1)) for word in range(len(record.pair.words))]
    parts = []
    for kind, senders in record.merged_slices(sender):
        count = senders.stop - senders.start
        if kind not in ("object", "image") or not count or not any(map(len, rows)):
            continue
        matrix = weights.matrix()[:, :, senders]
        # [heads, words, senders]
        heard = torch.stack(
            [matrix[:, of].mean(1) if len(of) else matrix.new_zeros(len(matrix), count) for of in rows], 1
        )
        most = float(heard.max())
        parts.append(
            {
                "layer": weights.layer,
                "relation": name,
                "what": weights.what,
                "sender": kind,
                "heads": len(heard),
                "count": count,
                "most": round(most, 5),
                "data": _bytes(heard / most if most > 0 else heard),
            }
        )
    return parts


def _bytes(shares: Tensor) -> str:
    """Numbers from 0 to 1 as one byte each, in base64."""
    return base64.b64encode((shares * 255).round().to(torch.uint8).contiguous().numpy().tobytes()).decode()


def _batches(pairs: Sequence[Pair], size: int) -> list[Sequence[Pair]]:
    return [pairs[begin : begin + size] for begin in range(0, len(pairs), size)]


def _order(layer: str) -> tuple[int, ...]:
    """Layers by their place: "5.0" within the sixth, "4#2" after "4"."""
    return tuple(int(number) for number in layer.replace("#", ".").split("."))
