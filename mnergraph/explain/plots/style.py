"""Colours, hatches and text that every reader can tell apart and read."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from mnergraph.labels import Entity
from mnergraph.pair import DetectedObject

#: Okabe and Ito's colours (2008), which readers with any kind of colour vision tell apart, those first that
#: stand out from white. In black and white hatches, markers and dashes tell things apart.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


HATCHES = ("", "///", "...", "xxx", "\\\\\\", "++", "oo", "---")


MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


DASHES: tuple[Any, ...] = (
    "-",
    "--",
    ":",
    "-.",
    (0, (6, 1, 1, 1, 1, 1)),
    (0, (1, 3)),
    (0, (8, 3)),
    (0, (3, 5)),
)


#: From little to much: lightness alone tells the order.
SCALE = "cividis"


#: Families that draw what DejaVu Sans does not have, where they are installed.
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


_MISSING, _CUT = "▯", "…"


def axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """The axes given and their figure, or those of a new figure of this size in inches.

    New figures are pyplot's neighbours, not its children: no window, no state, nothing to close.
    """
    if ax is None:
        figure = Figure(figsize=size, layout="constrained")
        return figure, figure.subplots()
    found = ax.figure
    while isinstance(found, SubFigure):
        found = found.figure
    return found, ax


def panels(ax: Axes, rows: int, columns: int, *, gap: float = 0.06) -> list[list[Axes]]:
    """A grid of axes within axes, whose own frame vanishes; ``gap`` is a share of a panel."""
    ax.set_axis_off()
    width, height = 1 / (columns + gap * (columns - 1)), 1 / (rows + gap * (rows - 1))
    return [
        [
            ax.inset_axes((column * width * (1 + gap), 1 - height - row * height * (1 + gap), width, height))
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def styles(names: Iterable[str]) -> dict[str, int]:
    """The place of every name, sorted, in `COLOURS`, `HATCHES`, `MARKERS` and `DASHES`."""
    return {name: place % len(COLOURS) for place, name in enumerate(sorted(set(names)))}


def ellipsize(text: str, most: int = 24) -> str:
    """The text as one line of at most so many characters, its middle left out.

    Control characters vanish; characters that no installed font draws become a box.
    """
    line = " ".join(text.split())
    kept = [sign for sign in line if unicodedata.category(sign) not in ("Cc", "Cf", "Cs", "Co", "Mn") or _joins(sign)]
    if len(kept) > most:
        before = (most - 1) * 2 // 3
        kept = [*kept[:before], _CUT, *kept[len(kept) - (most - 1 - before) :]]
    return "".join(sign if ord(sign) in _drawn() else _MISSING for sign in kept)


def _joins(sign: str) -> bool:
    """Whether a mark belongs to the writing, as vowel signs do; emoji's variation selectors don't."""
    return unicodedata.category(sign) == "Mn" and not 0xFE00 <= ord(sign) <= 0xFE0F


def write(text: str, most: int = 24) -> dict[str, Any]:
    """Arguments of matplotlib's texts that show this text as it is: ``$`` and ``_`` are no mathematics."""
    return {"text": ellipsize(text, most), "parse_math": False, "fontfamily": families()}


def label_ticks(ax: Axes, axis: str, names: Sequence[str], *, most: int = 24, at_most: int = 48) -> None:
    """Names on an axis, as small as their number asks for; of more than ``at_most`` some are left out."""
    step = -(-len(names) // at_most) if names else 1
    places = list(range(0, len(names), step))
    size = 9 if len(places) <= 20 else 7 if len(places) <= 32 else 6
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if axis == "x" else {}
    getattr(ax, f"set_{axis}ticks")(places)
    getattr(ax, f"set_{axis}ticklabels")(
        [ellipsize(names[place], most) for place in places],
        parse_math=False,
        fontfamily=families(),
        fontsize=size,
        **turned,
    )


def text_width(text: str) -> float:
    """About how wide a text is, in the font's size."""
    return sum(1.05 if unicodedata.east_asian_width(sign) in "WF" else 0.62 for sign in text)


def right_to_left(words: Iterable[str]) -> bool:
    """Whether most letters of the words are of a script that is read from right to left."""
    kinds = [unicodedata.bidirectional(sign) for word in words for sign in word]
    return sum(kind in ("R", "AL") for kind in kinds) > kinds.count("L")


def entity_label(entity: Entity, words: Sequence[str], most: int = 24) -> str:
    """An entity's words, its type and how sure the model is."""
    text = ellipsize(" ".join(words[entity.start : entity.end]), most)
    return f"{text} [{entity.type} {entity.score:.2f}]"


def names_of(objects: Sequence[DetectedObject]) -> list[str]:
    """What objects are called; those that nobody names are numbered, and so are those called alike."""
    labels = [thing.label or "object" for thing in objects]
    return [
        f"{label} {place}" if labels.count(label) > 1 or not thing.label else label
        for place, (label, thing) in enumerate(zip(labels, objects, strict=True))
    ]


@cache
def families() -> list[str]:
    """DejaVu Sans, which comes with matplotlib, and those of `FALLBACKS` that are installed."""
    there = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in there)]


@cache
def _drawn() -> frozenset[int]:
    """The characters that these families draw."""
    fonts = [get_font(findfont(FontProperties(family=[name]))) for name in families()]
    return frozenset(code for font in fonts for code in font.get_charmap())
