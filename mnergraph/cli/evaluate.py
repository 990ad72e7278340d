"""The command ``evaluate``: scores of a saved model on a split."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from mnergraph.cli.inputs import StoreOptions
from mnergraph.files import write_atomically
from mnergraph.models.batch_config import BatchConfig

if TYPE_CHECKING:
    from mnergraph.data.datasets.base import PostDataset
    from mnergraph.metrics.scores import Scores


def evaluate(
    model: Path,
    data: Callable[[Path, str], PostDataset],
    root: Path,
    split: str = "test",
    predictions: Path | None = None,
    special_tags: Literal["outside", "entities"] = "outside",
    sources: StoreOptions = StoreOptions(),
    batching: BatchConfig = BatchConfig(),
    grounder: Path | None = None,
    grounding_convention: Literal["positions", "h-index", "e2e-gmner"] = "positions",
    progress: bool = True,
) -> Scores:
    """Score a saved model on a split, lenient and strict, over all and per type.

    Args:
        model: folder of a saved model, or its name on the hub.
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder.
        split: train, valid or test.
        predictions: file for the tags: a line per word with word, gold tag and predicted tag.
        special_tags: what a special tag (X, [CLS]) that a model of word pieces predicts for a word counts as: outside,
            or entities, wrong ones, as the scorers of UMT's and MGCMT's authors count it.
        sources: where the features of images come from.
        batching: how posts are taken into batches, and the precision.
        grounder: folder of a saved model that grounds the entities in a second step (EVG), or its name on the hub.
        grounding_convention: what counts as a right box where entities are grounded; see docs/grounding.md.
        progress: whether to show a progress bar.
    """
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger
    from mnergraph.training.evaluate import evaluate as score_posts
    from mnergraph.training.evaluate import evaluate_grounding
    from mnergraph.training.label_sets import check_types

    tagger = Tagger.from_pretrained(model)
    posts = data(root, split).with_node_evidence(tagger.builder.node_types.values())
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
    scores, tags = score_posts(tagger, pairs, batching=batching, special_tags=special_tags, progress=progress)
    if predictions is not None:
        lines = []
        for pair, predicted in zip(pairs, tags, strict=True):
            lines.append(f"IMGID:{pair.id}")
            lines += ["\t".join(row) for row in zip(pair.words, pair.labels or (), predicted, strict=True)]
            lines.append("")
        write_atomically(predictions, ("\n".join(lines) + "\n").encode())
    print(scores.table())
    if pipeline.grounder is not None or tagger.grounding_head is not None:
        ground = None if pipeline.grounder is None else pipeline.grounder.ground
        grounded, _ = evaluate_grounding(
            tagger, pairs, ground=ground, convention=grounding_convention, batching=batching, progress=progress
        )
        print(f"\n{grounded.table()}")
    return scores
