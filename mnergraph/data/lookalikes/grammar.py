"""Sentences whose words determine the spans of all entities, but not the types of some.

An *ambiguous* name ("Jordan") is of type PER, LOC, ORG or MISC with equal probability, independently of the words
around it. The type of a *plain* entity ("Dr Miller", "Lake Miller", "Miller Inc", "Miller Cup") is determined by one
of its words. Nothing else in a sentence depends on a type.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from mnergraph.labels import Span

TYPES = ("PER", "LOC", "ORG", "MISC")


AMBIGUOUS_NAMES = (
    "Jordan", "Phoenix", "Lincoln", "Paris", "Amazon", "Mercury", "Washington", "Sydney", "Chelsea",
    "Austin", "Florence", "Madison", "Dakota", "Savannah", "Orlando", "Geneva", "Victoria", "Jackson",
    "Houston", "Carolina", "Cheyenne", "Eden", "Aurora", "Milan", "Vienna", "London", "Brooklyn",
    "Kingston", "Hamilton", "Sierra", "Apollo", "Saturn", "Trinity", "Phoebe", "Avalon", "Orion",
    "Santa Rosa", "Santa Cruz", "Saint Clair", "El Dorado", "San Remo", "Red Rock", "Silver Creek",
    "Grand Union", "West Haven", "Nova Scotia", "New Haven", "Golden Gate",
)  # fmt: skip


PLAIN_NAMES = (
    "Miller", "Harlow", "Tahoe", "Acme", "Baker", "Dalton", "Winslow", "Keller", "Osborn", "Fairfax",
    "Marlow", "Sutter", "Hadley", "Crane", "Whitby", "Nolan",
)  # fmt: skip


#: The word that determines a plain entity's type, before or after its proper name.
TYPE_WORDS = {
    "PER": ("Dr {}", "Mrs {}", "Captain {}", "Professor {}"),
    "LOC": ("Lake {}", "Mount {}", "Cape {}", "Fort {}"),
    "ORG": ("{} Inc", "{} Corp", "{} Ltd", "{} Bank"),
    "MISC": ("{} Cup", "{} Prize", "{} Festival", "{} Marathon"),
}


TEMPLATES_WITHOUT_ENTITY = (
    "what a beautiful morning",
    "cannot believe it is already monday",
    "coffee first , then everything else",
    "so tired but so happy right now",
    "nobody told me it would be this cold",
    "best weekend in a long time",
)


TEMPLATES_WITH_ONE = (
    "finally saw {} today",
    "so happy about {} right now",
    "cannot stop thinking about {}",
    "{} looks amazing in this picture",
    "who else loves {} ?",
    "nothing beats {} in the summer",
    "everyone is talking about {} again",
    "{} was all we hoped for",
    "I will never forget {}",
    "the best picture of {} so far",
    "look at this , it is {} !",
    "{} made my day",
    "still dreaming of {} tonight",
    "my sister showed me {} last week",
)


TEMPLATES_WITH_TWO = (
    "{} or {} , which one is better ?",
    "{} always reminds me of {}",
    "first {} and now {} , what a day",
    "I like {} more than {}",
    "from {} to {} in one afternoon",
)


CLAUSE_TEMPLATES = ("thanks to {}", "just like {}", "and then there is {}", "as seen with {}")


HASHTAGS = (
    "#throwback", "#blessed", "#nofilter", "#weekend", "#goals", "#love", "#mood", "#instagood", "#tbt",
    "#picoftheday",
)  # fmt: skip


MENTIONS = (
    "@anna_k", "@bigfan88", "@the_real_tom", "@news247", "@joyful_jo", "@mr_smith", "@skywatcher",
    "@daily_dose",
)  # fmt: skip


LINKS = (
    "http://t.co/a8Kz2pQ", "http://t.co/Xw91bLm", "http://t.co/m3RtY7c", "http://t.co/Qp5nE0v",
    "http://t.co/9ZsdHk4",
)  # fmt: skip


EMOJI = (
    "😂", "😍", "🔥", "🙏", "💯", "❤️", "🎉", "👀",
)  # fmt: skip


#: Shares of the categories of sentences: with no entity, one plain one, one ambiguous one, two ambiguous ones.
CATEGORY_SHARES = (0.1, 0.12, 0.66, 0.12)


#: Probability that a sentence with an ambiguous name also has a plain entity.
CLAUSE_PROBABILITY = 0.35


@dataclass(frozen=True)
class Sentence:
    """Words, all entities in order, and those of them whose type the words do not determine."""

    words: tuple[str, ...]
    entities: tuple[Span, ...]
    ambiguous: tuple[Span, ...]


class BalancedTypes:
    """Draws types in shuffled rounds for every name, so that each type is equally frequent."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._remaining: dict[str, list[str]] = {}

    def draw(self, name: str) -> str:
        """Return the next type of this name."""
        remaining = self._remaining.setdefault(name, [])
        if not remaining:
            remaining.extend(self._rng.sample(TYPES, len(TYPES)))
        return remaining.pop()


def sample_sentences(
    count: int, rng: random.Random, forms: Callable[[int], Sequence[str]] = lambda names: ()
) -> list[Sentence]:
    """Return ``count`` random sentences.

    Args:
        count: their number.
        rng: of all random draws.
        forms: returns, given a number of ambiguous names, what stands in the place of each, such as
            ``"{} on the left"``; nothing for the names alone.
    """
    types = BalancedTypes(rng)
    categories = rng.choices(range(4), weights=CATEGORY_SHARES, k=count)
    return [_sentence(category, types, rng, forms(max(0, category - 1))) for category in categories]


def vocabulary() -> list[str]:
    """Return every word of the sentences, sorted."""
    type_words = (form for forms in TYPE_WORDS.values() for form in forms)
    templates = (*TEMPLATES_WITHOUT_ENTITY, *TEMPLATES_WITH_ONE, *TEMPLATES_WITH_TWO, *CLAUSE_TEMPLATES, *type_words)
    text = " ".join((*templates, *AMBIGUOUS_NAMES, *PLAIN_NAMES, *HASHTAGS, *MENTIONS, *LINKS, *EMOJI))
    return sorted(set(text.split()) - {"{}"})


def _sentence(category: int, types: BalancedTypes, rng: random.Random, forms: Sequence[str]) -> Sentence:
    """Return a sentence: category 0 has no entity, 1 a plain one, 2 an ambiguous one, 3 two ambiguous ones.

    ``forms`` replace the first slots of the template, which are those of the ambiguous names.
    """
    template = rng.choice(
        (TEMPLATES_WITHOUT_ENTITY, TEMPLATES_WITH_ONE, TEMPLATES_WITH_ONE, TEMPLATES_WITH_TWO)[category]
    )
    if category >= 2 and rng.random() < CLAUSE_PROBABILITY:
        template = f"{template} {rng.choice(CLAUSE_TEMPLATES)}"
    names = rng.sample(AMBIGUOUS_NAMES, max(0, category - 1))
    fillers = [(name, types.draw(name)) for name in names]
    if len(fillers) < template.count("{}"):
        plain_type = rng.choice(TYPES)
        fillers.append((rng.choice(TYPE_WORDS[plain_type]).format(rng.choice(PLAIN_NAMES)), plain_type))
    for name in reversed(range(len(forms))):
        before, after = _halves(template, name)
        template = f"{before}{forms[name]}{after}"
    words, entities = _fill([*_prefix(rng), *template.split(), *_suffix(rng)], fillers)
    return Sentence(words, entities, entities[: len(names)])


def _halves(template: str, slot: int) -> tuple[str, str]:
    """Return the text before and after a slot of a template."""
    parts = template.split("{}")
    return "{}".join(parts[: slot + 1]), "{}".join(parts[slot + 1 :])


def _fill(slots: Iterable[str], fillers: list[tuple[str, str]]) -> tuple[tuple[str, ...], tuple[Span, ...]]:
    """Return the words with every ``{}`` filled in order, and the spans of the fillers."""
    words: list[str] = []
    spans: list[Span] = []
    remaining = iter(fillers)
    for slot in slots:
        if slot == "{}":
            text, entity_type = next(remaining)
            spans.append(Span(len(words), len(words) + len(text.split()), entity_type))
            words.extend(text.split())
        else:
            words.append(slot)
    return tuple(words), tuple(spans)


def _prefix(rng: random.Random) -> list[str]:
    """Return the first words of a post, if any: a mention."""
    return [rng.choice(MENTIONS)] if rng.random() < 0.25 else []


def _suffix(rng: random.Random) -> list[str]:
    """Return the last words of a post, if any: emoji, hashtags, a link."""
    closing = [rng.choice(EMOJI)] if rng.random() < 0.3 else []
    closing += rng.sample(HASHTAGS, rng.choice((0, 0, 1, 2)))
    return [*closing, rng.choice(LINKS)] if rng.random() < 0.35 else closing
