"""The pictures of these pages, drawn again from what the quickstart left and the results that are kept.

    uv run mnergraph quickstart --folder QUICKSTART
    uv run python -m tools.doc_figures QUICKSTART

The page is photographed where Chromium is installed, and left as it is elsewhere.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from benchmarks.browser import NoBrowser, chromium
from mnergraph import LabelSet, Pair, attention_graph, load, record_attention, tiny_encoder
from mnergraph.data import Lookalikes
from mnergraph.explain.plots import (
    plot_attention_heads,
    plot_entity_object_attention,
    plot_errors,
    plot_f1_by_type,
    plot_graph,
    plot_image_attention,
    plot_reliability,
    plot_schema,
    plot_training_curves,
    plot_type_confusion,
)
from mnergraph.explain.report import report_data, summarize, write_report
from mnergraph.graph import Schema
from mnergraph.inference.predictor import Predictor
from mnergraph.models import GEI, SCHEMAS, HamLearning
from mnergraph.models.base import Tagger
from mnergraph.training import evaluate, evaluate_in_detail

PROJECT = Path(__file__).parents[1]
#: A post of the test split: "cannot stop thinking about Victoria and then there is Fort Sutter".
POST = 0
RESULTS = PROJECT / "benchmarks" / "results"
SYSTEMS = ("BERT-CRF", "UMT", "UMGF", "GEI", "MGCMT", "HamLearning")


def one_post(quickstart: Path, pairs: list[Pair]) -> dict[str, Figure]:
    """What UMGF attends to in the post."""
    model = load(quickstart / "UMGF" / "model")
    (pair,) = Predictor(model).prepared([pairs[POST]])
    with record_attention(model) as record:
        (entities,) = model.predict([pair])
    seen = record.posts[0]
    return {
        "graph": plot_graph(attention_graph(model, pair)),
        "focus": plot_graph(attention_graph(model, pair), focus=4),
        "entity_objects": plot_entity_object_attention(seen, entities),
        "image": plot_image_attention(seen, entities),
        "heads": plot_attention_heads(seen, ("object", "guides", "token")),
    }


def schemas() -> Figure:
    """What is connected to what in the five systems, and which node types GEI and HamLearning create."""
    encoder, labels = tiny_encoder(), LabelSet.from_types(["PER"])
    small: dict[str, Any] = {"image_dim": 8, "region_dim": 8, "num_heads": 8}
    drawn: dict[str, Schema | Tagger] = {
        **{name: SCHEMAS[name] for name in ("UMT (and MT-BERT-CRF)", "UMGF", "MGCMT")},
        "GEI": GEI(encoder, labels, **small),
        "HamLearning": HamLearning(encoder, labels, **small),
    }
    figure = Figure(figsize=(15, 11), layout="constrained")
    places = figure.subplot_mosaic("aabbcc;dddeee", height_ratios=(1, 2.3))
    for (name, schema), ax in zip(drawn.items(), places.values(), strict=True):
        plot_schema(schema, ax=ax)
        ax.set_title(name)
    return figure


def confusion(quickstart: Path, pairs: list[Pair]) -> Figure:
    """Which types BERT-CRF, without pictures, and UMGF take for which."""
    figure = Figure(figsize=(11, 4.6), layout="constrained")
    gold = [list(pair.labels or ()) for pair in pairs]
    for name, ax in zip(("BERT-CRF", "UMGF"), figure.subplots(1, 2), strict=True):
        model = load(quickstart / name / "model")
        _, predicted = evaluate(model, Predictor(model).prepared(pairs), progress=False)
        plot_type_confusion(gold, predicted, ax=ax)
        ax.set_title(name)
    return figure


def scores(quickstart: Path, pairs: list[Pair]) -> dict[str, Figure]:
    """Errors by kind of BERT-CRF, without pictures; and whether its and UMGF's probabilities are right."""
    evaluations = {}
    for name in ("BERT-CRF", "UMGF"):
        model = load(quickstart / name / "model")
        evaluations[name] = evaluate_in_detail(model, Predictor(model).prepared(pairs), progress=False)
    return {
        "errors": plot_errors(evaluations["BERT-CRF"].errors),
        "reliability": plot_reliability({name: found.calibration for name, found in evaluations.items()}),
    }


def page(quickstart: Path, pairs: list[Pair]) -> Image.Image:
    """The page of the post and of one with an error, while the pointer is at the first entity's type."""
    from selenium.webdriver import ActionChains

    model = load(quickstart / "UMGF" / "model")
    ready = Predictor(model).prepared(pairs)
    summary = summarize(ready, model.predict(ready))
    wrong = next(
        place
        for place, tags in enumerate(model.decode_tags(model.forward_examples(ready)))
        if place != POST and ready[place].image_path and tags != list(ready[place].labels or ())
    )
    with TemporaryDirectory() as folder, chromium(1200, 870) as driver:
        content = report_data(model, [ready[POST], ready[wrong]], summary=summary, facts=[("data", "Lookalikes, test")])
        write_report(content, Path(folder) / "page.html")
        driver.get((Path(folder) / "page.html").as_uri())
        kind = driver.find_elements("css selector", ".predicted mark .type")[0]
        ActionChains(driver).move_to_element(kind).perform()
        return Image.open(io.BytesIO(driver.get_screenshot_as_png())).convert("RGB")


def keep(image: Image.Image, path: Path) -> None:
    """Writes a PNG of at most 256 colours, which drawings and a page do not miss."""
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path.name}: {path.stat().st_size / 1e3:.0f} kB")


def keep_figure(figure: Figure, path: Path) -> None:
    file = io.BytesIO()
    figure.savefig(file, dpi=90)
    keep(Image.open(file).convert("RGB"), path)


def main(quickstart: Path) -> None:
    pairs = Lookalikes(quickstart / "lookalikes", "test").pairs
    results = {name: RESULTS / f"twitter2017_{name.lower()}_captions.json" for name in SYSTEMS}
    figures: dict[str, Callable[[], Figure]] = {
        "confusion": lambda: confusion(quickstart, pairs),
        "curves": lambda: plot_training_curves({name: quickstart / name for name in ("BERT-CRF", "UMGF")}),
        "types": lambda: plot_f1_by_type(results),
        "schemas": schemas,
    }
    folder = PROJECT / "docs" / "drawn"
    folder.mkdir(exist_ok=True)
    for name, figure in (one_post(quickstart, pairs) | scores(quickstart, pairs)).items():
        keep_figure(figure, folder / f"{name}.png")
    for name, draw in figures.items():
        keep_figure(draw(), folder / f"{name}.png")
    try:
        keep(page(quickstart, pairs[:50]), folder / "page.png")
    except NoBrowser as missing:
        print(f"page.png is left as it is: {missing}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
