"""Random posts for round trips through the formats of annotation tools."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st

from mnergraph.labels import spans_to_tags
from mnergraph.pair import GroundedEntity, Pair

#: Words that are hard on offsets: emoji with joiners and skin tones, combining marks, right to left, links, CJK.
WORDS = (
    "Kawhi", "wins", "#NBA", "@BBC", "http://t.co/x1", ":-)", "don't", "10,000", "AT&T", "...",
    "\U0001f469\U0001f3fd\u200d\U0001f692", "🇫🇷", "💩", "e\u0301te\u0301", "n\u0303", "القاهرة", "ירושלים", "東京",
    "नई", "a\u200bb", "\u00adx", "ﬁ", "𝔘𝔫𝔦",
)  # fmt: skip
GAPS = (" ", "  ", "\n", " \t ", "\u00a0", "")
TYPES = ("PER", "LOC", "person-actor_x", "MISC")
SIZE = (640, 480)


@st.composite
def posts(draw: st.DrawFn, *, grounded: bool = False, plain: bool = False) -> Pair:
    """Posts with labels, with text or, ``plain``, words alone; with boxes where these are asked for."""
    chosen = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=8))
    if plain:
        pair = Pair.from_words([word for word in chosen if not any(c.isspace() for c in word)], id="p")
    else:
        gaps = draw(st.lists(st.sampled_from(GAPS), min_size=len(chosen) + 1, max_size=len(chosen) + 1))
        pair = Pair.from_text(gaps[0] + "".join(w + g for w, g in zip(chosen, gaps[1:], strict=True)), id="p")
    ends = sorted(draw(st.sets(st.integers(0, len(pair.words)), max_size=6)))
    spans = [(start, end, draw(st.sampled_from(TYPES))) for start, end in zip(ends[::2], ends[1::2], strict=False)]
    pair = replace(pair, labels=tuple(spans_to_tags(spans, len(pair.words))))
    if not grounded:
        return pair
    boxes = st.lists(_box(), max_size=2, unique=True).map(tuple)
    entities = tuple(GroundedEntity(*span, draw(boxes)) for span in spans)
    return replace(pair, grounding=entities, size=SIZE)


@st.composite
def _box(draw: st.DrawFn) -> tuple[float, float, float, float]:
    xs = sorted(draw(st.sets(st.integers(0, SIZE[0] * 8), min_size=2, max_size=2)))
    ys = sorted(draw(st.sets(st.integers(0, SIZE[1] * 8), min_size=2, max_size=2)))
    return xs[0] / 8, ys[0] / 8, xs[1] / 8, ys[1] / 8


def numbered(pairs: list[Pair]) -> list[Pair]:
    """Return the posts with ids of their own."""
    return [replace(pair, id=f"post-{number}") for number, pair in enumerate(pairs)]


def content(pair: Pair) -> tuple[object, ...]:
    """Return what a round trip keeps."""
    return pair.id, pair.text, pair.words, pair.word_offsets, pair.labels
