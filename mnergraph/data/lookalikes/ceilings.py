r"""The best that any model can expect on Lookalikes, with the words alone and with the images.

Every span can be found from the words (names and settling words are lists without overlap), so a model's
only question is which type to give, or whether to stay silent. Sort the entities of a split into groups:
``n`` entities whose type the model gets right with probability ``p``. A model that answers for a set A of
groups has, with G the number of entities,

    expected F1 = 2 * sum_A(n p) / (sum_A(n) + G)

because what it predicts is as many as it answers for, whatever comes out right. Answering for one group more
pays while its p exceeds half the F1 so far; so the best set is a prefix of the groups in order of p, and the
ceiling is the best prefix. With every group in it, expected F1 equals expected *accuracy*, the share of
entities typed right.

* With the words alone: u unambiguous entities with p = 1, a ambiguous ones with p = 1/4. Answering for all
  gives (u + a/4) / (u + a), which is the ceiling while a >= 2u (so in the default settings); where ambiguous
  names are rarer, silence about them scores more, 2u / (2u + a).
* With the images: names that a telling object stands for are right, the others stay at 1/4. Where
  misleading objects were asked for, they cannot be told from telling ones: of s names that an object stands
  for, t of them truthfully, the object gives t + (s - t)/4 right.

These are expectations over generated splits. On one finished split a model that always gives ambiguous names
the same type is right more often than 1/4 if that type happens to be more frequent there: ``lucky`` is the
accuracy of the best such constant, the most a text-only model gets without real luck. Beyond it, the number
right among a ambiguous names spreads binomially: one standard deviation of accuracy is sqrt(3a/16) / (u +
a), ``spread``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mnergraph.labels import Span, tags_to_spans
from mnergraph.pair import Pair


@dataclass(frozen=True)
class GroundTruth:
    """What the generator knows of a post: word spans of names.

    Args:
        ambiguous: the words cannot tell their type.
        shown: an object in the image stands for them, truthfully or not.
        told: an object in the image tells their type; the same as ``shown`` unless misleading images were
            asked for.
    """

    ambiguous: frozenset[tuple[int, int]] = frozenset()
    shown: frozenset[tuple[int, int]] = frozenset()
    told: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Ceiling:
    """The best expected scores, from 0 to 1.

    Args:
        f1: micro F1 of the best model, which may stay silent about names.
        accuracy: share of entities typed right by the best model that answers for all; also its micro F1.
        lucky: accuracy with the luckiest constant type for this split's undecided names.
        spread: one standard deviation of accuracy, from guessing at undecided names.
    """

    f1: float
    accuracy: float
    lucky: float
    spread: float


def ceiling(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> Ceiling:
    """The ceiling of any model that reads only the words of these posts."""
    return _ceiling(_entities(pairs, truth), with_images=False)


def image_ceiling(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> Ceiling:
    """The ceiling of a model that reads the words and sees the images of these posts."""
    return _ceiling(_entities(pairs, truth), with_images=True)


def best_f1(groups: Iterable[tuple[int, float]]) -> float:
    """The best expected F1 over groups of (entities, probability to type one right)."""
    ordered = sorted(groups, key=lambda group: -group[1])
    entities = sum(count for count, _ in ordered)
    best, right, answered = 0.0, 0.0, 0
    for count, probability in ordered:
        right += count * probability
        answered += count
        if answered:
            best = max(best, 2 * right / (answered + entities))
    return best


def _entities(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> list[tuple[Span, GroundTruth]]:
    """Every entity of the posts with the truth about its post."""
    return [(span, truth[pair.id]) for pair in pairs for span in tags_to_spans(pair.labels or ())]


def _ceiling(entities: list[tuple[Span, GroundTruth]], *, with_images: bool) -> Ceiling:
    """The ceiling over entities, when the images are seen or not."""
    undecided = [(span, known) for span, known in entities if span[:2] in known.ambiguous]
    shown = [(span, known) for span, known in undecided if with_images and span[:2] in known.shown]
    told = sum(span[:2] in known.told for span, known in shown)
    sure = len(entities) - len(undecided)
    trust = (told + (len(shown) - told) / 4) / len(shown) if shown else 0.0
    if trust > 0.25:
        blind = [span for span, known in undecided if not (with_images and span[:2] in known.shown)]
    else:
        shown, blind = [], [span for span, _ in undecided]
    groups = [(sure, 1.0), (len(shown), trust), (len(blind), 0.25)]
    total = len(entities) or 1
    luck = max(Counter(span.type for span in blind).values(), default=0)
    settled = sure + len(shown) * trust
    return Ceiling(
        f1=best_f1(groups),
        accuracy=(settled + len(blind) / 4) / total,
        lucky=(settled + luck) / total,
        spread=(len(blind) * 3 / 16) ** 0.5 / total,
    )
