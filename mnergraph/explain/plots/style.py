"""Colors, hatches and fonts that are distinguishable with any color vision and in black and white."""

from __future__ import annotations

import io
import textwrap
import unicodedata
import warnings
import zlib
from collections.abc import Iterable, Sequence
from functools import cache, lru_cache
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findfont, fontManager, get_font
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath

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


#: Background where there is no image, and color of notes.
EMPTY, QUIET = "#f0f0f0", "#555555"


#: Color map whose lightness increases with the value.
COLORMAP = "cividis"


#: Of `COLORS`, those on which white text is more legible than black text.
DARK = ("#0072B2", "#D55E00", "#009E73", "#000000")


#: Colors of the usual entity types, the same in every plot; further types get theirs by their name.
TYPE_COLORS = {"PER": 0, "LOC": 2, "ORG": 1, "MISC": 3, "OTHER": 3}


#: Font families for characters that DejaVu Sans lacks, by the script's name in Unicode; used where installed. Those
#: of macOS and Windows come after those of Linux.
FALLBACKS = {
    "CJK": (
        "Noto Sans CJK SC",
        "Noto Sans CJK JP",
        "Noto Sans SC",
        "Source Han Sans SC",
        "WenQuanYi Zen Hei",
        "WenQuanYi Micro Hei",
        "Droid Sans Fallback",
        "PingFang SC",
        "Hiragino Sans GB",
        "Microsoft YaHei",
        "SimHei",
        "Arial Unicode MS",
    ),
    "KANA": ("Noto Sans CJK JP", "Noto Sans JP", "IPAGothic", "Hiragino Sans", "Yu Gothic", "WenQuanYi Zen Hei"),
    "HANGUL": ("Noto Sans CJK KR", "Noto Sans KR", "NanumGothic", "Apple SD Gothic Neo", "Malgun Gothic"),
    "DEVANAGARI": ("Noto Sans Devanagari", "Lohit Devanagari", "Kohinoor Devanagari", "Nirmala UI"),
    "THAI": ("Noto Sans Thai", "Loma", "Thonburi", "Leelawadee UI"),
    "SYMBOLS": ("Symbola", "Noto Emoji", "Noto Sans Symbols 2", "Segoe UI Symbol"),
}

#: The Debian package to install for a script; for all others `_PACKAGE`, which has the families "Noto Sans ...".
PACKAGES = {
    "CJK": "fonts-noto-cjk",
    "KANA": "fonts-noto-cjk",
    "HANGUL": "fonts-noto-cjk",
    "SYMBOLS": "fonts-symbola",
}
_PACKAGE = "fonts-noto-core"


class MissingFontWarning(UserWarning):
    """No installed font has the characters of a script; they are drawn as boxes."""


_MISSING, _CUT = "▯", "…"


class NotebookFigure(Figure):
    """A figure that notebooks show.

    They show pyplot's figures as pictures, and those of matplotlib alone, which pyplot does not have, as text.
    """

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, format="png")
        return file.getvalue()


def axes(ax: Axes | None, size: tuple[float, float]) -> tuple[Figure, Axes]:
    """Return the given axes and their figure, or those of a new figure of this size in inches.

    New figures are not registered with pyplot: no window, no state, nothing to close.
    """
    if ax is None:
        new = NotebookFigure(figsize=size, layout="constrained")
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


def empty_state(ax: Axes | None, text: str) -> Figure:
    """Return a figure that says why there is nothing to draw."""
    figure, ax = axes(ax, (5.0, 1.4))
    ax.set(xlim=(0, 1), ylim=(0, 1))
    ax.set_axis_off()
    ax.add_patch(Rectangle((0, 0), 1, 1, facecolor=EMPTY, edgecolor="none"))
    arguments = text_arguments(text, 200)
    shown = textwrap.fill(arguments.pop("text"), 60)
    ax.text(0.5, 0.5, s=shown, ha="center", va="center", color=QUIET, fontsize=9, **arguments)
    return figure


def style_indices(names: Iterable[str]) -> dict[str, int]:
    """Return for every name an index into `COLORS`, `HATCHES`, `MARKERS` and `DASHES`, in alphabetical order."""
    return {name: index % len(COLORS) for index, name in enumerate(sorted(set(names)))}


def stable_index(name: str, count: int) -> int:
    """Return an index below ``count`` that depends on the name alone."""
    return zlib.crc32(name.encode("utf-8", "replace")) % count


def type_color(name: str) -> str:
    """Return the color of an entity type, which depends on its name alone."""
    # yellow is too light for outlines
    return COLORS[TYPE_COLORS[name] if name in TYPE_COLORS else (4, 5, 7)[stable_index(name, 3)]]


def ellipsize(text: str, max_length: int = 24) -> str:
    """Return the text as one line of at most so many characters, with its middle left out.

    Control characters are removed; characters that no installed font has become a box, and a `MissingFontWarning`
    says once for every script what to install.
    """
    line = " ".join(text.split())
    kept = [char for char in line if unicodedata.category(char) not in _INVISIBLE or _is_combining_vowel(char)]
    if len(kept) > max_length:
        before = (max_length - 1) * 2 // 3
        kept = [*kept[:before], _CUT, *kept[len(kept) - (max_length - 1 - before) :]]
    return "".join(char if _has_font(char) else _MISSING for char in kept)


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


@lru_cache(maxsize=4096)
def fit_text(text: str, inches: float, points: float, *, max_length: int = 40) -> str:
    """Return the text, its middle left out where it is wider than so many inches; at least two characters.

    Args:
        text: the text.
        inches: the width that it may have.
        points: font size.
        max_length: the most characters.
    """
    for length in range(max_length, 2, -1):
        short = ellipsize(text, length)
        if text_inches(short, points) <= inches:
            return short
    return ellipsize(text, 2)


def text_inches(text: str, points: float, weight: str = "normal") -> float:
    """Return the width of a text of `ellipsize` in inches, measured in the fonts that draw it.

    Args:
        text: the text.
        points: font size.
        weight: ``"normal"`` or ``"bold"``.
    """
    if not text:
        return 0.0
    font = FontProperties(family=families(), size=points, weight=weight)
    width, _, _ = _MEASURE.get_text_width_height_descent(text, font, ismath=False)
    return float(width) / 72


_MEASURE = TextToPath()


def weight_text(value: float) -> str:
    """Return a weight with two or three decimals, in scientific notation where these would show nothing.

    >>> weight_text(0.3456), weight_text(0.0345), weight_text(0.0000345)
    ('0.35', '0.035', '3e-05')
    """
    if value >= 0.0995 or value == 0:
        return f"{value:.2f}"
    return f"{value:.3f}" if value >= 0.0005 else f"{value:.0e}"


def right_to_left(words: Iterable[str]) -> bool:
    """Return whether most letters of the words are of a script that is read from right to left."""
    directions = [unicodedata.bidirectional(char) for word in words for char in word]
    return sum(direction in ("R", "AL") for direction in directions) > directions.count("L")


def entity_label(entity: Entity, words: Sequence[str], max_length: int = 24) -> str:
    """Return an entity's words, type and probability as one text."""
    text = ellipsize(" ".join(words[entity.start : entity.end]), max_length)
    return f"{text} [{entity.type} {entity.score:.2f}]"


def families() -> list[str]:
    """Return DejaVu Sans, which comes with matplotlib, and the families of the scripts that were drawn so far."""
    return list(_FAMILIES)


_FAMILIES = ["DejaVu Sans"]


@cache
def _characters(family: str) -> frozenset[int]:
    """The characters of an installed font family; none of one that is not installed."""
    if family != "DejaVu Sans" and family not in {font.name for font in fontManager.ttflist}:
        return frozenset()
    return frozenset(get_font(findfont(FontProperties(family=[family]))).get_charmap())


def _has_font(char: str) -> bool:
    """Whether a family has the character; the first installed one that does is then among `families`."""
    if any(ord(char) in _characters(family) for family in _FAMILIES):
        return True
    script = _script(char)
    for family in FALLBACKS.get(script, (f"Noto Sans {script.title()}",)):
        if ord(char) in _characters(family):
            _FAMILIES.append(family)
            return True
    _warn_of_missing(script, char)
    return False


def _script(char: str) -> str:
    """The character's script as the first word of its Unicode name."""
    name = unicodedata.name(char, "")
    if unicodedata.category(char)[0] in "SP" and not name.startswith(("CJK", "FULLWIDTH", "IDEOGRAPHIC")):
        return "SYMBOLS"
    first = name.partition(" ")[0] or "unnamed characters"
    if first in ("HIRAGANA", "KATAKANA", "HALFWIDTH"):
        return "KANA"
    return "CJK" if first in ("CJK", "FULLWIDTH", "IDEOGRAPHIC", "BOPOMOFO") else first


def _warn_of_missing(script: str, char: str) -> None:
    if script in _WARNED:
        return
    _WARNED.add(script)
    known = FALLBACKS.get(script, (f"Noto Sans {script.title()}",))
    name = {"CJK": "Chinese characters", "KANA": "Hiragana and Katakana", "SYMBOLS": "some symbols or emoji"}
    warnings.warn(
        f"no installed font has {name.get(script, script.title())}, such as U+{ord(char):04X}; they are drawn as "
        f"{_MISSING}. Install the font {known[0]!r} (Debian package {PACKAGES.get(script, _PACKAGE)}) and start "
        "Python again",
        MissingFontWarning,
        stacklevel=2,
    )


_WARNED: set[str] = set()
