"""Ablations: which rows of its paper's ablation table a model is built as."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def check_ablations(ablate: Collection[str], ablations: Sequence[str]) -> frozenset[str]:
    """Return the ablations as a set.

    Args:
        ablate: names of the ablations to apply.
        ablations: the names in the paper's table.

    Raises:
        ValueError: for a name that is not in the table; the message lists those that are.
        TypeError: for a single string instead of a collection of strings.
    """
    if isinstance(ablate, str):
        raise TypeError(f"ablate is a collection of names, not a string; give [{ablate!r}]")
    unknown = sorted(set(ablate) - set(ablations))
    if unknown:
        names = ", ".join(map(repr, ablations))
        raise ValueError(f"there is no ablation {', '.join(map(repr, unknown))}; there is {names}")
    return frozenset(ablate)
