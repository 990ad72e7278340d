r"""The best expected scores of any model on Lookalikes, with the words alone and with the images.

All spans follow from the words (names and type words are lists without overlap), so a model only decides which type
to predict, or whether to predict an entity at all. Sort the entities of a split into groups: ``n`` entities whose type
is predicted correctly with probability ``p``. A model that predicts the entities of a set A of groups has, with G the
number of entities,

    expected F1 = 2 * sum_A(n p) / (sum_A(n) + G)

because the number of predictions does not depend on which are correct. A further group raises F1 while its p exceeds
half the F1 so far; so the best set is a prefix of the groups in order of p, and the ceiling is the best prefix. With
all groups, expected F1 equals expected *accuracy*, the share of entities with the correct type.

* With the words alone: u unambiguous entities with p = 1, a ambiguous ones with p = 1/4. Predicting all
  gives (u + a/4) / (u + a), which is the ceiling while a >= 2u (so in the default settings); where ambiguous
  names are rarer, leaving them out gives more, 2u / (2u + a).
* With the images: names that an informative object depicts are correct, the others have 1/4. Misleading objects can't
  be distinguished from informative ones: of s depicted names, t of them with their type, the objects give
  t + (s - t)/4 correct ones.

These are expectations over generated splits. On one given split a model that predicts the same type for all ambiguous
names is correct more often than 1/4 if that type is more frequent there: ``best_constant`` is the accuracy with the
best such type. The number of correct types among a ambiguous names is binomial: one standard deviation of accuracy is
sqrt(3a/16) / (u + a), ``spread``.

Grounded posts have three scores: GMNER (span, type, box), MNER (span, type) and EEG (span, box). A model that knows of
an image which proposals, objects with labels and boxes, are in which half and quarter of it sees of an ambiguous name:
whether the post has an image; whether an object of a type stands in the name's place, or in that of the other object of
its type; and the words of its place, if there are any. Names of which it sees the same form a group, and the best
action is the same for a whole group:

* plain entities: type and no box, always right.
* without image: no box, which is right; any type, right with 1/4. MNER 1/4, EEG 1, GMNER 1/4.
* no object of a type in the image: the image is irrelevant, or the name's object is not proposed and has no distractor.
  No box is right for the share q of irrelevant images, of posts with one such name and with two. MNER 1/4, EEG q,
  GMNER q/4.
* objects of the other name's type only: the name's object is not proposed. MNER 1/4, EEG 0, GMNER 0.
* an object in the named place: it is the name's. All 1.
* a named place without object, but one of the same type elsewhere: the name's object is not proposed. MNER 1, EEG and
  GMNER 0.
* no named place: the type is that of the objects. Of two, either is right with 1/2: EEG and GMNER 1/2. A single one is
  right unless it is the distractor of an object that is not proposed.

In misleading images, r of the n names of a group are depicted with their type, the others with a random type and
without gold box: naming the object's box has EEG r/n times the above and as much GMNER, no box has EEG (n - r)/n and
GMNER (n - r)/(4n); the better of the two counts, and MNER is (r + (n - r)/4)/n. Each score is the best over sets of
groups, as above; with the default settings one model reaches all three, but for the names that it leaves out.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from mnergraph.labels import Span, tags_to_spans
from mnergraph.pair import Pair


@dataclass(frozen=True)
class GroundTruth:
    """Word spans of the names in a post, as the generator drew them.

    Args:
        ambiguous: names whose type the words do not determine.
        depicted: those that an object in the image depicts, with their type or with another.
        resolved: those that an object depicts with their type; equal to ``depicted`` unless there are misleading
            images.
        cued: of grounded posts, names with words that say where in the image they are.
        distracted: of grounded posts, depicted names with another object of the same type in the image.
        proposed: of grounded posts, depicted names whose object is among the proposals.
    """

    ambiguous: frozenset[tuple[int, int]] = frozenset()
    depicted: frozenset[tuple[int, int]] = frozenset()
    resolved: frozenset[tuple[int, int]] = frozenset()
    cued: frozenset[tuple[int, int]] = frozenset()
    distracted: frozenset[tuple[int, int]] = frozenset()
    proposed: frozenset[tuple[int, int]] = frozenset()


@dataclass(frozen=True)
class Ceiling:
    """The best expected scores, from 0 to 1.

    Args:
        f1: micro F1 of the best model, which may leave names out.
        accuracy: share of entities with the correct type, of the best model that predicts all; also its micro F1.
        best_constant: accuracy with the best constant type for this split's undetermined names.
        spread: one standard deviation of accuracy, from random types of undetermined names.
    """

    f1: float
    accuracy: float
    best_constant: float
    spread: float


@dataclass(frozen=True)
class GroundingCeiling:
    """The best expected micro F1 of grounded entities, from 0 to 1, each of the best model for it.

    Args:
        gmner: of span, type and box, of models that may leave entities out.
        mner: of span and type, likewise.
        eeg: of span and box, likewise.
        gmner_of_all: of span, type and box, of models that predict all entities.
        mner_of_all: of span and type, likewise.
        eeg_of_all: of span and box, likewise.
    """

    gmner: float
    mner: float
    eeg: float
    gmner_of_all: float
    mner_of_all: float
    eeg_of_all: float


def ceiling(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> Ceiling:
    """Return the ceiling of models that read only the words of these posts."""
    return _ceiling(_entities(pairs, truth), with_images=False)


def image_ceiling(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> Ceiling:
    """Return the ceiling of models that read the words and the images of these posts."""
    return _ceiling(_entities(pairs, truth), with_images=True)


def grounding_ceiling(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> GroundingCeiling:
    """Return the ceilings of models that read the words and proposals of these grounded posts."""
    groups: dict[Hashable, list[_Chances]] = defaultdict(list)
    for pair in pairs:
        for span in tags_to_spans(pair.labels or ()):
            seen, chances = _observed(span, truth[pair.id], has_image=pair.image_path is not None)
            groups[seen].append(chances)

    total = sum(map(len, groups.values())) or 1
    found: dict[str, float] = {}
    for name, value in _BEST.items():
        found[name] = best_f1((len(group), value(group) / len(group)) for group in groups.values())
        found[f"{name}_of_all"] = sum(map(value, groups.values())) / total
    return GroundingCeiling(**found)


def best_f1(groups: Iterable[tuple[int, float]]) -> float:
    """Return the best expected F1 over groups of (number of entities, probability of the correct type)."""
    ordered = sorted(groups, key=lambda group: -group[1])
    entities = sum(count for count, _ in ordered)
    best, correct, predicted = 0.0, 0.0, 0
    for count, probability in ordered:
        correct += count * probability
        predicted += count
        if predicted:
            best = max(best, 2 * correct / (predicted + entities))
    return best


class _Chances(NamedTuple):
    """Probabilities that the best type, the best box and no box are right for an entity."""

    type: float
    box: float
    no_box: float


#: The expected number of right entities of a group, by score, with the best action for it.
_BEST: dict[str, Callable[[list[_Chances]], float]] = {
    "gmner": lambda group: max(sum(c.type * c.box for c in group), sum(c.type * c.no_box for c in group)),
    "mner": lambda group: sum(c.type for c in group),
    "eeg": lambda group: max(sum(c.box for c in group), sum(c.no_box for c in group)),
}


def _observed(span: Span, truth: GroundTruth, *, has_image: bool) -> tuple[Hashable, _Chances]:
    """Return what a model sees of an entity, which makes its group, and the chances of what it predicts."""
    name = span[:2]
    if name not in truth.ambiguous:
        return "plain", _Chances(1, 0, 1)
    if not has_image:
        return "no image", _Chances(1 / 4, 0, 1)
    no_box = float(name not in truth.resolved)
    proposed, number = name in truth.proposed, (name in truth.proposed) + (name in truth.distracted)
    if not number:
        seen = "other objects" if truth.proposed or truth.distracted else "no objects"
        return (seen, len(truth.ambiguous)), _Chances(1 / 4, 0, no_box)
    entity_type = 1 if name in truth.resolved else 1 / 4
    box = 0.0 if no_box or not proposed else 1.0
    if name in truth.cued:
        return ("cued", proposed), _Chances(entity_type, box, no_box)
    return ("not cued", number), _Chances(entity_type, box / number, no_box)


def _entities(pairs: Iterable[Pair], truth: Mapping[str, GroundTruth]) -> list[tuple[Span, GroundTruth]]:
    """Return every entity of the posts with the ground truth of its post."""
    return [(span, truth[pair.id]) for pair in pairs for span in tags_to_spans(pair.labels or ())]


def _ceiling(entities: list[tuple[Span, GroundTruth]], *, with_images: bool) -> Ceiling:
    """Return the ceiling over entities, with or without the images."""
    ambiguous = [(span, truth) for span, truth in entities if span[:2] in truth.ambiguous]
    depicted = [(span, truth) for span, truth in ambiguous if with_images and span[:2] in truth.depicted]
    resolved = sum(span[:2] in truth.resolved for span, truth in depicted)
    num_plain = len(entities) - len(ambiguous)
    probability = (resolved + (len(depicted) - resolved) / 4) / len(depicted) if depicted else 0.0
    if probability > 0.25:
        undetermined = [span for span, truth in ambiguous if not (with_images and span[:2] in truth.depicted)]
    else:
        depicted, undetermined = [], [span for span, _ in ambiguous]
    groups = [(num_plain, 1.0), (len(depicted), probability), (len(undetermined), 0.25)]
    total = len(entities) or 1
    most_frequent = max(Counter(span.type for span in undetermined).values(), default=0)
    expected = num_plain + len(depicted) * probability
    return Ceiling(
        f1=best_f1(groups),
        accuracy=(expected + len(undetermined) / 4) / total,
        best_constant=(expected + most_frequent) / total,
        spread=(len(undetermined) * 3 / 16) ** 0.5 / total,
    )
