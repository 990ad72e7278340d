"""The command ``explain``: posts of any origin, as a page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.post_stream import PostStream
from mnergraph.models.batch_config import BatchConfig

if TYPE_CHECKING:
    from mnergraph.data.datasets.base import PostDataset
    from mnergraph.explain.report.summary import Summary
    from mnergraph.inference.predictor import Predictor
    from mnergraph.pair import Pair


def explain(
    model: Path,
    out: Path,
    inputs: Inputs = Inputs(),
    data: Callable[[Path, str], PostDataset] | None = None,
    root: Path | None = None,
    split: str = "test",
    errors_only: bool = True,
    max_posts: int = 200,
    sources: StoreOptions = StoreOptions(),
    batching: BatchConfig = BatchConfig(),
    progress: bool = True,
) -> None:
    """Write a page, one HTML file without network, of what a model attended to in posts and where it erred.

    Give one of text (with image and caption if there are any), posts, and data with root. Above the posts are the
    model, the data, the scores and errors of the whole split, and how certain the predictions are.

    Args:
        model: folder of a saved model, or its name on the hub.
        out: the HTML file.
        inputs: the posts.
        data: a data set, one of those `mnergraph ls` shows, instead of posts.
        root: its folder.
        split: its split: train, valid or test.
        errors_only: whether to show only those posts of the split in which the model errs.
        max_posts: how many posts the page shows at most, the first ones.
        sources: where the features of their images come from.
        batching: how posts are taken into batches, and the precision.
        progress: whether to show a progress bar.
    """
    from mnergraph.data.evidence import attach_node_evidence
    from mnergraph.explain.report.data import report_data
    from mnergraph.explain.report.html import write_report
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger

    if (data is None) != (root is None):
        raise ValueError("data and root go together: a data set and its folder")
    if data is not None and inputs.given:
        raise ValueError(f"{', '.join(inputs.given)} can't go with data")
    if data is None and inputs.text is None and inputs.posts is None:
        raise ValueError("give either text, with image and caption if there are any, or posts, or data with root")
    stream = inputs.stream() if data is None else PostStream.of([])
    given = stream.load(max_posts)
    tagger = Tagger.from_pretrained(model)
    node_types = tagger.builder.node_types.values()
    given = attach_node_evidence(given, node_types, *inputs.folders, required=False)
    posts = data(root, split) if data is not None and root is not None else None
    if posts is not None:
        posts = posts.with_node_evidence(node_types)
        sources = replace(sources, stores=(*map(Path, posts.evidence.stores), *sources.stores))
    pipeline = Predictor(tagger, batching=batching, stores=sources.stores, run_extractors=sources.run_extractors)
    allowed = sources.allow_missing
    if posts is None:
        pipeline.require_evidence(given, allow_missing=allowed)
    else:
        pipeline.require_evidence(posts.pairs, split=split, allow_missing=allowed)
    summary, facts, left_out = None, [("saved as", "/".join(Path(model).parts[-2:]))], ""
    if posts is None:
        pairs = pipeline.prepared(given)
        if len(stream) > max_posts:
            left_out = f" of {len(stream)}, see max_posts"
    else:
        pairs, summary = _of_split(pipeline, posts, errors_only, max_posts, progress)
        facts.append(("data", f"{type(posts).__name__}, {split}"))
        if summary is not None and summary.with_errors > len(pairs):
            left_out = f" of {summary.with_errors} with errors, see max_posts"
            facts.append(("posts shown", f"the first {len(pairs)} of {summary.with_errors} with errors"))
        elif summary is not None:
            facts.append(("posts shown", f"the {len(pairs)} with errors"))
        elif len(pairs) < len(posts.pairs):
            left_out = f" of {len(posts.pairs)}, see max_posts"
    content = report_data(pipeline.model, pairs, batching=batching, progress=progress, summary=summary, facts=facts)
    size = write_report(content, out)
    print(f"{out}: {len(pairs)} posts{left_out}, {size / 1e6:.2f} MB")
    if not pairs:
        print("there is no post to show: the model makes no error" if summary is not None else "there are no posts")


def _of_split(
    pipeline: Predictor, posts: PostDataset, errors_only: bool, max_posts: int, progress: bool
) -> tuple[list[Pair], Summary | None]:
    """Return the first posts of a split, or the first in which the model errs with the summary of the whole split."""
    from tqdm.auto import tqdm

    from mnergraph.explain.report.summary import Summary
    from mnergraph.models.batches import run_in_batches

    pairs = posts.pairs if errors_only else posts.pairs[:max_posts]
    pairs = pipeline.prepared(pairs, cache=Path(posts.processed_dir), progress=progress)
    if not errors_only:
        return pairs, None
    model, summary = pipeline.model, Summary()
    wrong: list[Pair] = []
    with tqdm(total=len(pairs), desc="looking for errors", unit="post", disable=not progress) as bar:
        for begin in range(0, len(pairs), pipeline.window):
            window = pairs[begin : begin + pipeline.window]
            predicted = run_in_batches(
                model,
                window,
                lambda graph, _: model.decode_entities(graph),
                config=pipeline.batching,
                progress=bar.update,
            )
            for pair, entities in zip(window, predicted, strict=True):
                if summary.add(pair, entities) and len(wrong) < max_posts:
                    wrong.append(pair)
    return wrong, summary
