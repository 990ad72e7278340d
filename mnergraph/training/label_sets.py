"""The label set of a run, and the entities of posts whose types a model does not have."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal

from torch_geometric.data import HeteroData

from mnergraph.labels import OUTSIDE, LabelSet, tags_to_spans
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: How a command's user renames types.
_RENAME = "--data.mapping '{OTHER: MISC}' renames types"


def choose_labels(
    splits: Mapping[str, Sequence[Pair]], types: Literal["all"] | Sequence[str] | None = None
) -> LabelSet:
    """Return the label set of a run.

    Args:
        splits: the posts by split, those of ``train`` among them.
        types: the entity types; ``"all"`` for those of all splits; None for those of the training posts.

    Raises:
        ValueError: when types are named and training posts have others.
    """
    if types == "all":
        return LabelSet.from_data(_labels(pair for pairs in splits.values() for pair in pairs))
    if types is None:
        return LabelSet.from_data(_labels(splits["train"]))
    labels = LabelSet.from_types(types)
    unknown = unknown_entities(labels, splits["train"])
    if unknown:
        raise ValueError(f"the training posts have types that labels lacks: {_described(unknown)}")
    return labels


def unknown_entities(labels: LabelSet, pairs: Iterable[Pair]) -> Counter[str]:
    """Return the number of the posts' entities by type, of types that a label set does not have."""
    known = set(labels.types)
    types = (span.type for tags in _labels(pairs) for span in tags_to_spans(tags))
    return Counter(kind for kind in types if kind not in known)


def warn_of_unknown_types(
    labels: LabelSet, splits: Mapping[str, Sequence[Pair]], *, name: str = "the model", advice: str = _RENAME
) -> None:
    """Warn of entities that count as missed, as a model does not have their types.

    Args:
        labels: of the model.
        splits: the posts by split.
        name: of the model, for the message.
        advice: what to do, for the message.
    """
    unknown = {split: unknown_entities(labels, pairs) for split, pairs in splits.items()}
    found = "; ".join(f"{split} {_described(entities)}" for split, entities in unknown.items() if entities)
    if found:
        text = f"entities of types that {name} lacks count as missed: {found}. {advice}"
        warnings.warn(text, stacklevel=2)


def check_types(labels: LabelSet, split: str, pairs: Sequence[Pair], *, name: str = "the model") -> None:
    """Check, before a saved model is scored, that it has a type of the posts; warn of those that it does not have.

    Args:
        labels: of the model.
        split: of the posts.
        pairs: the posts.
        name: of the model, for the message.

    Raises:
        ValueError: when it has none.
    """
    unknown = unknown_entities(labels, pairs)
    if unknown and not any(tag in labels.tags for tags in _labels(pairs) for tag in tags if tag != OUTSIDE):
        raise ValueError(
            f"{name} has no type of the {split} posts, which have {_described(unknown)}; it has "
            f"{', '.join(labels.types)}. {_RENAME}"
        )
    warn_of_unknown_types(labels, {split: pairs}, name=name)


def build_for_scoring(model: Tagger, pair: Pair) -> HeteroData:
    """Return the draft of a post's graph; tags of types that the model does not have are no error.

    Args:
        model: the model.
        pair: the post.
    """
    if set(pair.labels or ()) <= set(model.labels.tags):
        return model.builder.build(pair)
    graph = model.builder.build(replace(pair, labels=None))
    graph.pair = pair
    return graph


def _labels(pairs: Iterable[Pair]) -> Iterable[Sequence[str]]:
    return (pair.labels or () for pair in pairs)


def _described(entities: Counter[str]) -> str:
    """Return the most frequent types with their numbers: ``ORG (12), DATE (3)``."""
    shown = [f"{kind} ({number})" for kind, number in entities.most_common(5)]
    left = len(entities) - len(shown)
    return ", ".join(shown) + (f" and {left} more types" if left else "")
