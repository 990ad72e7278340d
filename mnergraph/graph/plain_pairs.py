"""A pair as plain values of a graph: text and lists of text, which any program reads without this package."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from mnergraph.pair import Pair

#: The attributes of a graph that stand for its pair: post id, words, tags or None, and all else as JSON.
PLAIN_NAMES = ("id", "words", "labels", "evidence")


def plain_values(pair: Pair) -> dict[str, Any]:
    """Return a pair as plain values by the names of `PLAIN_NAMES`; `pair_from_plain` is the inverse.

    ``evidence`` is JSON of the other fields, as `Pair.to_dict` has them: the image's path and size, objects, caption,
    context, spans of entities, gold boxes and source. Tensors are not among them, as they are in the node stores.

    Warns:
        UserWarning: for entries of ``extra`` that are not JSON, which are left out.
    """
    fields = pair.to_dict()
    lost = sorted(pair.extra.keys() - fields.get("extra", {}).keys())
    if lost:
        warnings.warn(
            f"{', '.join(map(repr, lost))} of the posts' extra data is not JSON and is left out of their graphs' plain "
            "values: nodes have what they were built from, but heads and NodeType.describe can't read it",
            stacklevel=2,
        )
    rest = {name: value for name, value in fields.items() if name not in PLAIN_NAMES}
    return {
        "id": str(pair.id),
        "words": list(map(str, pair.words)),
        "labels": None if pair.labels is None else list(map(str, pair.labels)),
        "evidence": json.dumps(rest, default=_number),
    }


def pair_from_plain(values: Mapping[str, Any]) -> Pair:
    """Return the pair of `plain_values`.

    Raises:
        KeyError: when one of the values is missing, such as one that a loader's ``exclude_keys`` names.
    """
    fields = {name: values[name] for name in PLAIN_NAMES}
    return Pair.from_dict(json.loads(fields.pop("evidence")) | fields)


def _number(value: Any) -> Any:
    """A number of numpy or torch as Python's own."""
    try:
        return value.item()
    except AttributeError:
        raise TypeError(f"a {type(value).__name__} is not JSON") from None
