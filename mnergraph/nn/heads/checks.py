"""Input validation of tag decoders, and the label ids of a span.

Values are tested on their device and the results copied at once, so that a call synchronizes with a GPU only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

#: Labels forbidden at the first step ``[labels]``, and forbidden transitions ``[labels, labels]`` (from, to), bool.
Forbidden = tuple[Tensor, Tensor]


def check_inputs(
    emissions: Tensor,
    mask: Tensor,
    names: Sequence[str],
    tags: Tensor | None = None,
    *,
    parameters: Sequence[Tensor] = (),
    forbidden: Forbidden | None = None,
) -> None:
    """Validate inputs and name the first invalid position. Padding is ignored.

    Args:
        emissions: ``[posts, max tokens, labels]``, floating point.
        mask: ``[posts, max tokens]``, bool; True at the first tokens of each row, and only there.
        names: the labels' names, in order.
        tags: ``[posts, max tokens]``, int64.
        parameters: weights that must not be NaN.
        forbidden: labels and transitions that ``tags`` may not contain.

    Raises:
        TypeError: for a wrong dtype.
        ValueError: for a wrong shape, mask, tag or transition.
        FloatingPointError: for a score that is NaN or plus infinity, or a parameter that is NaN.
    """
    _check_shapes(emissions, mask, len(names), tags)
    if not mask.numel():
        return
    # [posts, max tokens] each
    faults = {
        "gap": torch.cat([mask.new_zeros(len(mask), 1), mask[:, 1:] & ~mask[:, :-1]], 1),
        "score": ~(emissions.detach() < torch.inf).all(-1) & mask,
    }
    if tags is not None:
        faults["tag"] = ((tags < 0) | (tags >= len(names))) & mask
        if forbidden is not None:
            valid = tags.clamp(0, len(names) - 1)
            transitions = forbidden[1][valid[:, :-1], valid[:, 1:]]
            faults["transition"] = torch.cat([forbidden[0][valid[:, :1]], transitions], 1) & mask
    has_fault = [fault.any() for fault in faults.values()]
    if parameters:
        has_fault.append(torch.cat([parameter.detach().flatten() for parameter in parameters]).isnan().any())
    flags = torch.stack(has_fault).tolist()
    for name, flag in zip(faults, flags, strict=False):
        if flag:
            row, step = faults[name].nonzero()[0].tolist()
            raise _fault_error(name, row, step, emissions, tags, names)
    if flags[-1]:
        raise FloatingPointError("a parameter of the decoder is NaN; an earlier training step has diverged")


def _check_shapes(emissions: Tensor, mask: Tensor, labels: int, tags: Tensor | None) -> None:
    """Check shapes and dtypes, which needs no synchronization."""
    if emissions.dim() != 3 or emissions.size(-1) != labels:
        raise ValueError(f"emissions must be [posts, max tokens, {labels} labels], not {list(emissions.shape)}")
    if not emissions.is_floating_point():
        raise TypeError(f"emissions must be floating point, not {emissions.dtype}")
    for name, values, dtype in (("mask", mask, torch.bool), ("tags", tags, torch.int64)):
        if values is None:
            continue
        if values.dtype != dtype:
            raise TypeError(f"{name} must be {dtype}, not {values.dtype}")
        if values.shape != emissions.shape[:2]:
            raise ValueError(
                f"{name} must be [posts, max tokens] = {list(emissions.shape[:2])} as the emissions are, "
                f"not {list(values.shape)}"
            )


def _fault_error(
    fault: str, row: int, step: int, emissions: Tensor, tags: Tensor | None, names: Sequence[str]
) -> Exception:
    """Return the error for a fault at this row and step."""
    if fault == "gap":
        return ValueError(
            f"the mask of row {row} has a gap before step {step}; the tokens of a row must be its first steps"
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
            f"(0 to {len(names) - 1}); tokens without a label, such as -100, must be masked"
        )
    before = f"after {names[int(tags[row, step - 1])]}" if step else "at the start"
    return ValueError(
        f"row {row}, step {step}: {names[tag]} {before} is not valid BIO2, and the decoder forbids it; "
        "repair the tags (mnergraph.labels.fix_bio) or set constrain=False"
    )


class SpanTags(NamedTuple):
    """The label ids that mark a span of one type.

    Attributes:
        first: of ``B-T``, which begins it in any place; None for a label set without one.
        inside: of ``I-T``, which continues it, and begins it where no ``B-T`` or ``I-T`` is before; None without one.
    """

    first: int | None
    inside: int | None


def span_tags(names: Sequence[str], span: tuple[int, int, str], length: int) -> SpanTags:
    """Return the label ids that mark a span, as `mnergraph.labels.tags_to_spans` reads tags.

    >>> span_tags(("O", "B-PER", "I-PER"), (3, 5, "PER"), 8)
    SpanTags(first=1, inside=2)

    Args:
        names: the labels' names, in order.
        span: first token, end (exclusive) and entity type.
        length: number of tokens of the post.

    Raises:
        ValueError: for a span outside the post, or without a label for its type.
    """
    start, end, entity_type = span
    if not 0 <= start < end <= length:
        raise ValueError(f"span {start}:{end} ({entity_type}) does not fit a post of {length} tokens")
    first, inside = (names.index(tag) if tag in names else None for tag in (f"B-{entity_type}", f"I-{entity_type}"))
    if inside is None and (first is None or end - start > 1):
        missing = f"{'B' if first is None else 'I'}-{entity_type}"
        raise ValueError(f"no label {missing} for span {start}:{end}; the labels are {', '.join(names)}")
    return SpanTags(first, inside)


def check_lengths(spans: Sequence[object], mask: Tensor) -> None:
    """Raise ValueError unless there is one list of spans per post."""
    if len(spans) != len(mask):
        raise ValueError(f"{len(spans)} lists of spans for {len(mask)} posts")
