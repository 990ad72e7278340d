"""Sketches of the object classes: a few strokes that people and small networks can recognize."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches import emblems, neutral, people, places, things
from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch

#: Classes of objects that determine a name's type, by type.
TYPED_CLASSES: dict[str, tuple[str, ...]] = {
    "PER": tuple(people.SKETCHES),
    "LOC": tuple(places.SKETCHES),
    "ORG": tuple(emblems.SKETCHES),
    "MISC": tuple(things.SKETCHES),
}


#: Classes of objects that determine no type: distractors.
NEUTRAL: tuple[str, ...] = tuple(neutral.SKETCHES)


#: The sketch of every class.
SKETCHES: dict[str, Sketch] = {
    **people.SKETCHES,
    **places.SKETCHES,
    **emblems.SKETCHES,
    **things.SKETCHES,
    **neutral.SKETCHES,
}


__all__ = ["NEUTRAL", "SKETCHES", "TYPED_CLASSES", "Pen", "Sketch"]
