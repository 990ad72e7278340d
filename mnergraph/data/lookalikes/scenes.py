"""What the image beside a sentence shows, and a caption that names it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnergraph.data.lookalikes.grammar import TYPES, Sentence
from mnergraph.data.lookalikes.sketches import NEUTRAL, SKETCHES, TELLING

#: What an image does for the names of its post. "misleading": it stands for them with types drawn at random.
ImageRole = Literal["telling", "irrelevant", "misleading"]


#: How often the telling object of a post with one ambiguous name is grounded in that name; it is a general
#: object otherwise. With two names each is grounded, because nothing else says which object goes with which.
GROUNDED = 0.5


DISTRACTORS = (1, 4)


CAPTIONS = (
    "{first} beside {rest}",
    "{first} with {rest}",
    "{first} in front of {rest}",
    "{first} standing beside {rest}",
    "a drawing of {first} next to {rest}",
)


@dataclass(frozen=True)
class SceneObject:
    """An object to draw, and the span of words that grounds it, or None for a general object."""

    label: str
    span: tuple[int, int] | None = None


def compose(sentence: Sentence, fate: ImageRole, rng: random.Random) -> list[SceneObject]:
    """The objects of an image beside this sentence, in random order.

    A telling (or misleading) image shows one object for every ambiguous name; every image shows one to
    four distractors, an irrelevant one a further distractor for each object that it does not show.
    """
    shown: list[SceneObject] = []
    for name in () if fate == "irrelevant" else sentence.ambiguous:
        kind = name.type if fate == "telling" else rng.choice(TYPES)
        used = {thing.label for thing in shown}
        label = rng.choice([label for label in TELLING[kind] if label not in used])
        grounded = len(sentence.ambiguous) > 1 or rng.random() < GROUNDED
        shown.append(SceneObject(label, (name.start, name.end) if grounded else None))
    missing = max(1, len(sentence.ambiguous)) - len(shown)
    shown.extend(SceneObject(label) for label in rng.sample(NEUTRAL, missing + rng.randint(*DISTRACTORS)))
    rng.shuffle(shown)
    return shown


def caption(labels: Sequence[str], rng: random.Random) -> str:
    """One sentence that names two or more objects: "a woman standing beside a tree and a dog"."""
    named = [f"{'an' if label[0] in 'aeiou' else 'a'} {label}" for label in labels]
    first, *rest = rng.sample(named, len(named))
    *listed, last = rest
    others = f"{' , '.join(listed)} and {last}" if listed else last
    return rng.choice(CAPTIONS).format(first=first, rest=others)


def scores(count: int, rng: random.Random) -> list[float]:
    """What a detector could say of as many objects, best first."""
    return sorted((round(rng.uniform(0.6, 0.99), 3) for _ in range(count)), reverse=True)


def vocabulary() -> list[str]:
    """Every word that a label or a caption can hold, sorted."""
    said = " ".join((*CAPTIONS, *SKETCHES, "a an and ,"))
    return sorted(set(said.split()) - {"{first}", "{rest}"})
