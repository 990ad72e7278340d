"""Values of a user's file in messages, at most so long that a terminal shows them."""

from __future__ import annotations

from collections.abc import Sequence

#: Characters of a value, and names of a list, that a message has.
MAX_CHARACTERS, MAX_NAMES = 200, 5


def quoted(value: object) -> str:
    """Return a value as Python writes it, its end replaced by dots where it is long.

    >>> quoted("a" * 1000).count("a")
    197
    """
    text = repr(value) if not isinstance(value, str) else repr(value[: 2 * MAX_CHARACTERS])
    if len(text) <= MAX_CHARACTERS:
        return text
    return f"{text[: MAX_CHARACTERS - 2]}..."


def listed(names: Sequence[object], total: int | None = None) -> str:
    """Return names in a row, the first ones and how many more there are.

    Args:
        names: the names, or the first ones.
        total: their number, where these are the first ones.

    >>> listed(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    total = len(names) if total is None else total
    more = f" and {total - MAX_NAMES} more" if total > MAX_NAMES else ""
    return ", ".join(quoted(name) for name in names[:MAX_NAMES]) + more
