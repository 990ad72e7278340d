"""Colors, hatches and fonts that are distinguishable with any color vision and in black and white."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font

from mnergraph.labels import Entity

#: Okabe and Ito's colors (2008), distinguishable with any color vision, those first that contrast with white. In
#: black and white the hatches, markers and dashes differ.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")


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


#: Color map whose lightness increases with the value.
COLORMAP = "cividis"


#: Font families for characters that DejaVu Sans lacks, used where installed.
FALLBACKS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "WenQuanYi Zen Hei",
    "Noto Sans Devanagari",
    "Noto Sans Thai",
)


_MISSING, _CUT = "▯", "…"


def axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return the given axes and their figure, or those of a new figure of this size in inches.

    New figures are not registered with pyplot: no window, no state, nothing to close.
    """
    if ax is None:
        new = Figure(figsize=size, layout="constrained")
        return new, new.subplots()
    figure = ax.figure
    while isinstance(figure, SubFigure):
        figure = figure.figure
    return figure, ax


def panels(ax: Axes, rows: int, columns: int, *, gap: float = 0.06) -> list[list[Axes]]:
    """Return a grid of axes within axes, whose own frame is hidden; ``gap`` is a share of a panel."""
    ax.set_axis_off()
    width, height = 1 / (columns + gap * (columns - 1)), 1 / (rows + gap * (rows - 1))
    return [
        [
            ax.inset_axes((column * width * (1 + gap), 1 - height - row * height * (1 + gap), width, height))
            for column in range(columns)
        ]
        for row in range(rows)
    ]


def style_indices(names: Iterable[str]) -> dict[str, int]:
    """Return for every name an index into `COLORS`, `HATCHES`, `MARKERS` and `DASHES`, in alphabetical order."""
    return {name: index % len(COLORS) for index, name in enumerate(sorted(set(names)))}


def ellipsize(text: str, max_length: int = 24) -> str:
    """Return the text as one line of at most so many characters, with its middle left out.

    Control characters are removed; characters that no installed font has become a box.
    """
    line = " ".join(text.split())
    kept = [char for char in line if unicodedata.category(char) not in _INVISIBLE or _is_combining_vowel(char)]
    if len(kept) > max_length:
        before = (max_length - 1) * 2 // 3
        kept = [*kept[:before], _CUT, *kept[len(kept) - (max_length - 1 - before) :]]
    return "".join(char if ord(char) in _supported() else _MISSING for char in kept)


_INVISIBLE = ("Cc", "Cf", "Cs", "Co", "Mn")


def _is_combining_vowel(char: str) -> bool:
    """Whether a mark belongs to the script, as vowel signs do, and is no variation selector of an emoji."""
    return unicodedata.category(char) == "Mn" and not 0xFE00 <= ord(char) <= 0xFE0F


def text_arguments(text: str, max_length: int = 24) -> dict[str, Any]:
    """Return arguments of matplotlib's text functions that show the text literally, with ``$`` and ``_``."""
    return {"text": ellipsize(text, max_length), "parse_math": False, "fontfamily": families()}


def label_ticks(ax: Axes, axis: str, names: Sequence[str], *, max_length: int = 24, max_ticks: int = 48) -> None:
    """Set names as tick labels, the smaller the more there are.

    Args:
        ax: the axes.
        axis: ``"x"`` or ``"y"``.
        names: a name per tick.
        max_length: characters of a name.
        max_ticks: of more names only every second, third, ... is shown.
    """
    step = -(-len(names) // max_ticks) if names else 1
    ticks = list(range(0, len(names), step))
    size = 9 if len(ticks) <= 20 else 7 if len(ticks) <= 32 else 6
    turned = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if axis == "x" else {}
    getattr(ax, f"set_{axis}ticks")(ticks)
    getattr(ax, f"set_{axis}ticklabels")(
        [ellipsize(names[tick], max_length) for tick in ticks],
        parse_math=False,
        fontfamily=families(),
        fontsize=size,
        **turned,
    )


def text_width(text: str) -> float:
    """Return the approximate width of a text in units of the font size."""
    return sum(1.05 if unicodedata.east_asian_width(char) in "WF" else 0.62 for char in text)


def right_to_left(words: Iterable[str]) -> bool:
    """Return whether most letters of the words are of a script that is read from right to left."""
    directions = [unicodedata.bidirectional(char) for word in words for char in word]
    return sum(direction in ("R", "AL") for direction in directions) > directions.count("L")


def entity_label(entity: Entity, words: Sequence[str], max_length: int = 24) -> str:
    """Return an entity's words, type and probability as one text."""
    text = ellipsize(" ".join(words[entity.start : entity.end]), max_length)
    return f"{text} [{entity.type} {entity.score:.2f}]"


@cache
def families() -> list[str]:
    """Return DejaVu Sans, which comes with matplotlib, and those of `FALLBACKS` that are installed."""
    installed = {font.name for font in fontManager.ttflist}
    return ["DejaVu Sans", *(name for name in FALLBACKS if name in installed)]


@cache
def _supported() -> frozenset[int]:
    """The characters that these families have."""
    fonts = [get_font(findfont(FontProperties(family=[name]))) for name in families()]
    return frozenset(code for font in fonts for code in font.get_charmap())
