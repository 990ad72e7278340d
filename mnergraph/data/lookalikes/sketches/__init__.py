"""How each class of object is drawn: a few strokes that a person recognises and a small network can."""

from __future__ import annotations

from mnergraph.data.lookalikes.sketches import emblems, neutral, people, places, things
from mnergraph.data.lookalikes.sketches.pen import Pen, Sketch

#: Classes of objects that settle a name's type, by type.
TELLING: dict[str, tuple[str, ...]] = {
    "PER": tuple(people.SKETCHES),
    "LOC": tuple(places.SKETCHES),
    "ORG": tuple(emblems.SKETCHES),
    "MISC": tuple(things.SKETCHES),
}


#: Classes of objects that say nothing about a name.
NEUTRAL: tuple[str, ...] = tuple(neutral.SKETCHES)


#: Every class's sketch.
SKETCHES: dict[str, Sketch] = {
    **people.SKETCHES,
    **places.SKETCHES,
    **emblems.SKETCHES,
    **things.SKETCHES,
    **neutral.SKETCHES,
}


__all__ = ["NEUTRAL", "SKETCHES", "TELLING", "Pen", "Sketch"]
