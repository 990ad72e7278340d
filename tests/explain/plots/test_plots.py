"""Plots, tested by their elements."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import post
from matplotlib import _pylab_helpers
from matplotlib.figure import Figure
from odd_images import noise
from PIL import Image, ImageColor

from mnergraph.explain import PairRecord, record_attention
from mnergraph.explain.plots import (
    plot_attention_heads,
    plot_detections,
    plot_entity_object_attention,
    plot_f1_by_type,
    plot_grounding,
    plot_image_attention,
    plot_training_curves,
    plot_type_confusion,
    style,
)
from mnergraph.explain.plots.scores import read_log
from mnergraph.explain.plots.style import COLORS, MissingFontWarning, ellipsize, right_to_left, type_color
from mnergraph.features.vision.extractor import ImageEvidence
from mnergraph.labels import Entity, Region
from mnergraph.models import UMGF
from mnergraph.pair import DetectedObject, GroundedEntity, Pair

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


def test_notebooks_show_figures(umgf: Callable[[], UMGF], pair: Pair) -> None:
    figure = plot_entity_object_attention(recorded(umgf(), pair), ENTITIES)
    shown = Image.open(io.BytesIO(figure._repr_png_()))
    assert shown.size == tuple(round(side) for side in figure.get_size_inches() * figure.dpi)
    assert not _pylab_helpers.Gcf.figs


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


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    """No warning was given so far, and no script was drawn."""
    monkeypatch.setattr(style, "_WARNED", set())
    monkeypatch.setattr(style, "_FAMILIES", ["DejaVu Sans"])


def test_fonts_of_a_script(fonts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    families = {"DejaVu Sans": "a ", "Noto Sans CJK JP": "東京"}
    monkeypatch.setattr(style, "_characters", lambda family: frozenset(map(ord, families.get(family, ""))))
    assert ellipsize("a 東京") == "a 東京"
    assert style.families() == ["DejaVu Sans", "Noto Sans CJK JP"], "found where the script first occurs"
    families.clear()
    with pytest.warns(MissingFontWarning, match=r"Chinese characters, such as U\+6771.*Debian package fonts-noto-cjk"):
        assert ellipsize("東京") == "▯▯"
    with pytest.warns(MissingFontWarning, match="Hangul.*fonts-noto-cjk"):
        ellipsize("서울")
    with pytest.warns(MissingFontWarning, match=r"'Noto Sans Tamil' .Debian package fonts-noto-core"):
        ellipsize("த")


def test_ellipsize(fonts: None) -> None:
    assert ellipsize("a\n b\tc") == "a b c"
    assert ellipsize("abcdefghij", max_length=7) == "abcd…ij"
    assert ellipsize("\U000f0000x") == "x"
    assert ellipsize("שלום $5 _") == "שלום $5 _"
    with pytest.warns(MissingFontWarning, match=r"no installed font has Egyptian, such as U\+13000") as warned:
        assert "▯" in ellipsize("\U00013000"), "hieroglyphs are in no font of ours"
    assert "Noto Sans Egyptian" in str(warned[0].message)
    assert "Debian package fonts-noto-core" in str(warned[0].message)
    assert ellipsize("\U00013001") == "▯", "once for a script"
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
    assert figure.axes[0].images[0].get_clim()[0] == 0, "colors begin at zero"
    with pytest.raises(ValueError, match="has no node type 'nonsense', only"):
        plot_entity_object_attention(record, ENTITIES, node_type="nonsense")


def test_many_objects_are_the_strongest(umgf: Callable[[], UMGF], pair: Pair) -> None:
    many = replace(pair, objects=tuple(replace(item, span=None) for item in (pair.objects * 24)[:72]), entities=())
    record = recorded(umgf(), many)
    figure = plot_entity_object_attention(record, ENTITIES, max_nodes=10)
    pixels(figure)
    width, height = figure.get_size_inches()
    assert width < 3 * height
    (ax,) = [ax for ax in figure.axes if ax.images and len(ax.get_yticklabels()) == 2]
    shown = np.asarray(ax.images[0].get_array())
    assert shown.shape == (2, 10)
    both = np.stack([record.attention_to((entity.start, entity.end)) for entity in ENTITIES])
    assert np.sort(shown.max(0)) == pytest.approx(np.sort(both.max(0))[-10:])
    assert ax.get_title("left") == "62 of 72 object nodes with lower weights left out"


def test_empty_states(umgf: Callable[[], UMGF], pair: Pair, tmp_path: Path) -> None:
    """A loop over posts needs no try: what is lacking is said in the figure."""
    model = umgf()
    bare = recorded(model, replace(pair.without_image(), id="7"))
    for figure, text in (
        (plot_entity_object_attention(bare, ENTITIES), "post '7' has no object nodes"),
        (plot_entity_object_attention(recorded(model, pair), []), "no predicted entity; other spans may be given"),
        (plot_attention_heads(bare, GUIDES), "post '7' has no object nodes"),
        (plot_image_attention(bare, ENTITIES), "post '7': no image, and no objects"),
    ):
        assert any(text in shown.replace("\n", " ") for shown in texts(figure)), texts(figure)
        figure.savefig(io.BytesIO(), dpi=40)
    (tmp_path / "1.png").write_bytes(b"no image")
    figure = plot_image_attention(recorded(model, pair), ENTITIES)
    assert "the image cannot be read\ncorrupt" in texts(figure)
    pixels(figure)


def test_image_has_a_panel_for_every_entity(umgf: Callable[[], UMGF], pair: Pair) -> None:
    record = recorded(umgf(), pair)
    figure = plot_image_attention(record, ENTITIES)
    pixels(figure)
    titles = [ax.get_title("left") for ax in every(figure) if ax.images]
    assert titles[0] == "boxes"
    assert [title.rpartition(" [")[2] for title in titles[1:]] == ["PER 0.91]", "LOC 0.40]"]
    for panel in every(figure):
        for image in panel.images[1:]:
            assert image.get_clim() == figure.axes[-1].get_ylim(), "one scale, whose color bar begins at zero"
            assert image.get_clim()[0] == 0


@pytest.mark.parametrize("size", [(80, 60), (30, 120)])
def test_three_images_are_side_by_side_with_their_lists_below(
    umgf: Callable[[], UMGF], pair: Pair, size: tuple[int, int]
) -> None:
    boxes = [replace(item, box=(2, 2, size[0] - 2, size[1] - 2)) for item in pair.objects]
    record = recorded(umgf(), replace(pair, image_path=None, size=size, objects=tuple(boxes)))
    for number, rows in ((1, 1), (2, 1), (3, 2)):
        figure = plot_image_attention(record, ENTITIES[:1] * number)
        pixels(figure)
        images = [ax.get_position() for ax in every(figure) if ax.get_title("left")]
        lists = [ax.get_position() for ax in every(figure) if ax.texts and not ax.get_title("left")]
        assert len(images) == len(lists) == number + 1
        assert len({round(place.y0, 3) for place in images}) == rows
        for image, beside in zip(images, lists, strict=True):
            if number == 2:
                assert beside.y1 < image.y0
            else:
                assert beside.x0 > image.x1


def test_lists_beside_the_image(umgf: Callable[[], UMGF], pair: Pair) -> None:
    record = recorded(umgf(), pair)
    figure = plot_image_attention(record, ENTITIES, top_k=2)
    attention = record.attention_to((0, 2))
    assert attention is not None
    best = attention.argsort(descending=True)[:2].tolist()
    panels = [panel for panel in every(figure) if not panel.images and panel.texts]
    rows = [text.get_text() for text in panels[1].texts]
    assert rows[:6] == [
        text for index in best for text in (str(index), pair.objects[index].label, f"{attention[index]:.2f}")
    ]
    assert rows[6:] == ["1 more with lower weights"]
    bars = [patch.get_width() for patch in panels[1].patches]
    assert bars[3] / bars[1] == pytest.approx(float(attention[best[1]] / attention[best[0]]), rel=1e-4)


@pytest.mark.parametrize("count", [20, 72])
def test_numbers_on_boxes_do_not_overlap(count: int) -> None:
    size = (640, 480)
    generator = np.random.default_rng(0)
    corners = generator.uniform(0, 300, (count, 2)).tolist()
    objects = tuple(DetectedObject("person", (x, y, x + 120, y + 90), 1 - i / 100) for i, (x, y) in enumerate(corners))
    figure = plot_detections(Image.new("RGB", size), ImageEvidence(size, objects), max_objects=count)
    pixels(figure)
    panel, listed = figure.axes[0].child_axes
    numbers = [text.get_window_extent() for text in panel.texts]
    assert len(numbers) == count
    assert not any(one.overlaps(other) for one, other in combinations(numbers, 2))
    lines = [text.get_window_extent() for text in listed.texts if text.get_text() == "person"]
    assert len(lines) == count
    assert not any(one.overlaps(other) for one, other in combinations(lines, 2))
    outside = listed.get_window_extent()
    assert all(outside.y0 <= line.y0 and line.x1 <= outside.x1 + 1 for line in lines)


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
    boxes = [patch.get_bbox().bounds for patch in ax.patches[:6][1::2]]  # each above a wider white one
    # the image has half the size that the boxes are of
    assert boxes == [(0.5, 0.5, 4.5, 9.5), (2.5, 2.5, 2.0, 2.0), (1.0, 1.0, 4.0, 9.0)]
    assert [text.get_text() for text in ax.texts] == ["$Ann PER 0.80"]
    assert ax.get_title() == "post 1\nnot in the image: Rome [LOC 0.70] 0.60\ndashed: gold"
    without = plot_grounding(replace(pair, image_path=None), found, gold=False)
    assert without.axes[0].get_title() == "not in the image: Rome [LOC 0.70] 0.60"
    (tmp_path / "1.png").write_bytes(b"no image")
    for empty, note in (
        (plot_grounding(replace(pair, grounding=None)), "the image cannot be read\ncorrupt"),
        (plot_grounding(Pair(("a",))), "no image"),
    ):
        assert [text.get_text() for text in empty.axes[0].texts] == [note, "no entity is shown in the image"]
        empty.savefig(io.BytesIO())


def test_labels_of_equal_boxes_do_not_overlap() -> None:
    region = Region(0.8, 0, (10, 10, 200, 150), "man")
    pair = Pair(tuple("abcdef"), size=(320, 240))
    found = [Entity(index, index + 1, "PER", 0.9, region) for index in range(6)]
    figure = plot_grounding(pair, found)
    pixels(figure)
    extents = [text.get_window_extent() for text in figure.axes[0].texts if text.get_text()]
    assert len(extents) == 6
    assert not any(one.overlaps(other) for one, other in combinations(extents, 2))


def test_an_entity_type_has_one_color() -> None:
    assert len({type_color(name) for name in ("PER", "LOC", "ORG", "MISC")}) == 4
    assert type_color("film") == type_color("film")
