"""A sentence-image pair with the evidence of its image: what graphs are built from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mnergraph.features.text.tweet_tokenizer import split_words

if TYPE_CHECKING:
    from torch import Tensor

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectedObject:
    """An object in the image.

    Args:
        label: what it is called ("person", "a soccer player"); "" for an object without a label.
        box: left, top, right, bottom in pixels of the image; None for an object that is known by
            a caption's noun phrase alone.
        score: the detector's confidence, 0 to 1.
        span: the half-open span of the sentence's words that grounds it; None for a *general* object, found
            without a phrase, which concerns every word (UMGF, "Edge Construction").
        region: its region vector, ``[features]``, or None.
    """

    label: str = ""
    box: Box | None = None
    score: float = 1.0
    span: tuple[int, int] | None = None
    region: Tensor | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class GroundedEntity:
    """Words ``start`` to ``end`` (not included) are an entity of this type, which these boxes show.

    Args:
        start: its first word.
        end: the word after its last one.
        type: its type.
        boxes: where the image shows it, xyxy in pixels: all of its gold boxes, or one that is predicted; none where it
            is not in the image.

    Raises:
        ValueError: for a span without words, or a box that is not finite or has no area.
    """

    start: int
    end: int
    type: str
    boxes: tuple[Box, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.start < self.end:
            raise ValueError(f"span {self.start}:{self.end} has no words")
        for box in self.boxes:
            if not all(map(math.isfinite, box)) or not (box[0] < box[2] and box[1] < box[3]):
                raise ValueError(f"box {box} of span {self.start}:{self.end}; right is left < right and top < bottom")


class SourceText(NamedTuple):
    """The plain text that words were split from, and each word's half-open span of characters in it."""

    text: str
    offsets: tuple[tuple[int, int], ...]


class ContextText(NamedTuple):
    """A text about a post that is not the post's own: a caption, object tags, text in the image, knowledge.

    Attributes:
        source: what it is: ``"caption"``, ``"tags"``, ``"ocr"``, ``"knowledge"``, or a name of your own.
        text: the text; empty where the source has none for this post.
    """

    source: str
    text: str


#: The sources of context that come from a post's image.
IMAGE_SOURCES = ("caption", "tags", "ocr")


@dataclass(frozen=True)
class Pair:
    """A post: its words, and any, all or none of labels, image, objects, caption, features and context.

    Args:
        words: the sentence, at least one word.
        labels: one BIO2 tag per word, or None without annotation.
        id: the post's id, for messages and for finding its evidence.
        image_path: path of the image's file.
        size: width and height of the image in pixels.
        objects: objects in the image, best score first.
        caption: one sentence that describes the image.
        image_features: features of the whole image, ``[1, features]``, or of its grid, ``[49, features]``.
        context: texts about the post, for models with context nodes; see `context_of`.
        entities: half-open word spans that become entity nodes, where they are known beforehand.
        grounding: the gold entities, each with its boxes in the image, or None without such annotation; it is no
            evidence, and no model reads it but to learn and to be scored.
        source: the text that the words were split from; None where there is none but the words.
        extra: further data under names of one's own, for node types, heads and results of one's own.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    id: str = ""
    image_path: Path | None = None
    size: tuple[int, int] | None = None
    objects: tuple[DetectedObject, ...] = ()
    caption: str | None = None
    image_features: Tensor | None = field(default=None, compare=False, repr=False)
    context: tuple[ContextText, ...] = ()
    entities: tuple[tuple[int, int], ...] = ()
    grounding: tuple[GroundedEntity, ...] | None = None
    source: SourceText | None = None
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError(f"post {self.id!r} has no words")
        if self.labels is not None and len(self.labels) != len(self.words):
            raise ValueError(f"post {self.id!r} has {len(self.words)} words but {len(self.labels)} labels")
        spans = [o.span for o in self.objects if o.span is not None]
        grounded = [(entity.start, entity.end) for entity in self.grounding or ()]
        for start, end in (*spans, *self.entities, *grounded):
            if not 0 <= start < end <= len(self.words):
                raise ValueError(f"post {self.id!r}: span {start}:{end} leaves its {len(self.words)} words")
        if self.source is not None:
            text, offsets = self.source
            if tuple(text[start:end] for start, end in offsets) != self.words:
                raise ValueError(f"post {self.id!r}: its source {text!r} does not have its words at {offsets}")

    @classmethod
    def from_text(cls, text: str, **evidence: Any) -> Pair:
        """Return the pair of a plain text, split into words as the Twitter benchmarks are.

        Args:
            text: the text.
            evidence: the pair's other fields.

        Raises:
            ValueError: when the text holds no word.
        """
        words = split_words(text)
        if not words:
            raise ValueError(f"post {evidence.get('id', '')!r}: the text {text!r} holds no word")
        source = SourceText(text, tuple((word.start, word.end) for word in words))
        return cls(tuple(word.text for word in words), source=source, **evidence)

    @classmethod
    def from_words(cls, words: Sequence[str], **evidence: Any) -> Pair:
        """Return the pair of a sentence that is split into words; ``evidence`` are its other fields."""
        return cls(tuple(words), **evidence)

    @property
    def text(self) -> str:
        """The text that the words were split from, or else the words with single spaces between them."""
        return " ".join(self.words) if self.source is None else self.source.text

    @property
    def word_offsets(self) -> tuple[tuple[int, int], ...]:
        """Start and end (exclusive) of every word in `text`, in characters."""
        if self.source is not None:
            return self.source.offsets
        ends = [len(word) for word in self.words]
        for position in range(1, len(ends)):
            ends[position] += ends[position - 1] + 1
        return tuple((end - len(word), end) for word, end in zip(self.words, ends, strict=True))

    def context_of(self, source: str) -> str:
        """Return the context of a source, several texts with a space between; empty where there is none.

        Where `context` has no entry of the source, ``"caption"`` is `caption`, and ``"tags"`` are the labels of the
        objects with boxes, best first, each once.
        """
        given = [entry.text for entry in self.context if entry.source == source]
        if given:
            return " ".join(filter(None, given))
        if source == "caption":
            return self.caption or ""
        if source == "tags":
            return ", ".join(dict.fromkeys(item.label for item in self.objects if item.box is not None and item.label))
        return ""

    def without_image(self) -> Pair:
        """Return the same sentence without an image and without all evidence of one, context from it included."""
        context = tuple(entry for entry in self.context if entry.source not in IMAGE_SOURCES)
        empty: dict[str, Any] = {"image_path": None, "size": None, "caption": None, "image_features": None}
        return replace(self, objects=(), context=context, **empty)

    def without_context(self) -> Pair:
        """Return the pair without texts about it; its caption and objects stay, and are no context."""
        return replace(self, context=tuple(ContextText(source, "") for source in _DERIVED))

    def to_dict(self) -> dict[str, Any]:
        """Return the pair as plain JSON data, without its tensors and what of ``extra`` is not JSON."""
        data = _plain_fields(self) | {"objects": [_plain_fields(item) for item in self.objects]}
        if self.grounding is not None:
            data["grounding"] = [asdict(entity) for entity in self.grounding]
        extra = {name: value for name, value in self.extra.items() if _is_json(value)}
        image = None if self.image_path is None else str(self.image_path)
        return data | {"image_path": image} | ({"extra": extra} if extra else {})

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Pair:
        """Return the pair of `to_dict`."""
        data = {name: _to_tuples(value) for name, value in saved.items() if name not in ("objects", "extra")}
        objects = [{name: _to_tuples(value) for name, value in item.items()} for item in saved["objects"]]
        data["image_path"] = None if saved["image_path"] is None else Path(saved["image_path"])
        if data.get("source") is not None:
            data["source"] = SourceText(*data["source"])
        if data.get("grounding") is not None:
            data["grounding"] = tuple(
                GroundedEntity(**{name: _to_tuples(value) for name, value in entity.items()})
                for entity in saved["grounding"]
            )
        data["context"] = tuple(ContextText(*entry) for entry in data.get("context", ()))
        return cls(**data, objects=tuple(DetectedObject(**item) for item in objects), extra=saved.get("extra", {}))


#: Sources of context that a pair's other evidence gives.
_DERIVED = ("caption", "tags")


def _plain_fields(item: DetectedObject | Pair) -> dict[str, Any]:
    """The fields that are neither tensors nor extra data, without source text, context and grounding where empty."""
    values = {entry.name: getattr(item, entry.name) for entry in fields(item) if entry.compare}
    return {name: value for name, value in values.items() if name not in ("source", "context", "grounding") or value}


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


def _to_tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that they were."""
    if not isinstance(value, _SEQUENCES):
        return value
    return tuple([_to_tuples(item) if isinstance(item, _SEQUENCES) else item for item in value])


_SEQUENCES = (list, tuple)
