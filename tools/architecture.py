"""Draws the figure of the architecture, docs/drawn/architecture.png.

uv run python -m tools.architecture
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch

OUT = Path(__file__).parents[1] / "docs" / "drawn" / "architecture.png"
INK, QUIET, FILL = "#1f2933", "#52606d", "#f5f7fa"
#: Okabe and Ito's colors, which color-blind readers can tell apart.
TOKEN, OBJECT, IMAGE, ENTITY = "#0072B2", "#E69F00", "#009E73", "#CC79A7"
#: Title, package, lines of text, left edge; boxes are WIDTH wide.
STAGES = (
    ("Pair", "mnergraph.pair", ("words, image,", "objects, caption"), 0.0),
    ("Graph", "mnergraph.graph", ("schema, edge rules", "HeteroData, batch"), 2.5),
    ("Features", "mnergraph.features", ("text encoder, image", "extractors, stores"), 5.0),
    ("Layers", "mnergraph.nn", ("operators", "(x_src, x_dst, edges)"), 7.5),
    ("Heads", "mnergraph.nn.heads", ("CRF, span detection,", "label per post"), 10.0),
    ("Entities", "mnergraph.inference", ("type, span, score,", "supporting box"), 12.5),
)
WIDTH, HEIGHT, LEVEL = 2.0, 2.75, 1.55


def _box(ax: Axes, x: float, y: float, width: float, height: float, color: str = FILL) -> None:
    shape = "round,pad=0,rounding_size=0.12"
    ax.add_patch(FancyBboxPatch((x, y), width, height, boxstyle=shape, facecolor=color, edgecolor=QUIET, linewidth=1))


def _arrow(
    ax: Axes, start: tuple[float, float], end: tuple[float, float], color: str = INK, width: float = 1.5
) -> None:
    ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=8 + 4 * width, color=color, lw=width))


def _nodes(ax: Axes, x: float, y: float, *, filled: bool, messages: bool) -> None:
    """Three tokens above two objects and an image, with the edges between them."""
    tokens = [(x + 0.45 + 0.55 * i, y + 0.8) for i in range(3)]
    others = [(x + 0.45 + 0.55 * i, y) for i in range(3)]
    for i, j in ((0, 0), (0, 1), (1, 1), (2, 2)):
        (x0, y0), (x1, y1) = others[i], tokens[j]
        if messages:
            _arrow(ax, (x0, y0 + 0.17), (x1, y1 - 0.17), QUIET, 0.9)
        else:
            ax.plot([x0, x1], [y0, y1], color=QUIET, lw=1, zorder=1)
    for (x0, y0), (x1, _) in pairwise(tokens):
        ax.plot([x0, x1], [y0, y0], color=QUIET, lw=1, zorder=1)
    for center, color in zip([*tokens, *others], [TOKEN] * 3 + [OBJECT] * 2 + [IMAGE], strict=True):
        face = color if filled else "white"
        ax.add_patch(Circle(center, 0.15, facecolor=face, edgecolor=color, linewidth=1.8, zorder=2))


def _pair(ax: Axes, x: float, y: float) -> None:
    for i, word in enumerate(("Kawhi", "wins", "again")):
        ax.text(x + 1, y + 1.0 - 0.22 * i, word, color=TOKEN, ha="center", va="center", fontsize=9, weight="bold")
    ax.add_patch(FancyBboxPatch((x + 0.6, y - 0.2), 0.8, 0.48, boxstyle="round,pad=0", fc="#d9f0e6", ec=IMAGE, lw=1.3))
    for left in (0.68, 1.05):
        ax.add_patch(
            FancyBboxPatch((x + left, y - 0.12), 0.25, 0.3, boxstyle="square,pad=0", fc="none", ec=OBJECT, lw=1.6)
        )


def _scores(ax: Axes, x: float, y: float) -> None:
    for row, tag in enumerate(("B-PER", "O", "O")):
        top = y + 0.85 - 0.4 * row
        ax.text(x + 0.28, top, tag, color=INK, ha="left", va="center", fontsize=8, family="monospace")
        for column, height in enumerate(((0.26, 0.08, 0.06), (0.05, 0.1, 0.24), (0.07, 0.05, 0.27))[row]):
            left = x + 1.08 + 0.22 * column
            ax.add_patch(
                FancyBboxPatch((left, top - 0.13), 0.15, height, boxstyle="square,pad=0", fc=ENTITY, ec="none")
            )


def _entities(ax: Axes, x: float, y: float) -> None:
    ax.add_patch(
        FancyBboxPatch((x + 0.42, y + 0.35), 1.16, 0.34, boxstyle="round,pad=0,rounding_size=0.1", fc=ENTITY, ec="none")
    )
    ax.text(x + 1, y + 0.52, "Kawhi PER", color="white", ha="center", va="center", fontsize=9, weight="bold")
    ax.text(x + 1, y + 0.12, "0.97", color=INK, ha="center", va="center", fontsize=9)


def _band(ax: Axes, x: float, width: float, y: float, title: str, text: str) -> None:
    _box(ax, x, y, width, 0.78, "white")
    ax.text(x + width / 2, y + 0.52, title, ha="center", va="center", fontsize=10, family="monospace", color=INK)
    ax.text(x + width / 2, y + 0.23, text, ha="center", va="center", fontsize=9, color=QUIET)


def draw() -> Figure:
    """Return the figure: the road from a pair to its entities, the packages around it."""
    figure = Figure(figsize=(14.5, 5.25), layout="constrained", facecolor="white")
    ax = figure.add_subplot()
    ax.set(xlim=(-0.15, 14.65), ylim=(0.15, 5.5), aspect="equal")
    ax.axis("off")
    pictures = (
        _pair,
        lambda ax, x, y: _nodes(ax, x, y, filled=False, messages=False),
        lambda ax, x, y: _nodes(ax, x, y, filled=True, messages=False),
        lambda ax, x, y: _nodes(ax, x, y, filled=True, messages=True),
        _scores,
        _entities,
    )
    for (title, package, lines, x), picture in zip(STAGES, pictures, strict=True):
        _box(ax, x, LEVEL, WIDTH, HEIGHT)
        ax.text(x + 1, LEVEL + HEIGHT - 0.27, title, ha="center", va="center", fontsize=13, weight="bold", color=INK)
        ax.text(
            x + 1, LEVEL + HEIGHT - 0.55, package, ha="center", va="center", fontsize=8, family="monospace", color=QUIET
        )
        picture(ax, x, LEVEL + 0.9)
        ax.text(x + 1, LEVEL + 0.33, "\n".join(lines), ha="center", va="center", fontsize=9, color=INK)
        if x:
            _arrow(ax, (x - 0.46, LEVEL + HEIGHT / 2), (x - 0.04, LEVEL + HEIGHT / 2))
    _band(ax, 0, 2.0, 4.62, "mnergraph.data", "files and data sets")
    _arrow(ax, (1.0, 4.6), (1.0, LEVEL + HEIGHT + 0.04))
    _band(ax, 2.5, 9.5, 4.62, "mnergraph.models", "a published system = a schema and a stack of layers with heads")
    _band(ax, 0, 4.5, 0.3, "mnergraph.training, .metrics", "fit, resume, evaluate; F1 and significance")
    _band(ax, 5.0, 4.5, 0.3, "mnergraph.explain", "attention, occlusion, networkx, plots, report")
    _band(ax, 10.0, 4.5, 0.3, "mnergraph.cli", "train, evaluate, predict, explain, features")
    legend = (("token", TOKEN), ("object", OBJECT), ("image", IMAGE))
    for i, (name, color) in enumerate(legend):
        ax.add_patch(Circle((12.75, 5.24 - 0.26 * i), 0.09, color=color))
        ax.text(12.95, 5.24 - 0.26 * i, name, va="center", fontsize=9, color=INK)
    return figure


if __name__ == "__main__":
    draw().savefig(OUT, dpi=110)
    print(OUT.name, OUT.stat().st_size // 1000, "kB")
