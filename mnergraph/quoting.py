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


def listed(names: Sequence[object]) -> str:
    """Return names in a row, the first ones and how many more there are.

    >>> listed(range(8))
    '0, 1, 2, 3, 4 and 3 more'
    """
    more = f" and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return ", ".join(quoted(name) for name in names[:MAX_NAMES]) + more
