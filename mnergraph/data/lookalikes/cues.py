"""Grounded posts: where in the image a name's object is, the words that say so, and the image's objects.

A post with one ambiguous name has its object in one half or quarter of the image, and an object of the same type, if
any, in another. A post with two has a row for each: one name's object and the other object of its type stand in the
upper half, those of the other name in the lower half, left and right; the cue names the quarter, and thereby the type
as well. The words and the places are drawn independently of names and types, so they hold for names unseen with them.
A cue is also there where the image is missing or irrelevant: words alone do not tell whether a name is depicted.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import NamedTuple

from mnergraph.data.lookalikes import grammar
from mnergraph.data.lookalikes.drawing import PixelBox
from mnergraph.data.lookalikes.grammar import TYPES, Sentence
from mnergraph.data.lookalikes.scenes import ImageRole
from mnergraph.data.lookalikes.sketches import NEUTRAL, TYPED_CLASSES

#: Raised when the same settings give other grounded posts than before.
VERSION = 1


#: Smallest and largest number of distractors of no type in an image; with two, there is always something to caption.
DISTRACTOR_RANGE = (2, 5)


class Place(NamedTuple):
    """A half or a quarter of an image.

    Attributes:
        row: 0 for the upper half, 1 for the lower, None for both.
        column: 0 for the left half, 1 for the right, None for both.
    """

    row: int | None = None
    column: int | None = None

    def area(self, size: int) -> PixelBox:
        """Return its pixels in a square image, with a gap to the other half."""
        top, bottom = _half(self.row, size)
        left, right = _half(self.column, size)
        return left, top, right, bottom


CORNERS = tuple(Place(row, column) for row in (0, 1) for column in (0, 1))


#: The words for every place.
WORDINGS: dict[Place, tuple[str, ...]] = {
    Place(None, 0): ("on the left", "to the left", "in the left half"),
    Place(None, 1): ("on the right", "to the right", "in the right half"),
    Place(0, None): ("at the top", "in the upper half", "on the upper side"),
    Place(1, None): ("at the bottom", "in the lower half", "on the lower side"),
    Place(0, 0): ("at the top left", "in the upper left corner", "on the upper left"),
    Place(0, 1): ("at the top right", "in the upper right corner", "on the upper right"),
    Place(1, 0): ("at the bottom left", "in the lower left corner", "on the lower left"),
    Place(1, 1): ("at the bottom right", "in the lower right corner", "on the lower right"),
}


#: What stands in a name's place; ``{}`` becomes the name.
CUE_TEMPLATES = ("{{}} {place}", "{{}} , {place} ,", "{{}} ( {place} )", "the one {place} , {{}} ,")


class Cue(NamedTuple):
    """The place of a name's object, and what stands in the place of the name: ``"{} on the left"``, or ``"{}"``."""

    place: Place
    form: str

    @property
    def is_given(self) -> bool:
        """Whether the words say where the name's object is."""
        return self.form != "{}"


class PlacedObject(NamedTuple):
    """An object to draw in a place, and the span of the name that it depicts; None for a distractor."""

    label: str
    place: Place | None = None
    span: tuple[int, int] | None = None


def sample_sentences(
    count: int, rng: random.Random, cue_rng: random.Random, cue_missing_ratio: float
) -> list[tuple[Sentence, tuple[Cue, ...]]]:
    """Return random sentences, each with the cues of its ambiguous names, in order.

    Without the cues they are those of `grammar.sample_sentences`, word for word.
    """
    cues: list[tuple[Cue, ...]] = []

    def forms(names: int) -> list[str]:
        cues.append(_sample_cues(names, cue_rng, cue_missing_ratio))
        return [cue.form for cue in cues[-1]]

    sentences = grammar.sample_sentences(count, rng, forms)
    return list(zip(sentences, cues, strict=True))


def compose(
    sentence: Sentence, cues: Sequence[Cue], role: ImageRole, same_kind_distractors: float, rng: random.Random
) -> list[PlacedObject]:
    """Return the objects of the image of this sentence, those with a place first.

    The number of distractors of no type depends on nothing, so that it does not tell what is not proposed.
    """
    objects: list[PlacedObject] = []
    for name, cue in zip(sentence.ambiguous, cues, strict=True) if role != "irrelevant" else ():
        entity_type = name.type if role == "informative" else rng.choice(TYPES)
        labels = TYPED_CLASSES[entity_type]
        objects.append(PlacedObject(rng.choice(labels), cue.place, (name.start, name.end)))
        other = PlacedObject(rng.choice(labels), _other_place(cue.place, len(cues), rng))
        objects += [other] * (rng.random() < same_kind_distractors)
    neutral = rng.sample(NEUTRAL, rng.randint(*DISTRACTOR_RANGE))
    return [*objects, *map(PlacedObject, neutral)]


def vocabulary() -> list[str]:
    """Return every word of the cues, sorted."""
    wordings = [wording for wordings in WORDINGS.values() for wording in wordings]
    templates = [template.format(place="").replace("{}", "") for template in CUE_TEMPLATES]
    return sorted(set(" ".join((*wordings, *templates)).split()))


def _sample_cues(names: int, rng: random.Random, missing_ratio: float) -> tuple[Cue, ...]:
    """Return the cues of one name, or those of two, which are never missing."""
    if names == 1:
        cue = _worded(rng.choice(tuple(WORDINGS)), rng)
        return (cue._replace(form="{}") if rng.random() < missing_ratio else cue,)
    rows = rng.sample((0, 1), names)
    return tuple(_worded(Place(row, rng.choice((0, 1))), rng) for row in rows)


def _worded(place: Place, rng: random.Random) -> Cue:
    return Cue(place, rng.choice(CUE_TEMPLATES).format(place=rng.choice(WORDINGS[place])))


def _other_place(place: Place, names: int, rng: random.Random) -> Place:
    """Return the place of the distractor of the same type."""
    if place.row is None or place.column is None:
        return Place(*(None if side is None else 1 - side for side in place))
    if names > 1:
        return Place(place.row, 1 - place.column)
    return rng.choice([corner for corner in CORNERS if corner != place])


def _half(side: int | None, size: int) -> tuple[int, int]:
    middle, gap = size // 2, max(1, size // 50)
    return ((0, size), (0, middle - gap), (middle + gap, size))[0 if side is None else side + 1]
