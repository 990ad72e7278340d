"""The objects of the image of a sentence, and a caption that names them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from mnergraph.data.lookalikes.grammar import TYPES, Sentence
from mnergraph.data.lookalikes.sketches import NEUTRAL, SKETCHES, TYPED_CLASSES

#: Whether an image depicts the ambiguous names of its post with their types, not at all, or with random types.
ImageRole = Literal["informative", "irrelevant", "misleading"]


#: Probability that the object that depicts the only ambiguous name of a post is grounded in it; else it is a general
#: object. With two names both are grounded, as nothing else determines which object depicts which.
GROUNDED_PROBABILITY = 0.5


#: Smallest and largest number of distractors in an image.
DISTRACTOR_RANGE = (1, 4)


CAPTION_TEMPLATES = (
    "{first} beside {rest}",
    "{first} with {rest}",
    "{first} in front of {rest}",
    "{first} standing beside {rest}",
    "a drawing of {first} next to {rest}",
)


@dataclass(frozen=True)
class SceneObject:
    """An object to draw, with the word span that grounds it; None for a general object."""

    label: str
    span: tuple[int, int] | None = None


def compose(sentence: Sentence, role: ImageRole, rng: random.Random) -> list[SceneObject]:
    """Return the objects of the image of this sentence, in random order.

    An informative or misleading image has one object for every ambiguous name; every image has one to four distractors.
    An image without objects for names has a further distractor in place of each, at least one.
    """
    objects: list[SceneObject] = []
    for name in () if role == "irrelevant" else sentence.ambiguous:
        entity_type = name.type if role == "informative" else rng.choice(TYPES)
        used = {item.label for item in objects}
        label = rng.choice([label for label in TYPED_CLASSES[entity_type] if label not in used])
        grounded = len(sentence.ambiguous) > 1 or rng.random() < GROUNDED_PROBABILITY
        objects.append(SceneObject(label, (name.start, name.end) if grounded else None))
    missing = max(1, len(sentence.ambiguous)) - len(objects)
    objects.extend(SceneObject(label) for label in rng.sample(NEUTRAL, missing + rng.randint(*DISTRACTOR_RANGE)))
    rng.shuffle(objects)
    return objects


def caption(labels: Sequence[str], rng: random.Random) -> str:
    """Return a sentence that names two or more objects: "a woman standing beside a tree and a dog"."""
    named = [f"{'an' if label[0] in 'aeiou' else 'a'} {label}" for label in labels]
    first, *rest = rng.sample(named, len(named))
    *listed, last = rest
    others = f"{' , '.join(listed)} and {last}" if listed else last
    return rng.choice(CAPTION_TEMPLATES).format(first=first, rest=others)


def scores(count: int, rng: random.Random) -> list[float]:
    """Return random detection scores for ``count`` objects, best first."""
    return sorted((round(rng.uniform(0.6, 0.99), 3) for _ in range(count)), reverse=True)


def vocabulary() -> list[str]:
    """Return every word of labels and captions, sorted."""
    text = " ".join((*CAPTION_TEMPLATES, *SKETCHES, "a an and ,"))
    return sorted(set(text.split()) - {"{first}", "{rest}"})
