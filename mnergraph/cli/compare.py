"""The command ``compare``: several saved models on the same posts, side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from mnergraph.cli.inputs import StoreOptions
from mnergraph.files import write_atomically
from mnergraph.models.batch_config import BatchConfig

if TYPE_CHECKING:
    from mnergraph.data.datasets.base import PostDataset
    from mnergraph.metrics.comparison import SystemRow
    from mnergraph.models.base import Tagger

#: Posts of the table of cases, the first in which the systems differ most.
CASES = 10


def compare(
    models: list[Path],
    data: Callable[[Path, str], PostDataset],
    root: Path,
    out: Path,
    split: str = "test",
    baseline: str | None = None,
    names: list[str] | None = None,
    table: Path | None = None,
    max_posts: int = 200,
    batching: BatchConfig = BatchConfig(),
    sources: StoreOptions = StoreOptions(),
    progress: bool = True,
) -> list[SystemRow]:
    """Compare saved models on the same posts: a page, and who corrects and harms which entities.

    Args:
        models: folders of two saved models or more.
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder.
        out: the page, one HTML file without network.
        split: train, valid or test.
        baseline: name of the model that the others are compared with; by default the first that reads the text
            alone, or else the first.
        names: what the models are called, in their order; by default their classes, or folders where two are the same.
        table: a Markdown file for the scores and for the posts that differ most, as in the papers' case studies.
        max_posts: how many posts the page shows at most, of those in which a model differs from the baseline.
        batching: how posts are taken into batches, and the precision.
        sources: where the features of images come from.
        progress: whether to show progress bars.

    Raises:
        ValueError: for fewer than two models, names that are not theirs, or a model that has no type of the posts.
    """
    from mnergraph.explain.report.comparison import case_table, write_comparison
    from mnergraph.inference.predictor import Predictor
    from mnergraph.metrics.comparison import Comparison, summary_table
    from mnergraph.models.base import Tagger
    from mnergraph.training.evaluate import evaluate
    from mnergraph.training.label_sets import check_types

    if len(models) < 2:
        raise ValueError("compare takes two models or more")
    if names is not None and (len(names) != len(models) or len(set(names)) != len(names)):
        raise ValueError(f"{len(models)} models need {len(models)} different names, not {', '.join(names)}")
    predicted: dict[str, list[list[str]]] = {}
    text_only: list[str] = []
    posts = data(root, split)
    taggers = [Tagger.from_pretrained(folder) for folder in models]
    called = names or _names(taggers, models)
    for name, tagger in zip(called, taggers, strict=True):
        check_types(tagger.labels, split, posts.pairs, name=name)
    if baseline is not None and baseline not in called:
        raise ValueError(f"the baseline {baseline!r} is none of {', '.join(called)}")
    pipelines = []
    for tagger in taggers:
        own = posts.with_node_evidence(tagger.builder.node_types.values())
        stores = (*own.evidence.stores, *sources.stores)
        pipeline = Predictor(tagger, stores=stores, run_extractors=sources.run_extractors)
        pipeline.require_evidence(own.pairs, split=split, allow_missing=sources.allow_missing)
        pipelines.append((pipeline, own))
    for name, (pipeline, own) in zip(called, pipelines, strict=True):
        if progress:
            print(f"{name}:", flush=True)
        pairs = pipeline.prepared(own.pairs, cache=Path(own.processed_dir), progress=progress)
        _, predicted[name] = evaluate(pipeline.model, pairs, batching=batching, progress=progress)
        if not {"object", "image"} & set(pipeline.model.schema.nodes):
            text_only.append(name)
    baseline = baseline or next(iter(text_only), called[0])
    comparison = Comparison([list(pair.labels or ()) for pair in posts.pairs], predicted, baseline)
    rows = comparison.rows()
    differing = comparison.differing()
    size = write_comparison(
        comparison,
        posts.pairs,
        out,
        posts=differing[:max_posts],
        title=f"{', '.join(called)} on {split} of {Path(root).name}",
        progress=progress,
    )
    summary = summary_table(rows)
    print(summary)
    if table is not None:
        changed = {post: sum(sum(comparison.changes(name, post)) for name in called) for post in differing}
        most = sorted(differing, key=lambda post: -changed[post])[:CASES]
        cases = case_table(comparison, posts.pairs, most)
        write_atomically(table, f"{summary}\n\n{cases}\n".encode())
        print(f"{table}: scores and {len(most)} posts")
    print(f"{out}: {min(len(differing), max_posts)} of {len(differing)} posts that differ, {size / 1e6:.2f} MB")
    return rows


def _names(taggers: list[Tagger], models: list[Path]) -> list[str]:
    """Return the models' classes, or their folders where two are of one class.

    Raises:
        ValueError: when two folders have the same name, too.
    """
    classes = [type(tagger).__name__ for tagger in taggers]
    names = [name if classes.count(name) == 1 else folder.name for name, folder in zip(classes, models, strict=True)]
    if len(set(names)) != len(names):
        raise ValueError(f"two models are called the same, {', '.join(names)}; give --names, one for each")
    return names
