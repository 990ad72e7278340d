"""The command ``evaluate``: scores of a saved model on a split, as text, JSON and figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mnergraph.cli.inputs import StoreOptions
from mnergraph.files import replacing, write_atomically
from mnergraph.models.batch_config import BatchConfig

if TYPE_CHECKING:
    from mnergraph.data.datasets.base import PostDataset
    from mnergraph.metrics.scores import Scores
    from mnergraph.training.evaluate import Evaluation


def evaluate(
    model: Path,
    data: Callable[[Path, str], PostDataset],
    root: Path,
    split: str = "test",
    out: Path | None = None,
    plots: Path | None = None,
    predictions: Path | None = None,
    special_tags: Literal["outside", "entities"] = "outside",
    sources: StoreOptions = StoreOptions(),
    batching: BatchConfig = BatchConfig(),
    grounder: Path | None = None,
    grounding_convention: Literal["positions", "h-index", "e2e-gmner"] = "positions",
    progress: bool = True,
) -> Scores:
    """Score a saved model on a split: lenient, strict and partial matches, errors by kind, calibration.

    Args:
        model: folder of a saved model, or its name on the hub.
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder.
        split: train, valid or test.
        out: file for all scores, as JSON.
        plots: folder for figures: errors.png, confusion.png and reliability.png.
        predictions: file for the tags: a line per word with word, gold tag and predicted tag.
        special_tags: what a special tag (X, [CLS]) that a model of word pieces predicts for a word counts as: outside,
            or entities, wrong ones, as the scorers of UMT's and MGCMT's authors count it.
        sources: where the features of images come from.
        batching: how posts are taken into batches, and the precision.
        grounder: folder of a saved model that grounds the entities in a second step (EVG), or its name on the hub.
        grounding_convention: what counts as a right box where entities are grounded; see docs/grounding.md.
        progress: whether to show a progress bar.
    """
    from mnergraph.data.verify import warn_of_remixed_splits
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger
    from mnergraph.training.evaluate import evaluate_in_detail
    from mnergraph.training.label_sets import check_types

    tagger = Tagger.from_pretrained(model)
    posts = data(root, split).with_node_evidence(tagger.builder.node_types.values())
    warn_of_remixed_splits(tagger.metadata.get("data", {}).get("name", ""), type(posts).__name__)
    check_types(tagger.labels, split, posts.pairs)
    folders = (*posts.evidence.stores, *sources.stores)
    pipeline = Predictor(
        tagger,
        batching=batching,
        stores=folders,
        run_extractors=sources.run_extractors,
        grounder=None if grounder is None else Tagger.from_pretrained(grounder),
    )
    pipeline.require_evidence(posts.pairs, split=split, allow_missing=sources.allow_missing)
    pairs = pipeline.prepared(posts.pairs, cache=Path(posts.processed_dir), progress=progress)
    evaluation = evaluate_in_detail(
        tagger,
        pairs,
        ground=None if pipeline.grounder is None else pipeline.grounder.ground,
        convention=grounding_convention,
        batching=batching,
        special_tags=special_tags,
        progress=progress,
    )
    if predictions is not None:
        lines = []
        for pair, predicted in zip(pairs, evaluation.tags, strict=True):
            lines.append(f"IMGID:{pair.id}")
            lines += ["\t".join(row) for row in zip(pair.words, pair.labels or (), predicted, strict=True)]
            lines.append("")
        write_atomically(predictions, ("\n".join(lines) + "\n").encode())
    if out is not None:
        write_atomically(out, (json.dumps(evaluation.to_dict(), indent=2) + "\n").encode())
    print(evaluation.table())
    if plots is not None:
        _plot(evaluation, [pair.labels or () for pair in pairs], plots, name=type(tagger).__name__)
    return evaluation.scores


def _plot(evaluation: Evaluation, gold: Sequence[Sequence[str]], folder: Path, *, name: str) -> None:
    """Write the figures of an evaluation."""
    from mnergraph.explain.plots import plot_errors, plot_reliability, plot_type_confusion

    if not evaluation.errors.types:
        print(f"{folder}: no figures, as there is no entity, neither gold nor predicted")
        return
    figures = {"errors": plot_errors(evaluation.errors), "confusion": plot_type_confusion(gold, evaluation.tags)}
    if evaluation.calibration.count:
        figures["reliability"] = plot_reliability({name: evaluation.calibration})
    folder.mkdir(parents=True, exist_ok=True)
    for figure_name, figure in figures.items():
        with replacing(folder / f"{figure_name}.png") as unfinished:
            figure.savefig(unfinished, format="png", dpi=150)
    print(f"\n{folder}: {', '.join(f'{figure_name}.png' for figure_name in figures)}")
