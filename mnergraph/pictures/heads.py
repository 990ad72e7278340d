"""Layers and heads side by side."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mnergraph.graph import EdgeType
from mnergraph.insight import PostRecord, Weights
from mnergraph.pictures.style import SCALE, axes, label_ticks, names_of, panels


def draw_heads(
    record: PostRecord, relation: EdgeType, *, layer: str | None = None, ax: Axes | None = None
) -> Figure:
    """Layers and heads side by side along one relation: a row for each layer, a panel for each head.

    In a panel rows are receivers and columns senders; all panels share one scale. Gates are one head.

    Args:
        record: what was weighed in the post.
        relation: which relation.
        layer: the one layer to draw; by default all that weigh it.
        ax: axes to draw into; a new figure without.

    Raises:
        KeyError: when nothing was weighed along the relation.
    """
    found = record.along(relation, layer=layer)
    columns = max(one.weights.shape[1] for one in found)
    senders, receivers = (_node_names(record, relation[side]) for side in (0, 2))
    side = min(3.2, max(1.5, 0.13 * max(len(senders), len(receivers))))
    figure, ax = axes(ax, (1.9 + columns * side, 1.4 + len(found) * (side + 0.3)))
    every = panels(ax, len(found), columns, gap=0.14)
    most = max((float(one.weights.max()) for one in found if one.weights.numel()), default=1.0)
    image = None
    for row, one in zip(every, found, strict=True):
        for head, panel in enumerate(row):
            if head >= one.weights.shape[1]:
                panel.set_axis_off()
                continue
            image = _panel(panel, one, head, most)
            names = (senders if row is every[-1] else [], receivers if head == 0 else [])
            for axis, written in zip("xy", names, strict=True):
                label_ticks(panel, axis, written, most=14, at_most=int(side / 0.12))
    if image is not None:
        figure.colorbar(image, ax=ax, label=found[0].what, shrink=0.8, pad=0.02)
    return figure


def _panel(panel: Axes, one: Weights, head: int, most: float) -> AxesImage:
    panel.set_title(f"layer {one.layer}, head {head}", fontsize=8)
    return panel.imshow(one.matrix()[head].numpy(), cmap=SCALE, vmin=0, vmax=most, aspect="auto")


def _node_names(record: PostRecord, kind: str) -> list[str]:
    pair = record.pair
    if kind == "token":
        return [pair.words[word] if word >= 0 else "–" for word in record.word.tolist()]
    if kind == "object":
        return names_of(pair.objects)
    if kind == "entity":
        return [" ".join(pair.words[slice(*span)]) for span in record.spans()]
    return [f"{kind} {place}" for place in range(record.nodes[kind])]
