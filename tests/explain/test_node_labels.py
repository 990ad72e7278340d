"""Node types of your own in records, networkx graphs, plots and reports."""

from __future__ import annotations

import base64
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hashtags import GUIDES, TOPICS, Hashtags, with_hashtags
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from torch_geometric.data import HeteroData

from mnergraph.explain import AttentionRecord, attention_graph, record_attention
from mnergraph.explain.plots import plot_attention_heads, plot_entity_object_attention, plot_graph
from mnergraph.explain.plots.graph_layout import layout_nodes
from mnergraph.explain.report import report_data
from mnergraph.labels import Entity
from mnergraph.pair import DetectedObject, Pair

TAGGED = Pair(
    ("Ann", "#Lee", "loves", "#Paris", "#in-the-rain"), id="1", objects=(DetectedObject("hat"), DetectedObject("tower"))
)
PLAIN = Pair(("Ann", "wins"), id="2", objects=(DetectedObject("cup"),))
LABELS = ("#Lee", "#Paris", "#in-the-rain")
ENTITIES = [Entity(0, 2, "PER", 0.9), Entity(3, 4, "LOC", 0.5)]


class Unnamed(Hashtags):
    """Hashtags without labels."""

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        return [{} for _ in range(data["hashtag"].num_nodes)]


class Miscounted(Hashtags):
    """Hashtags with one description too many."""

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        return [*super().describe(data), {}]


def recorded(hashtags: Hashtags | None = None) -> AttentionRecord:
    model = with_hashtags(hashtags)
    with record_attention(model) as record:
        model.predict([PLAIN, TAGGED])
    return record


def test_records_have_the_labels_of_each_post(tmp_path: Path) -> None:
    record = recorded()
    record.save(tmp_path / "record")
    for posts in (record.posts, AttentionRecord.load(tmp_path / "record").posts):
        assert [post.labels for post in posts] == [{"hashtag": ()}, {"hashtag": LABELS}]
        assert posts[1].node_names("hashtag") == list(LABELS)
        assert posts[1].node_names("object") == ["hat", "tower"]
    (weights,) = record.posts[1].select(TOPICS)
    attention = record.posts[1].attention_to((0, 2), "hashtag")
    assert attention is not None
    torch.testing.assert_close(attention, weights.matrix()[:, :2].mean((0, 1)))
    assert recorded(Unnamed()).posts[1].node_names("hashtag") == ["hashtag 0", "hashtag 1", "hashtag 2"]


def test_a_wrong_number_of_descriptions() -> None:
    with pytest.raises(ValueError, match=r"Miscounted.describe returned 1 dicts for 0 'hashtag' nodes"):
        recorded(Miscounted())


class Reserved(Hashtags):
    """Hashtags whose description has a name that every node of a networkx graph has."""

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        return [{**node, "type": "topic"} for node in super().describe(data)]


def test_reserved_names() -> None:
    with pytest.raises(ValueError, match=r"Reserved.describe returned type, which networkx graphs have for every node"):
        attention_graph(with_hashtags(Reserved()), TAGGED)


def test_graphs_and_their_plots_have_labels() -> None:
    graph = attention_graph(with_hashtags(), TAGGED)
    assert [graph.nodes[f"hashtag {index}"]["label"] for index in range(3)] == list(LABELS)
    figure = plot_graph(graph, top_k=2)
    figure.canvas.draw()
    (ax,) = figure.axes
    texts = {text.get_text(): text.get_position()[1] for text in ax.texts}
    assert {*LABELS, "hashtag", "hat", "tower"} <= texts.keys()
    # words are above the objects, and these above the hashtags; the y axis points down
    assert texts["loves"] < texts["hat"] < texts["hashtag"]
    assert len([patch for patch in ax.patches if isinstance(patch, FancyArrowPatch)]) == 4
    layout = layout_nodes(graph, [])
    boxes = [layout.boxes[f"hashtag {index}"] for index in range(3)]
    assert boxes[0].y == boxes[1].y == boxes[2].y > layout.boxes["object 0"].y + layout.boxes["object 0"].height
    assert all(left.x + left.width < right.x for left, right in pairwise(boxes))
    assert boxes[2].width > boxes[0].width, "as wide as the label"


def test_many_and_long_labels_stay_inside() -> None:
    words = tuple(f"#{index}{'x' * (index % 40)}" for index in range(60))
    graph = attention_graph(with_hashtags(), Pair(words, objects=(DetectedObject("hat"),)))
    layout = layout_nodes(graph, [])
    boxes = [layout.boxes[f"hashtag {index}"] for index in range(60)]
    assert min(box.x for box in boxes) >= 0
    assert max(box.x + box.width for box in boxes) <= layout.width
    assert max(box.y + box.height for box in boxes) <= layout.height
    assert len({box.y for box in boxes}) > 1
    plot_graph(graph).canvas.draw()


def test_nodes_without_labels_are_drawn_where_an_edge_is() -> None:
    graph = attention_graph(with_hashtags(Unnamed()), TAGGED)
    (ax,) = plot_graph(graph, top_k=100).axes
    assert {f"hashtag {index}" for index in range(3)} <= {text.get_text() for text in ax.texts}


def ticks(figure: Figure, axis: str) -> list[str]:
    every = [panel for ax in figure.axes for panel in (ax, *ax.child_axes)]
    return [label.get_text() for ax in every if ax.images for label in getattr(ax, f"get_{axis}ticklabels")()]


def test_attention_plots_have_labels() -> None:
    record = recorded().posts[1]
    heads = plot_attention_heads(record, TOPICS)
    heads.canvas.draw()
    assert ticks(heads, "x") == [*LABELS, *LABELS], "below both heads"
    assert ticks(heads, "y")[:5] == list(TAGGED.words)
    heat = plot_entity_object_attention(record, ENTITIES, node_type="hashtag")
    shown = np.asarray(heat.axes[0].images[0].get_array())
    assert ticks(heat, "x")[:3] == list(LABELS)
    for row, entity in zip(shown, ENTITIES, strict=True):
        attention = record.attention_to((entity.start, entity.end), "hashtag")
        assert attention is not None
        np.testing.assert_allclose(row, attention.numpy())
    assert ticks(plot_entity_object_attention(record, ENTITIES), "x")[:2] == ["hat", "tower"]
    empty = plot_entity_object_attention(recorded().posts[0], [Entity(0, 1, "PER", 0.9)], node_type="hashtag")
    assert [text.get_text() for text in empty.axes[0].texts] == ["post '2' has no hashtag nodes"]


def test_reports_have_labels() -> None:
    content = report_data(with_hashtags(), [PLAIN, TAGGED])
    assert [post["nodes"] for post in content["posts"]] == [[["hashtag", []]], [["hashtag", list(LABELS)]]]
    assert [part["sender"] for part in content["posts"][0]["parts"]] == ["object"]
    guides, topics = content["posts"][1]["parts"]
    assert (guides["sender"], topics["sender"], topics["relation"], topics["count"]) == (
        "object",
        "hashtag",
        "topics",
        3,
    )
    assert content["layers"] == [guides["layer"], topics["layer"]], "a layer each"
    (weights,) = recorded().posts[1].select(TOPICS)
    numbers = np.frombuffer(base64.b64decode(topics["data"]), np.uint8).reshape(2, 5, 3) / 255 * topics["most"]
    np.testing.assert_allclose(numbers, weights.matrix().numpy(), atol=topics["most"] / 255)
    assert recorded().posts[1].select(GUIDES)[0].layer == guides["layer"]
