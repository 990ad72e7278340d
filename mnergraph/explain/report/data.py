"""Content of a report as plain JSON data: words, gold and predicted entities, image, nodes, weights."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch_geometric.data import Batch
from tqdm.auto import tqdm

from mnergraph.explain.record import EdgeWeights, PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.explain.report.summary import Summary, model_facts
from mnergraph.features.vision.image_io import ISSUE_CODES, ImageError, open_image
from mnergraph.labels import Entity, Region, Span, tags_to_spans
from mnergraph.metrics.errors import classify_errors
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.batches import run_in_batches
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

#: Longest side of an image in pixels, and JPEG quality: two hundred posts stay well under 20 MB.
SIDE, QUALITY = 480, 70


def report_data(
    model: Tagger,
    pairs: Sequence[Pair],
    *,
    batching: BatchConfig = BatchConfig(),
    progress: bool = False,
    summary: Summary | None = None,
    facts: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Return the content of a report on these posts, which `write_report` writes as an HTML file.

    Args:
        model: the model; it predicts in evaluation mode.
        pairs: the posts, with the features that the model reads; labelled ones are shown with their errors.
        batching: how posts are taken into batches, and the precision.
        progress: whether to show a progress bar.
        summary: the summary of the posts that these were chosen from; by default that of these posts.
        facts: names and values to be shown besides those of the model, such as the data's name.

    Returns:
        a dict of JSON values: ``model`` (name of its class), ``facts`` (names and values), ``summary``
        (`Summary.to_dict`), ``types`` of entities, ``layers`` with weights, number of ``heads``, and ``posts``. Of a
        post ``tasks`` has name, prediction and gold value (None if it has
        none), as text, of each further head of the model, ``nodes`` has, for each node type of your own, the labels of
        its nodes, and ``parts`` the weights from objects, image regions and such nodes to the words.
    """

    own = Summary()

    def forward(batch: Batch, posts: Sequence[Pair]) -> tuple[GraphState, Sequence[PairRecord]]:
        with record_attention(model) as record:
            graph = model(batch)
        return graph, record.posts

    def describe(computed: tuple[GraphState, Sequence[PairRecord]], posts: Sequence[Pair]) -> list[dict[str, Any]]:
        graph, records = computed
        described: list[dict[str, Any]] = []
        for pair, pair_record, (entities, heads) in zip(posts, records, model.decode(graph), strict=True):
            gold = {head.name: head.gold(pair) for head in model.shown_heads()}
            own.add(pair, entities)
            described.append(_post(pair, pair_record, entities) | {"tasks": _tasks(heads, gold)})
        return described

    with tqdm(total=len(pairs), desc="explaining", unit="post", disable=not progress) as bar:
        posts = run_in_batches(model, pairs, describe, forward=forward, config=batching, progress=bar.update)
    parts = [part for post in posts for part in post["parts"]]
    return {
        "model": type(model).__name__,
        "facts": [list(fact) for fact in (*model_facts(model), *facts)],
        "summary": (summary or own).to_dict(),
        "types": list(model.labels.types),
        "layers": sorted({part["layer"] for part in parts}, key=_order),
        "heads": max((part["heads"] for part in parts), default=0),
        "posts": posts,
    }


def _post(pair: Pair, record: PairRecord, entities: Sequence[Entity]) -> dict[str, Any]:
    gold = None if pair.labels is None else tags_to_spans(pair.labels)
    predicted = [Span(entity.start, entity.end, entity.type) for entity in entities]
    gold_errors: Sequence[str] = []
    predicted_errors: Sequence[str] = ["right"] * len(predicted)
    if gold is not None:
        gold_errors, predicted_errors = classify_errors(gold, predicted)
    image, boxes, fault = embedded_image(pair)
    gold_boxes = _gold_boxes(pair, gold or ())
    return {
        "id": pair.id,
        "words": list(pair.words),
        "gold": gold
        and [[*span, error, boxes] for span, error, boxes in zip(gold, gold_errors, gold_boxes, strict=True)],
        "predicted": [
            [*span, error, round(entity.score, 4), _region(pair, entity.region)]
            for span, error, entity in zip(predicted, predicted_errors, entities, strict=True)
        ],
        "errors": sorted({*gold_errors, *predicted_errors} - {"right"}),
        "image": image,
        "image_fault": fault,
        "caption": pair.caption,
        "objects": [
            {"label": item.label, "score": round(item.score, 3), "box": box}
            for item, box in zip(pair.objects, boxes, strict=True)
        ],
        "nodes": [[node_type, list(labels)] for node_type, labels in record.labels.items()],
        "parts": [part for weights in record.weights for part in _parts(record, weights)],
    }


def _region(pair: Pair, region: Region | None) -> list[Any] | None:
    """Return the index of the object that shows an entity, None for nowhere, and the probability of this choice."""
    if region is None:
        return None
    shown = [index for index, item in enumerate(pair.objects) if (item.box, item.label) == (region.box, region.label)]
    return [None if region.box is None else shown[0], round(region.score, 4)]


def _gold_boxes(pair: Pair, spans: Sequence[Span]) -> list[list[list[float]] | None]:
    """Return the gold boxes of every span, in shares of the image; None where a post has no gold boxes."""
    if pair.grounding is None or pair.size is None:
        return [None] * len(spans)
    width, height = pair.size
    boxes = {(entity.start, entity.end): entity.boxes for entity in pair.grounding}
    sides = (width, height, width, height)
    return [
        [
            [round(min(max(at / side, 0.0), 1.0), 4) for at, side in zip(box, sides, strict=True)]
            for box in boxes.get(span[:2], ())
        ]
        for span in spans
    ]


def _tasks(predicted: Mapping[str, Any], gold: Mapping[str, Any]) -> list[list[str | None]]:
    return [
        [name, _as_text(value), None if gold[name] is None else _as_text(gold[name])]
        for name, value in predicted.items()
    ]


def _as_text(value: Any) -> str:
    """Return plain data as text.

    >>> _as_text({"label": "relevant", "score": 0.75})
    'label relevant, score 0.75'
    """
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_as_text(item)}" for key, item in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(_as_text, value))
    return str(value)


def embedded_image(pair: Pair) -> tuple[str | None, list[list[float] | None], str | None]:
    """Return the scaled image as a data URI, the boxes relative to its size, and what is wrong with its file.

    Returns:
        the URI, None if there is no image or it cannot be opened; for every object left, top, right and bottom between
        0 and 1, None for objects without a box; why the image cannot be opened, None if there is none or it can.
    """
    relative: list[list[float] | None] = [None] * len(pair.objects)
    if pair.image_path is None:
        return None, relative, None
    try:
        opened = open_image(Path(pair.image_path))
    except ImageError as error:
        return None, relative, ISSUE_CODES.get(error.issue.code, error.issue.code)
    width, height = opened.image.size
    small = opened.image.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    small.save(file, "JPEG", quality=QUALITY, optimize=True)
    indices = [index for index, item in enumerate(pair.objects) if item.box is not None]
    boxes = opened.boxes([box for item in pair.objects if (box := item.box) is not None], pair.size)
    for index, (left, top, right, bottom) in zip(indices, boxes, strict=True):
        sides = (left / width, top / height, right / width, bottom / height)
        relative[index] = [round(min(max(side, 0.0), 1.0), 4) for side in sides]
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}", relative, None


def _parts(record: PairRecord, weights: EdgeWeights) -> list[dict[str, Any]]:
    """The attention of each word to objects, image regions and nodes of your own types, one byte per number."""
    sender, name, receiver = weights.relation
    rows = [record.node_rows(receiver, (word, word + 1)) for word in range(len(record.pair.words))]
    parts = []
    for node_type, nodes in record.merged_slices(sender):
        count = nodes.stop - nodes.start
        is_shown = node_type in ("object", "image") or node_type in record.labels
        if not is_shown or not count or not any(map(len, rows)):
            continue
        matrix = weights.matrix()[:, :, nodes]
        # [heads, words, nodes]
        attention = torch.stack(
            [matrix[:, row].mean(1) if len(row) else matrix.new_zeros(len(matrix), count) for row in rows], 1
        )
        highest = float(attention.max())
        parts.append(
            {
                "layer": weights.layer,
                "relation": name,
                "what": weights.what,
                "sender": node_type,
                "heads": len(attention),
                "count": count,
                "most": round(highest, 5),
                "data": _bytes(attention / highest if highest > 0 else attention),
            }
        )
    return parts


def _bytes(shares: Tensor) -> str:
    """Numbers from 0 to 1 as one byte each, in base64."""
    return base64.b64encode((shares * 255).round().to(torch.uint8).contiguous().numpy().tobytes()).decode()


def _order(layer: str) -> tuple[int, ...]:
    """Sort key of layers in the stack: "5.0" is within layer 5, "4#2" comes after "4"."""
    return tuple(int(number) for number in layer.replace("#", ".").split("."))
