"""A sentence-image pair with whatever evidence there is about its picture: what the builder reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from mnergraph.features.text.tweet_tokenizer import Word, split_words

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class DetectedObject:
    """Something the picture shows.

    Args:
        label: what it is called ("person", "a soccer player"); "" when nobody says.
        box: left, top, right, bottom in pixels of the picture; None for an object that was only told of
            (a caption's noun phrase).
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
class Pair:
    """A post: its words, and any, all or none of labels, picture, objects, caption and features.

    Args:
        words: the sentence, at least one word.
        labels: one BIO2 tag per word, or None where nobody annotated it.
        id: the post's id, for messages and for finding its evidence.
        image_path: path of the picture's file.
        size: width and height of the picture in pixels.
        objects: what the picture shows, best first.
        caption: one sentence on what the picture shows.
        image_features: features of the whole picture, ``[1, features]``, or of its grid, ``[49, features]``.
        entities: half-open word spans that become entity nodes, where they are known beforehand.
        extra: data of your own by name, which node types and heads of your own read.
    """

    words: tuple[str, ...]
    labels: tuple[str, ...] | None = None
    id: str = ""
    image_path: Path | None = None
    size: tuple[int, int] | None = None
    objects: tuple[DetectedObject, ...] = ()
    caption: str | None = None
    image_features: Tensor | None = field(default=None, compare=False, repr=False)
    entities: tuple[tuple[int, int], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if not self.words:
            raise ValueError(f"post {self.id!r} has no words")
        if self.labels is not None and len(self.labels) != len(self.words):
            raise ValueError(f"post {self.id!r} has {len(self.words)} words but {len(self.labels)} labels")
        spans = [o.span for o in self.objects if o.span is not None]
        for start, end in (*spans, *self.entities):
            if not 0 <= start < end <= len(self.words):
                raise ValueError(f"post {self.id!r}: span {start}:{end} leaves its {len(self.words)} words")

    def without_image(self) -> Pair:
        """The same sentence as a post that has no picture, and nothing that tells of one."""
        return replace(self, image_path=None, size=None, objects=(), caption=None, image_features=None)

    def to_dict(self) -> dict[str, Any]:
        """The pair as plain JSON data, without its vectors."""
        told = _told(self) | {"objects": [_told(thing) for thing in self.objects]}
        return told | {"image_path": None if self.image_path is None else str(self.image_path)}

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any]) -> Pair:
        """The pair of `to_dict`."""
        told = {name: _to_tuples(value) for name, value in saved.items() if name != "objects"}
        things = [{name: _to_tuples(value) for name, value in thing.items()} for thing in saved["objects"]]
        told["image_path"] = None if saved["image_path"] is None else Path(saved["image_path"])
        return cls(**told, objects=tuple(DetectedObject(**thing) for thing in things))


def _told(thing: DetectedObject | Pair) -> dict[str, Any]:
    """The fields that are no vectors."""
    return {entry.name: getattr(thing, entry.name) for entry in fields(thing) if entry.compare}


def _to_tuples(value: Any) -> Any:
    """Lists, as JSON has them, as the tuples that they were."""
    return tuple(map(_to_tuples, value)) if isinstance(value, list | tuple) else value


@dataclass(frozen=True)
class Post:
    """A pair and the text it was made from, with the place of each word in it."""

    pair: Pair
    text: str
    words: tuple[Word, ...]

    @classmethod
    def of_text(cls, text: str, **evidence: Any) -> Post:
        """A post of plain text, split into words the way the Twitter data is.

        Raises:
            ValueError: when the text holds no word.
        """
        words = tuple(split_words(text))
        if not words:
            raise ValueError(f"post {evidence.get('id', '')!r}: the text {text!r} holds no word")
        return cls(Pair(words=tuple(word.text for word in words), **evidence), text, words)

    @classmethod
    def of_words(cls, pair: Pair) -> Post:
        """A post that is words already; its text is the words with single spaces between them."""
        words, start = [], 0
        for word in pair.words:
            words.append(Word(word, start, start + len(word)))
            start += len(word) + 1
        return cls(pair, " ".join(pair.words), tuple(words))
