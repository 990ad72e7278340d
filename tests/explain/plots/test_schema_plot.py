"""Plots of schemas, tested by their elements."""

from __future__ import annotations

import io
from itertools import chain

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from PIL import Image

from mnergraph import LabelSet, tiny_encoder
from mnergraph.explain.plots import plot_schema
from mnergraph.explain.plots.schema import UNREACHABLE
from mnergraph.graph import Complete, Grounded, Relation, Schema, Windowed
from mnergraph.models import GEI, SCHEMAS
from mnergraph.models.gei.model import SCHEMA


def drawn(figure: Figure) -> tuple[list[str], list[FancyArrowPatch], list[str]]:
    """Texts, arrows and the legend's entries; warnings of missing glyphs and of layouts are errors here."""
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    assert (np.asarray(Image.open(file).convert("L")) < 128).any()
    (ax,) = figure.axes
    legend = ax.get_legend()
    return (
        [text.get_text() for text in ax.texts],
        [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)],
        [text.get_text() for text in legend.get_texts()] if legend else [],
    )


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_type_and_relation_is_there(name: str) -> None:
    schema = SCHEMAS[name]
    texts, arrows, legend = drawn(plot_schema(schema))
    between = [relation for relation in schema if relation.src != relation.dst]
    assert len(arrows) == len(between)
    assert {type(relation.rule).__name__ for relation in between} <= set(legend)
    lines = list(chain.from_iterable(text.split("\n") for text in texts))
    expected = [*schema.nodes, *(relation.name for relation in between)]
    loops = [relation for relation in schema if relation.src == relation.dst]
    expected += [f"↻ {relation.name} ({type(relation.rule).__name__})" for relation in loops]
    assert sorted(lines) == sorted(expected)


def test_unreachable_relations_and_names_with_dollar_signs() -> None:
    unreachable = Schema(
        [
            Relation("token", "$x_1$", "object", Grounded()),
            Relation("object", "again", "object", Complete()),
            Relation("token", "$x_1$", "token", Complete()),
        ]
    )
    texts, (arrow,), legend = drawn(plot_schema(unreachable))
    assert texts[1:] == ["object\n↻ again (Complete, cannot reach the tags)", "$x_1$"]
    assert texts[0] == "token\n↻ $x_1$ (Complete)"
    assert tuple(arrow.get_edgecolor()[:3]) == pytest.approx([int(UNREACHABLE[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    assert "cannot reach the tags" in legend


def test_into_axes_and_without_relations() -> None:
    figure = Figure(layout="constrained")
    ax = figure.subplots()
    assert plot_schema(Schema(), ax=ax) is figure
    assert drawn(figure) == (["token"], [], [])


def test_parallel_relations_have_different_curves() -> None:
    several = Schema([Relation("object", name, "token", Complete()) for name in ("one", "two", "three")])
    figure = plot_schema(several)
    texts, arrows, _ = drawn(figure)
    assert texts[2:] == ["one", "two", "three"]
    heights = [text.get_position()[1] for text in figure.axes[0].texts[2:]]
    assert len({round(height, 3) for height in heights}) == 3
    assert len({arrow.get_connectionstyle().rad for arrow in arrows}) == 3


def test_everything_is_inside_the_figure() -> None:
    """However many relations, however long the names."""
    several = [Relation("object", f"r{index}", "token", Windowed(index)) for index in range(5)]
    several += [Relation("token", f"b{index}", "object", Complete()) for index in range(4)]
    long = [Relation("a very long name of a node type", "and of a relation among them", "token", Complete())]
    for relations in (several, long):
        figure = plot_schema(Schema(relations))
        _, arrows, legend = drawn(figure)
        assert len(arrows) == len(relations)
        if relations is several:
            assert legend == ["Complete", *(f"Windowed({index})" for index in range(5))]
        (ax,) = figure.axes
        (left, right), (low, high) = ax.get_xlim(), ax.get_ylim()
        for text in ax.texts:
            box = text.get_window_extent().transformed(ax.transData.inverted())
            assert left <= box.x0 <= box.x1 <= right
            assert low <= box.y0 <= box.y1 <= high


def test_more_kinds_than_colours_are_named_on_the_arrows() -> None:
    many = Schema(Relation(f"type{index}", "updates", "token", Windowed(index)) for index in range(10))
    texts, arrows, legend = drawn(plot_schema(many))
    assert len(arrows) == 10
    assert not legend
    assert "updates\nWindowed(9)" in texts


def test_what_the_layers_create() -> None:
    encoder, labels = tiny_encoder(hidden_size=16, num_layers=1, heads=2), LabelSet.from_types(["PER"])
    model = GEI(encoder, labels, image_dim=4, region_dim=4, hidden_size=16, num_heads=2, num_layers=1)
    figure = plot_schema(model)
    texts, arrows, legend = drawn(figure)
    assert len(arrows) == 4 + 3
    assert texts.count("merged") == 2, "image and object become visual nodes"
    assert texts.count("pooled per span") == 1, "tokens become entities"
    assert "nodes created in the forward pass" in legend
    # every type has an arrow, and so no dashed frame; the schema alone does not know what becomes of the image
    assert dashed(figure) == []
    assert dashed(plot_schema(SCHEMA)) == ["image", "object"]


def dashed(figure: Figure) -> list[str]:
    frames = {text.get_text(): text.get_bbox_patch() for text in figure.axes[0].texts}
    return sorted(name for name, frame in frames.items() if frame is not None and frame.get_linestyle() == "--")
