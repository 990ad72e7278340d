"""Output of `mnergraph.pipeline`: a list of dicts with an HTML form and the attention behind it."""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mnergraph.data.formats.text_spans import AnnotatedText
from mnergraph.explain.record import PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.explain.report.data import embedded_image
from mnergraph.labels import Entity, Region
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: Backgrounds by the index of the type in the label set: Okabe and Ito's, light enough for black letters.
_COLORS = ("#8cc8ea", "#f4b183", "#7fd6b8", "#e6bcd3", "#f2cf80", "#f6ee98", "#c8c8c8")


class NERResult(list[dict[str, Any]]):
    """The entities of one post, or its words, a dict each; see `mnergraph.inference.pipeline.NERPipeline`.

    Attributes:
        text: the post's text, into which ``start`` and ``end`` point.
        id: the post's id.
        pair: the post as the model read it; None for one of a stream that can't be read, such as a text without words.
        heads: what further heads of the model predict of the post, by the head's name.
        error: why the post could not be predicted, which then has no entities; None where it was.
    """

    def __init__(
        self,
        entities: Iterable[dict[str, Any]],
        *,
        pair: Pair | None,
        model: Tagger,
        reader: object,
        heads: Mapping[str, Any] | None = None,
        error: str | None = None,
        words: Iterable[dict[str, Any]] | None = None,
        text: str = "",
        id: str = "",
    ) -> None:
        super().__init__(entities if words is None else words)
        self._entities = None if words is None else list(entities)
        self.error = error
        self.heads = dict(heads or {})
        self.pair = pair
        self.text, self.id = (text, id) if pair is None else (pair.text, pair.id)
        # the reader keeps the files of images that came as bytes
        self._model, self._reader = model, reader

    @property
    def entities(self) -> list[dict[str, Any]]:
        """The entities, whether the items of this list are entities or, by ``aggregation_strategy="none"``, words."""
        return self if self._entities is None else self._entities

    def to_annotated_text(self) -> AnnotatedText:
        """Return the text with its predicted entities, scores and boxes, as annotation tools hold it.

        `mnergraph.data.write_annotations` writes results by it. A post with an error is a text without annotation.
        """
        if self.pair is None:
            return AnnotatedText(self.text, id=self.id, where=f"post {self.id!r}")
        if self.error is not None:
            return AnnotatedText.from_pair(replace(self.pair, labels=None, grounding=None))
        return AnnotatedText.from_pair(self.pair, [_to_entity(entity) for entity in self.entities])

    def explain(self) -> PairRecord:
        """Return the attention of the model in this post, recorded in another forward pass.

        Raises:
            ValueError: for a post that could not be predicted.
        """
        if self.error is not None or self.pair is None:
            raise ValueError(self.error)
        with record_attention(self._model) as record:
            self._model.predict([self.pair])
        return record.posts[0]

    def _repr_html_(self) -> str:
        """The text with its entities marked, and the image with the boxes that support them."""
        parts, at = [], 0
        for entity in self.entities:
            parts.append(html.escape(self.text[at : entity["start"]]))
            parts.append(self._mark(entity))
            at = entity["end"]
        parts.append(html.escape(self.text[at:]))
        if self.error is not None:
            parts.append(html.escape(f" ({self.error})"))
        text = f'<div dir="auto" style="line-height:2.2;white-space:pre-wrap">{"".join(parts)}</div>'
        return f"<div>{text}{'' if self.pair is None else self._image_html(self.pair)}</div>"

    def _mark(self, entity: dict[str, Any]) -> str:
        types = self._model.labels.types
        color = _COLORS[types.index(entity["label"]) % len(_COLORS)]
        title = html.escape(f"{entity['label']}, probability {entity['score']:.3f}{_describe_support(entity)}")
        kind = html.escape(f"{entity['label']} {entity['score']:.2f}")
        return (
            f'<mark title="{title}" style="background:{color};color:#000;padding:.3em .5em;'
            f'border-radius:.35em">{html.escape(entity["word"])} '
            f'<span style="font-size:.75em;font-weight:bold">{kind}</span></mark>'
        )

    def _image_html(self, pair: Pair) -> str:
        image, boxes, _ = embedded_image(pair)
        if image is None:
            return ""
        object_boxes = [item.box and [float(side) for side in item.box] for item in pair.objects]
        captions: dict[tuple[float, ...], list[str]] = {}  # one object may support several entities
        for entity in self.entities:
            name = "box" if "box" in entity else "attention_box"
            share = boxes[object_boxes.index(entity[name])] if entity[name] is not None else None
            if share is not None:
                label = entity[f"{name}_label"] or "object"
                probability = f" {entity['box_probability']:.2f}" if name == "box" else ""
                captions.setdefault(tuple(share), []).append(f"{entity['word']}: {label}{probability}")
        marks = []
        for box, lines in captions.items():
            left, top, right, bottom = (100 * side for side in box)
            caption = html.escape("\n".join(lines))
            # below or above the box, and from that side on which leaves more room, so that it stays in the image
            place = f"{'top' if bottom < 85 else 'bottom'}:100%;{'left' if left <= 100 - right else 'right'}:0"
            marks.append(
                f'<div style="position:absolute;left:{left:.2f}%;top:{top:.2f}%;'
                f"width:{right - left:.2f}%;height:{bottom - top:.2f}%;box-sizing:border-box;"
                'border:2px solid #fff;outline:1px solid #000">'
                f'<span style="position:absolute;{place};white-space:pre;line-height:1.3;'
                f'font-size:.7em;background:#fff;color:#000">{caption}</span></div>'
            )
        return (
            f'<div style="position:relative;display:inline-block"><img src="{image}" style="min-width:20em" '
            f'alt="the image of the post">{"".join(marks)}</div>'
        )


def _to_entity(entity: Mapping[str, Any]) -> Entity:
    region = None
    if "box" in entity:
        box, label = entity["box"], entity["box_label"]
        region = Region(entity["box_probability"], box=None if box is None else tuple(box), label=label or "")
    return Entity(entity["word_start"], entity["word_end"], entity["entity_group"], entity["score"], region)


def _describe_support(entity: Mapping[str, Any]) -> str:
    """Return where the image shows an entity, or else what it attends to, as an addition to a sentence."""
    if "box" in entity:
        where = "not in the image" if entity["box"] is None else f"shown by: {entity['box_label'] or 'object'}"
        return f"; {where}, probability {entity['box_probability']:.3f}"
    if entity["attention_weight"] is None:
        return ""
    return f"; attends most to: {entity['attention_box_label'] or 'object'}"
