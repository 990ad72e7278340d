"""Tag schemes of other corpora, converted to BIO2 and back.

- ``BIO2`` (IOB2): every entity begins with ``B-``.
- ``IOB1`` (CoNLL-2003 as distributed): ``B-`` only where an entity follows another of its type at once, else ``I-``.
- ``BIOES`` (IOBES): ``E-`` ends an entity of several words, ``S-`` is one of a single word.
- ``BILOU``: the same with ``L-`` and ``U-``.
- ``BMES``: as BIOES, with ``M-`` in the place of ``I-``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from mnergraph.labels import OUTSIDE, is_tag, tags_to_spans
from mnergraph.quoting import quoted

#: The schemes by name.
Scheme = Literal["BIO2", "IOB1", "BIOES", "BILOU", "BMES"]
#: Of each scheme the prefix that begins, continues, ends and is a whole entity.
_PREFIXES: dict[str, tuple[str, str, str, str]] = {
    "BIO2": ("B", "I", "I", "B"),
    "IOB1": ("B", "I", "I", "B"),
    "BIOES": ("B", "I", "E", "S"),
    "BILOU": ("B", "I", "L", "U"),
    "BMES": ("B", "M", "E", "S"),
}


class TagSchemeError(ValueError):
    """A tag that is not of its scheme."""


@dataclass
class TagConversion:
    """What `to_bio2` changed.

    Attributes:
        scheme: the scheme that tags were converted from.
        sentences: the number of sentences.
        changed: how many tags got another prefix, by old and new prefix.
        opened: tags that continue no entity and so begin one.
        unclosed: entities whose end has no tag of an end, in schemes that have one.
    """

    scheme: Scheme
    sentences: int = 0
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    opened: int = 0
    unclosed: int = 0

    def __str__(self) -> str:
        """One line on what was converted."""
        changes = ", ".join(f"{count:,} {old}- to {new}-" for (old, new), count in sorted(self.changed.items()))
        faults = [f"{self.opened:,} tags that continue no entity begin one"] * bool(self.opened)
        faults += [f"{self.unclosed:,} entities have no tag of an end"] * bool(self.unclosed)
        return f"tags of {self.scheme} converted to BIO2: {'; '.join([changes or 'no tag differs', *faults])}"


def detect_scheme(sentences: Iterable[Sequence[str]]) -> Scheme:
    """Return the scheme of tagged sentences.

    Among B, I and O tags it is IOB1 where ``I-`` begins entities and ``B-`` never does but behind one of its type;
    else BIO2, in which an ``I-`` that continues nothing is a fault.

    Raises:
        TagSchemeError: for prefixes of no scheme, or of two.
    """
    prefixes: Counter[str] = Counter()
    opening_inside = opening_begin = 0
    for tags in sentences:
        before = OUTSIDE
        for tag in tags:
            if tag != OUTSIDE:
                prefix, dash, entity_type = tag.partition("-")
                if not dash or not entity_type:
                    raise TagSchemeError(f"{quoted(tag)} is no tag; right is O, or a prefix such as B, '-' and a type")
                prefixes[prefix] += 1
                follows = before.partition("-")[2] == entity_type
                opening_inside += prefix == "I" and not follows
                opening_begin += prefix == "B" and not follows
            before = tag
    found = set(prefixes)
    if found <= {"B", "I"}:
        return "IOB1" if opening_inside and not opening_begin else "BIO2"
    for scheme in ("BIOES", "BILOU", "BMES"):
        if found <= set(_PREFIXES[scheme]):
            return scheme
    raise TagSchemeError(
        f"prefixes {', '.join(sorted(map(quoted, found)))} are of no one scheme; there is "
        + ", ".join(f"{name} ({', '.join(dict.fromkeys(_PREFIXES[name]))})" for name in get_args(Scheme))
    )


def to_bio2(tags: Sequence[str], conversion: TagConversion) -> list[str]:
    """Return a sentence's tags in BIO2.

    Tags that are BIO2 already stay as they are. Elsewhere a tag that continues no entity begins one, as in
    `mnergraph.labels.tags_to_spans`.

    Args:
        tags: the tags of one sentence.
        conversion: names the scheme, and counts what is changed.

    Raises:
        TagSchemeError: for a tag of another scheme.
    """
    begin, inside, end, single = _PREFIXES[conversion.scheme]
    conversion.sentences += 1
    converted: list[str] = []
    open_type: str | None = None  # of the entity that the next tag may continue
    ends = end != inside
    for tag in tags:
        prefix, dash, entity_type = tag.partition("-")
        if tag == OUTSIDE:
            conversion.unclosed += ends and open_type is not None
            converted.append(tag)
            open_type = None
            continue
        if not dash or not entity_type or prefix not in (begin, inside, end, single):
            raise TagSchemeError(
                f"{quoted(tag)} is no tag of {conversion.scheme}; right is O, or one of "
                f"{', '.join(dict.fromkeys((begin, inside, end, single)))}, '-' and a type"
            )
        continues = open_type == entity_type and prefix in (inside, end)
        if conversion.scheme == "BIO2":
            continues = prefix == inside
        conversion.unclosed += ends and open_type is not None and not continues
        if not continues and prefix in (inside, end) and conversion.scheme != "IOB1":
            conversion.opened += 1
        new = "I" if continues else "B"
        if new != prefix:
            conversion.changed[prefix, new] += 1
        converted.append(f"{new}-{entity_type}")
        open_type = None if ends and prefix in (end, single) else entity_type
    conversion.unclosed += ends and open_type is not None
    return converted


def from_bio2(tags: Sequence[str], scheme: Scheme) -> list[str]:
    """Return a sentence's BIO2 tags in another scheme.

    Raises:
        TagSchemeError: for a tag that is not BIO2.
    """
    for tag in tags:
        if not is_tag(tag):
            raise TagSchemeError(f"{quoted(tag)} is no tag of BIO2; right is O, B-TYPE or I-TYPE")
    if scheme == "BIO2":
        return list(tags)
    begin, inside, end, single = _PREFIXES[scheme]
    converted = [OUTSIDE] * len(tags)
    before = None
    for span in tags_to_spans(tags):
        prefixes = [begin, *[inside] * (len(range(*span[:2])) - 2), end] if span.end - span.start > 1 else [single]
        if scheme == "IOB1" and (before is None or before[1:] != (span.start, span.type)):
            prefixes = [inside] * len(prefixes)
        converted[span.start : span.end] = [f"{prefix}-{span.type}" for prefix in prefixes]
        before = span
    return converted
