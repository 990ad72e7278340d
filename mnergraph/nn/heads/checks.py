"""Checks that every tag scorer makes of its input, and the labels that spell a span.

The tests on values run on the device and come back in one copy, so that a GPU waits once per call.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

#: Forbidden label at the first step [labels], and forbidden pairs of neighbours [labels, labels].
Forbidden = tuple[Tensor, Tensor]


def check(
    emissions: Tensor,
    mask: Tensor,
    names: Sequence[str],
    tags: Tensor | None = None,
    *,
    parameters: Sequence[Tensor] = (),
    forbidden: Forbidden | None = None,
) -> None:
    """Refuse what has no score, saying where it stands. What lies under the mask may hold anything.

    Args:
        emissions: [sentences, slots, labels], floating point.
        mask: [sentences, slots], bool; True for the first words of each row, and only there.
        names: the labels' names, in order.
        tags: [sentences, slots], int64.
        parameters: weights that must not be NaN.
        forbidden: labels and transitions that ``tags`` may not contain.

    Raises:
        TypeError: a dtype is wrong.
        ValueError: a shape, the mask, a tag or a transition is wrong.
        FloatingPointError: a score is NaN or plus infinity, or a parameter is NaN.
    """
    _check_form(emissions, mask, len(names), tags)
    if not mask.numel():
        return
    # each fault: [sentences, slots]
    faults = {
        "hole": torch.cat([mask.new_zeros(len(mask), 1), mask[:, 1:] & ~mask[:, :-1]], 1),
        "score": ~(emissions.detach() < torch.inf).all(-1) & mask,
    }
    if tags is not None:
        faults["tag"] = ((tags < 0) | (tags >= len(names))) & mask
        if forbidden is not None:
            known = tags.clamp(0, len(names) - 1)
            before = forbidden[1][known[:, :-1], known[:, 1:]]
            faults["transition"] = torch.cat([forbidden[0][known[:, :1]], before], 1) & mask
    found = [fault.any() for fault in faults.values()]
    if parameters:
        found.append(torch.cat([parameter.detach().flatten() for parameter in parameters]).isnan().any())
    flags = torch.stack(found).tolist()
    for name, flag in zip(faults, flags, strict=False):
        if flag:
            row, step = faults[name].nonzero()[0].tolist()
            raise _explain(name, row, step, emissions, tags, names)
    if flags[-1]:
        raise FloatingPointError("a parameter of the scorer is NaN; an earlier training step has diverged")


def _check_form(emissions: Tensor, mask: Tensor, labels: int, tags: Tensor | None) -> None:
    """Shapes and dtypes, which cost no wait."""
    if emissions.dim() != 3 or emissions.size(-1) != labels:
        raise ValueError(f"emissions must be [sentences, slots, {labels} labels], not {list(emissions.shape)}")
    if not emissions.is_floating_point():
        raise TypeError(f"emissions must be floating point, not {emissions.dtype}")
    for name, values, dtype in (("mask", mask, torch.bool), ("tags", tags, torch.int64)):
        if values is None:
            continue
        if values.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}, not {values.dtype}")
        if values.shape != emissions.shape[:2]:
            raise ValueError(
                f"{name} must be [sentences, slots] = {list(emissions.shape[:2])} as the emissions are, "
                f"not {list(values.shape)}"
            )


def _explain(
    fault: str, row: int, step: int, emissions: Tensor, tags: Tensor | None, names: Sequence[str]
) -> Exception:
    """The error for a fault found at this row and step."""
    if fault == "hole":
        return ValueError(
            f"the mask of row {row} has a hole before step {step}; "
            "the words of a row must be its first steps, without a gap"
        )
    if fault == "score":
        return FloatingPointError(
            f"the emissions of row {row}, step {step} hold NaN or +inf: {emissions[row, step].tolist()}; "
            "look for a learning rate too high, a float16 overflow or NaN in the features"
        )
    assert tags is not None
    tag = int(tags[row, step])
    if fault == "tag":
        return ValueError(
            f"tag {tag} at row {row}, step {step} is none of the {len(names)} labels "
            f"(0 to {len(names) - 1}); words without a label, such as -100, must be masked"
        )
    before = f"after {names[int(tags[row, step - 1])]}" if step else "at the start"
    return ValueError(
        f"row {row}, step {step}: {names[tag]} {before} is no BIO2, and the scorer forbids it; "
        "repair the tags (mnergraph.labels.fix_bio) or set constrain=False"
    )


def span_tag_ids(names: Sequence[str], span: tuple[int, int, str], length: int) -> tuple[list[int], int | None]:
    """The labels that spell a half-open span ``(start, end, type)``, and the label that would continue it.

    >>> spell(("O", "B-PER", "I-PER"), (3, 5, "PER"), 8)
    ([1, 2], 2)

    Raises:
        ValueError: the span leaves the sentence of ``length`` words, or no label spells it.
    """
    start, end, kind = span
    if not 0 <= start < end <= length:
        raise ValueError(f"span {start}:{end} ({kind}) does not fit a sentence of {length} words")
    wanted = [f"B-{kind}"] + [f"I-{kind}"] * (end - start - 1)
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise ValueError(f"no label {missing[0]} for span {start}:{end}; the labels are {', '.join(names)}")
    inside = names.index(f"I-{kind}") if f"I-{kind}" in names else None
    return [names.index(name) for name in wanted], inside


def check_lengths(spans: Sequence[object], mask: Tensor) -> None:
    """Refuse a list of spans that has not one entry per sentence."""
    if len(spans) != len(mask):
        raise ValueError(f"{len(spans)} lists of spans for {len(mask)} sentences")
