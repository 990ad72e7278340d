"""Plots of graphs, tested by their elements: what is drawn, and that nothing crosses the text."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations, pairwise
from pathlib import Path

import networkx as nx
import numpy as np
import pytest
from fakes import post
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from odd_images import noise

from mnergraph.explain import attention_graph, record_attention, to_networkx
from mnergraph.explain.plots import plot_graph
from mnergraph.explain.plots.graph import relation_looks
from mnergraph.explain.plots.graph_layout import spread
from mnergraph.explain.plots.style import MissingFontWarning, ellipsize, right_to_left
from mnergraph.labels import Entity
from mnergraph.models import UMGF
from mnergraph.pair import Pair

ENTITIES = [Entity(0, 2, "PER", 0.91), Entity(3, 4, "LOC", 0.4)]


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    noise(120, 90).save(tmp_path / "1.png")
    return replace(post(6, 3, boxes=1.0, seed=4), image_path=tmp_path / "1.png", size=(120, 90))


@pytest.fixture
def graph(umgf: Callable[[], UMGF], pair: Pair) -> nx.MultiDiGraph:
    return of(umgf(), pair)


def of(model: UMGF, pair: Pair, entities: list[Entity] = ENTITIES) -> nx.MultiDiGraph:
    with record_attention(model) as record:
        model.predict([pair])
    return to_networkx(model.builder(pair), model.schema, record=record.posts[0], entities=entities)


def arrows(figure: Figure) -> list[FancyArrowPatch]:
    return [patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)]


def texts(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def crossings(figure: Figure, words: set[str]) -> list[tuple[str, int]]:
    """The words and thumbnails that an arrow crosses, by samples along each arrow."""
    figure.savefig(io.BytesIO(), dpi=50)
    (ax,) = figure.axes
    boxes = [(text.get_text(), text.get_window_extent()) for text in ax.texts if text.get_text() in words]
    boxes += [("a thumbnail", image.get_window_extent()) for image in ax.images]
    found = []
    for number, arrow in enumerate(arrows(figure)):
        path = arrow.get_transform().transform_path(arrow.get_path())
        for line in path.to_polygons(closed_only=False):
            ends = np.asarray(line)
            points = np.concatenate([np.linspace(a, b, 12) for a, b in pairwise(ends)])
            for name, box in boxes:
                inside = (points > (box.x0 + 0.5, box.y0 + 0.5)) & (points < (box.x1 - 0.5, box.y1 - 0.5))
                if inside.all(1).any():
                    found.append((name, number))
    return found


def test_graph(graph: nx.MultiDiGraph, pair: Pair) -> None:
    figure = plot_graph(graph, top_k=2)
    (ax,) = figure.axes
    assert len(arrows(figure)) == 2 * 4, "two among words, two among objects, and two in each direction between them"
    assert {"PER 0.91", "LOC 0.40"} <= set(texts(figure))
    assert len(ax.images) == 3
    # words are from left to right, objects below them
    words = [text for text in ax.texts if text.get_text() in pair.words]
    assert [text.get_position()[0] for text in words] == sorted(text.get_position()[0] for text in words)
    only = plot_graph(graph, top_k=1, relations=["guides"], layer="5", head=0)
    assert len(arrows(only)) == 2
    assert any(text.startswith("Weights: layer 5, head 0.") for text in texts(only))
    with pytest.raises(ValueError, match=r"no weights of layer .99.; the graph has"):
        plot_graph(graph, layer="99")
    with pytest.raises(ValueError, match=r"no weights of nonsense; the graph has weights of attends, guides"):
        plot_graph(graph, relations=["nonsense"])


def test_the_key_says_how_strong_and_how_many(graph: nx.MultiDiGraph) -> None:
    figure = plot_graph(graph, top_k=2)
    rows = [text for text in texts(figure) if "→" in text]
    by_relation: dict[str, list[float]] = {}
    for src, dst, edge in graph.edges(data=True):
        if edge.get("weight", 0) > 0 and src != dst:
            name = f"{src.split()[0]} → {dst.split()[0]} ({edge['relation']})"
            by_relation.setdefault(name, []).append(edge["weight"])
    assert rows == [f"{name}: 2 strongest of {len(by_relation[name])} edges" for name in sorted(by_relation)]
    weights = by_relation["object → token (guides)"]
    at = texts(figure).index(rows[1])
    highest = max(weights)
    assert texts(figure)[at - 3 : at] == [f"{highest * share:.2f}" for share in (1 / 3, 2 / 3, 1)]
    # widths grow from zero with the weight
    samples = [line.get_linewidth() for line in figure.axes[0].lines[3:6]]
    assert samples[2] - samples[1] == pytest.approx(samples[1] - samples[0])
    few = plot_graph(graph, top_k=2, relations=["guides"])
    guides = sorted(weights)[-2:]
    assert {f"{weight:.2f}" for weight in guides} <= set(texts(few)), "few arrows have their weights printed"


def test_a_relation_has_one_color(graph: nx.MultiDiGraph, umgf: Callable[[], UMGF], pair: Pair) -> None:
    def colors(figure: Figure) -> set[tuple[float, ...]]:
        return {tuple(arrow.get_edgecolor()[:3]) for arrow in arrows(figure)}

    every = colors(plot_graph(graph, top_k=1))
    assert len(every) == 4, "words' and objects' attends differ, as do the two directions"
    assert colors(plot_graph(graph, top_k=1, relations=["attends"])) < every
    looks = relation_looks(graph)
    without = relation_looks(of(umgf(), pair.without_image()))
    assert without == looks, "a post without objects changes nothing"
    assert len(set(looks.values())) == len(looks)


WORDS = {
    "rows": ("Thousands", "march", "through", "Paris", "and", "WWWWW", "i") * 8,
    "long": ("Donaudampfschifffahrtsgesellschaftskapitän" * 3, "$5", "_x^", "東京", "\u200b", "\x07") * 9,
    "right to left": ("شكرا", "محمد", "صلاح") * 12,
    "one word": ("x",),
}


@pytest.mark.parametrize("name", WORDS)
@pytest.mark.parametrize("objects", [0, 3, 40])
@pytest.mark.filterwarnings("ignore::mnergraph.explain.plots.style.MissingFontWarning")
def test_arrows_cross_neither_words_nor_thumbnails(
    umgf: Callable[[], UMGF], pair: Pair, name: str, objects: int
) -> None:
    words = WORDS[name]
    items = tuple(replace(item, span=None) for item in (pair.objects * 14)[:objects])
    unusual = replace(pair, words=words, labels=None, objects=items, entities=())
    marked = [Entity(2, 5, "PER", 0.91), Entity(9, 10, "an unusually long type", 0.4)] if len(words) > 9 else []
    figure = plot_graph(of(umgf(), unusual, marked))
    shown = {ellipsize(word) for word in words} | {"PER 0.91"}
    assert crossings(figure, shown) == []
    assert len(arrows(figure)) >= (5 if len(words) > 1 or objects > 1 else 0)
    assert len(figure.axes[0].images) <= max(16, len(arrows(figure)) * 2)
    first = [text for text in figure.axes[0].texts if text.get_text() == ellipsize(words[0])]
    assert len(first) == words.count(words[0]) or objects == 0
    if right_to_left(words):
        assert first[0].get_position()[0] > first[1].get_position()[0]
    labels = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text().strip()]
    numbers = [text.get_window_extent() for text in figure.axes[0].texts if text.get_bbox_patch() is not None]
    assert not any(one.overlaps(other) for one, other in combinations(numbers, 2))
    inside = figure.bbox
    assert all(inside.x0 <= box.x0 and box.x1 <= inside.x1 + 1 for box in labels)


def test_the_crossings_are_noticed(graph: nx.MultiDiGraph, pair: Pair) -> None:
    figure = plot_graph(graph)
    (ax,) = figure.axes
    ax.add_patch(FancyArrowPatch((0, 0.1), (3, 3)))
    ax.add_patch(FancyArrowPatch((0, 2.2), (4, 2.2)))
    assert crossings(figure, set(pair.words))


def test_many_objects_without_edges_are_left_out(umgf: Callable[[], UMGF], pair: Pair) -> None:
    items = tuple(replace(item, span=None) for item in (pair.objects * 24)[:72])
    graph = of(umgf(), replace(pair, objects=items, entities=()))
    figure = plot_graph(graph, top_k=3, max_objects=10)
    count = len(figure.axes[0].images)
    assert count < 20
    assert f"{72 - count} of 72 objects, which no drawn edge touches, are left out." in texts(figure)


def test_objects_are_near_their_words() -> None:
    """Two objects, each joined to one word; the first to the last word."""
    graph = nx.MultiDiGraph()
    for index in range(8):
        graph.add_node(f"token {index}", type="token", index=index, word=f"word{index}")
    for index, word in ((0, 7), (1, 0)):
        graph.add_node(f"object {index}", type="object", index=index, label=f"o{index}")
        graph.add_edge(f"object {index}", f"token {word}", "guides", relation="guides", attention={"1": [0.5]})
    figure = plot_graph(graph)
    at = {text.get_text(): text.get_position()[0] for text in figure.axes[0].texts}
    assert at["o0"] == pytest.approx(at["word7"], abs=0.5)
    assert at["o1"] == pytest.approx(at["word0"], abs=0.5)


def test_boxes_are_as_near_to_their_places_as_can_be() -> None:
    assert spread([1, 5], [1, 1], 10) == [0.5, 4.5]
    left, right = spread([5, 5], [1, 1], 10, gap=0.5)
    assert right - left == 1.5
    assert (left + right + 1) / 2 == 5, "moved by the same distance"
    assert spread([-3, 99], [1, 1], 10) == [0, 9], "inside the row"


def test_focus(graph: nx.MultiDiGraph, pair: Pair, umgf: Callable[[], UMGF]) -> None:
    figure = plot_graph(graph, top_k=2, focus=3)
    expected = [edge for *ends, edge in graph.edges("token 3", data=True) if edge["relation"] == "guides"]
    assert f"token → object (guides): all {len(expected)} edges" in texts(figure)
    assert "token → token (attends): 2 strongest of 10 edges" in texts(figure)
    weights = {text.get_text(): text.get_fontweight() for text in figure.axes[0].texts}
    assert [word for word in pair.words if weights[word] == "bold"] == [pair.words[3]]
    pale = [text.get_text() for text in figure.axes[0].texts if (text.get_alpha() or 1) < 0.5]
    assert set(pale) & set(pair.words)
    assert pair.words[3] not in pale
    assert len(arrows(figure)) == len([text for text in figure.axes[0].texts if text.get_bbox_patch() is not None])
    by_name = plot_graph(graph, focus="object 1", relations=["guides"])
    joined = [edge for edge in graph.in_edges("object 1", data=True) if edge[2]["relation"] == "guides"]
    assert len(arrows(by_name)) == 2 * min(5, len(joined)) > 0
    for wrong in (6, (2, 9), (3, 3), -1):
        with pytest.raises(ValueError, match="of a post of 6, which count from 0"):
            plot_graph(graph, focus=wrong)
    with pytest.raises(ValueError, match="no node 'object 9' in the graph; give a name such as 'token 0'"):
        plot_graph(graph, focus="object 9")


def test_without_weights(umgf: Callable[[], UMGF], pair: Pair) -> None:
    figure = plot_graph(to_networkx(umgf().builder(pair)))
    assert not arrows(figure)
    assert "No weights along an edge of this post are recorded." in texts(figure)


def test_into_given_axes(graph: nx.MultiDiGraph, pair: Pair) -> None:
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, _ = figure.subplots(1, 2)
    assert plot_graph(graph, ax=left) is figure
    assert crossings_in(left, figure, set(pair.words)) == 0


def crossings_in(ax: object, figure: Figure, words: set[str]) -> int:
    figure.savefig(io.BytesIO(), dpi=50)
    extents = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text() in words]
    return sum(one.overlaps(other) for one, other in combinations(extents, 2))


def test_a_script_without_font(graph: nx.MultiDiGraph) -> None:
    renamed = graph.copy()
    renamed.nodes["token 0"]["word"] = "\U00012000"
    with pytest.warns(MissingFontWarning, match="Cuneiform"):
        figure = plot_graph(renamed)
    assert "▯" in texts(figure)


def test_the_graph_of_a_model(umgf: Callable[[], UMGF], pair: Pair) -> None:
    figure = plot_graph(attention_graph(umgf(), pair))
    figure.savefig(io.BytesIO())
