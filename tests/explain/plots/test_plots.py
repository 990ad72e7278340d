"""Plots, tested by their elements."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import post
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from odd_images import noise
from PIL import Image, ImageColor

from mnergraph.explain import PairRecord, attention_graph, record_attention, to_networkx
from mnergraph.explain.plots import (
    plot_attention_heads,
    plot_entity_object_attention,
    plot_f1_by_type,
    plot_graph,
    plot_grounding,
    plot_image_attention,
    plot_training_curves,
    plot_type_confusion,
)
from mnergraph.explain.plots.scores import read_log
from mnergraph.explain.plots.style import COLORS, ellipsize, right_to_left
from mnergraph.labels import Entity, Region
from mnergraph.models import UMGF
from mnergraph.pair import GroundedEntity, Pair

GUIDES = ("object", "guides", "token")
ENTITIES = [Entity(0, 2, "PER", 0.91), Entity(3, 4, "LOC", 0.4)]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    noise(120, 90).save(tmp_path / "1.png")
    return replace(post(6, 3, boxes=1.0, seed=4), image_path=tmp_path / "1.png", size=(120, 90))


def recorded(model: UMGF, pair: Pair) -> PairRecord:
    with record_attention(model) as record:
        model.predict([pair])
    return record.posts[0]


def pixels(figure: Figure) -> np.ndarray:
    """The figure as it is drawn: warnings of missing glyphs and of layouts are errors here."""
    file = io.BytesIO()
    figure.savefig(file, dpi=40)
    assert not _pylab_helpers.Gcf.figs, "not registered with pyplot"
    drawn = np.asarray(Image.open(file).convert("L"))
    assert (drawn < 128).mean() > 0.002
    return drawn


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for ax in every(figure) for text in ax.texts]


def every(figure: Figure) -> list[Any]:
    return [one for ax in figure.axes for one in (ax, *ax.child_axes)]


# --- the graph -------------------------------------------------------------------------------------------


def test_graph(umgf: Callable[[], UMGF], pair: Pair) -> None:
    model = umgf()
    graph = to_networkx(model.builder(pair), model.schema, record=recorded(model, pair), entities=ENTITIES)
    figure = plot_graph(graph, top_k=2)
    pixels(figure)
    (ax,) = figure.axes
    arrows = [patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]
    legend = ax.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["attends", "guides"]
    assert len(arrows) == 2 * 4, "two among words, two among objects, and two in each direction between them"
    assert {"PER 0.91", "LOC 0.40"} <= set(texts(figure))
    assert len(ax.images) == 3
    # words stand from left to right, objects beneath them
    words = [text for text in ax.texts if text.get_text() in pair.words]
    assert [text.get_position()[0] for text in words] == sorted(text.get_position()[0] for text in words)
    only = plot_graph(graph, top_k=1, relations=["guides"], layer="5", head=0)
    assert len([patch for patch in only.axes[0].patches if isinstance(patch, FancyArrowPatch)]) == 2
    with pytest.raises(ValueError, match=r"no weights of layer .99.; the graph has"):
        plot_graph(graph, layer="99")
    with pytest.raises(ValueError, match=r"no weights of nonsense; the graph has weights of attends, guides"):
        plot_graph(graph, relations=["nonsense"])


@pytest.mark.parametrize(
    "words",
    [
        ("Donaudampfschifffahrtsgesellschaftskapitän" * 3, "$5", "_x^", "😀", "東京", "\u200b", "\x07") * 9,
        ("شكرا", "محمد", "صلاح") * 12,
        ("x",),
    ],
    ids=["long", "right to left", "one word"],
)
def test_any_text_and_many_objects(umgf: Callable[[], UMGF], pair: Pair, words: tuple[str, ...]) -> None:
    items = (pair.objects * 14)[:40]
    items = tuple(replace(item, span=None) for item in items)
    model, unusual = umgf(), replace(pair, words=words, labels=None, objects=items, entities=())
    figure = plot_graph(attention_graph(model, unusual))
    pixels(figure)
    assert len(figure.axes[0].images) == 40
    pixels(plot_entity_object_attention(recorded(model, unusual), [Entity(0, 1, "PER", 0.5)]))
    shown = [text for text in figure.axes[0].texts if text.get_text() == ellipsize(words[0])]
    assert len(shown) == words.count(words[0])
    if right_to_left(words):
        assert shown[0].get_position()[0] > shown[1].get_position()[0]


def test_ellipsize() -> None:
    assert ellipsize("a\n b\tc") == "a b c"
    assert ellipsize("abcdefghij", max_length=7) == "abcd…ij"
    assert ellipsize("\U000f0000x") == "x"
    assert ellipsize("שלום $5 _") == "שלום $5 _"
    assert "▯" in ellipsize("\U00013000"), "hieroglyphs are in no font of ours"
    assert right_to_left(["abc", "محمد صلاح"])
    assert not right_to_left(["abc", "12"])


def test_colours_differ_in_lightness_from_white() -> None:
    for colour in COLORS[:4]:
        red, green, blue = ImageColor.getrgb(colour)
        assert 0.299 * red + 0.587 * green + 0.114 * blue < 170


# --- attention -------------------------------------------------------------------------------------------


def test_heat_map_shows_the_attention(umgf: Callable[[], UMGF], pair: Pair) -> None:
    record = recorded(umgf(), pair)
    figure = plot_entity_object_attention(record, ENTITIES)
    pixels(figure)
    shown = np.asarray(figure.axes[0].images[0].get_array())
    for row, entity in zip(shown, ENTITIES, strict=True):
        attention = record.attention_to((entity.start, entity.end))
        assert attention is not None
        np.testing.assert_allclose(row, attention.numpy())
    with pytest.raises(ValueError, match="there is no entity to draw"):
        plot_entity_object_attention(record, [])
    with pytest.raises(ValueError, match="no weights are recorded between"):
        plot_entity_object_attention(recorded(umgf(), pair.without_image()), ENTITIES)


def test_image_has_a_panel_for_every_entity(umgf: Callable[[], UMGF], pair: Pair) -> None:
    record = recorded(umgf(), pair)
    figure = plot_image_attention(record, ENTITIES)
    pixels(figure)
    titles = [ax.get_title() for ax in every(figure) if ax.images]
    assert titles[0] == "boxes"
    assert [title.rpartition(" [")[2] for title in titles[1:]] == ["PER 0.91]", "LOC 0.40]"]
    with pytest.raises(ValueError, match="has no image to draw"):
        plot_image_attention(recorded(umgf(), pair.without_image()), ENTITIES)


def test_heads_side_by_side_in_given_axes(umgf: Callable[[], UMGF], pair: Pair) -> None:
    record, figure = recorded(umgf(), pair), Figure(figsize=(6, 6))
    ax = figure.subplots()
    assert plot_attention_heads(record, ("token", "attends", "token"), ax=ax) is figure
    shown = [panel for panel in every(figure) if panel.images and panel.get_title()]
    assert [panel.get_title() for panel in shown][:2] == ["layer 4, head 0", "layer 4, head 1"]
    assert len(shown) == sum(w.weights.shape[1] for w in record.select(("token", "attends", "token")))
    first = record.select(("token", "attends", "token"))[0].matrix()[0]
    np.testing.assert_allclose(np.asarray(shown[0].images[0].get_array()), first.numpy())
    with pytest.raises(KeyError, match="no weights along"):
        plot_attention_heads(record, ("object", "nonsense", "token"))


# --- scores ----------------------------------------------------------------------------------------------


def test_curves_of_a_resumed_run(tmp_path: Path) -> None:
    for version, rows in ((0, ["0.5,,0,,9", ",0,0,3.5,0", ",,0,2.5,5"]), (10, ["0.6,,1,,19", ",,1,1.5,12"])):
        folder = tmp_path / "logs" / f"version_{version}"
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text("dev_f1,lr,epoch,loss,step\n" + "\n".join(rows) + "\n")
    logged = read_log(tmp_path)
    assert logged["loss"] == ([0, 5, 12], [3.5, 2.5, 1.5])
    assert logged["dev_f1"] == ([9, 19], [0.5, 0.6])
    figure = plot_training_curves({"UMGF": tmp_path})
    pixels(figure)
    assert list(figure.axes[1].get_lines()[0].get_ydata()) == [50, 60]
    with pytest.raises(FileNotFoundError, match=r"has no logs/version_\*/metrics.csv"):
        plot_training_curves({"none": tmp_path / "none"})


def test_confusion_of_types() -> None:
    gold = [["B-PER", "I-PER", "O", "B-LOC"], ["B-LOC", "O"]]
    predicted = [["B-LOC", "I-LOC", "O", "B-LOC"], ["O", "B-PER"]]
    figure = plot_type_confusion(gold, predicted)
    pixels(figure)
    # rows are gold: LOC, PER, none
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    with pytest.raises(ValueError, match="no entity"):
        plot_type_confusion([["O"]], [["O"]])


def test_bars_by_type(tmp_path: Path) -> None:
    runs = {
        str(seed): {"test": {"lenient_by_type": {"PER": {"f1": value}, "LOC": {"f1": 0.5}}}}
        for seed, value in enumerate((0.7, 0.8, 0.9))
    }
    (tmp_path / "many.json").write_text(json.dumps({"seeds": runs}))
    (tmp_path / "one.json").write_text(json.dumps({"scores": runs["0"]}))
    (tmp_path / "none.json").write_text("{}")
    figure = plot_f1_by_type({"A": tmp_path / "many.json", "B": tmp_path / "one.json"})
    pixels(figure)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert heights == pytest.approx([50, 80, 50, 70])
    assert len({bar.get_hatch() for bar in figure.axes[0].patches}) == 2
    legend = figure.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["A (3 seeds)", "B (1 seed)"]
    with pytest.raises(ValueError, match="has no scores by type on test"):
        plot_f1_by_type({"C": tmp_path / "none.json"})


def test_plot_of_grounded_entities(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30), "gray").save(tmp_path / "1.png")
    gold = (GroundedEntity(0, 1, "PER", ((1, 1, 10, 20), (5, 5, 9, 9))), GroundedEntity(1, 2, "LOC"))
    found = [
        Entity(0, 1, "PER", 0.9, Region(0.8, 0, (2, 2, 10, 20), "man")),
        Entity(1, 2, "LOC", 0.7, Region(0.6)),
        Entity(2, 3, "LOC", 0.7),
    ]
    pair = Pair(("$Ann", "Rome", "x"), size=(80, 60), image_path=tmp_path / "1.png", grounding=gold)
    figure = plot_grounding(pair, found, title="post 1")
    [ax] = figure.axes
    boxes = [patch.get_bbox().bounds for patch in ax.patches[1::2]]  # each above a wider white one
    # the image has half the size that the boxes are of
    assert boxes == [(0.5, 0.5, 4.5, 9.5), (2.5, 2.5, 2.0, 2.0), (1.0, 1.0, 4.0, 9.0)]
    assert [text.get_text() for text in ax.texts] == ["$Ann PER 0.80"]
    assert ax.get_title() == "post 1\nnot in the image: Rome [LOC 0.70] 0.60\ndashed: gold"
    without = plot_grounding(replace(pair, image_path=None), found, gold=False)
    assert without.axes[0].get_title() == "not in the image: Rome [LOC 0.70] 0.60"
    (tmp_path / "1.png").write_bytes(b"no image")
    for empty in (plot_grounding(replace(pair, grounding=None)), plot_grounding(Pair(("a",)))):
        assert [text.get_text() for text in empty.axes[0].texts] == ["no entity is shown in the image"]
        empty.savefig(io.BytesIO())
