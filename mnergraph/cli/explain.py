"""The job of ``mnergraph explain``: posts of any origin, as a page."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mnergraph.cli.inputs import load_inputs
from mnergraph.data.datasets.base import PostDataset
from mnergraph.explain.report.data import report_data
from mnergraph.explain.report.html import write_report
from mnergraph.inference.processor import Pipeline
from mnergraph.labels import tags_to_spans
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair


def explain(
    model: Path,
    out: Path,
    text: str | None = None,
    image: Path | None = None,
    caption: str | None = None,
    posts: Path | None = None,
    images: Path | None = None,
    objects: Path | None = None,
    captions: Path | None = None,
    features: Path | None = None,
    data: Callable[[Path, str], PostDataset] | None = None,
    root: Path | None = None,
    split: str = "test",
    every: bool = False,
    most: int = 200,
    stores: tuple[Path, ...] = (),
    extract: bool = True,
    batch_size: int = 32,
    progress: bool = True,
) -> None:
    """Writes a page, one HTML file without network, of what a model saw in posts and where it erred.

    Give one of text (with image and caption if there are any), posts, and data with root.

    Args:
        model: folder of a saved model, or its name on the hub.
        out: the HTML file.
        text: one post's text.
        image: its picture.
        caption: one sentence on what the picture shows.
        posts: a file of posts: .jsonl, or the CoNLL format.
        images: folder of the pictures of a CoNLL file.
        objects: objects.jsonl of a CoNLL file.
        captions: captions.jsonl of a CoNLL file.
        features: features.safetensors of a CoNLL file.
        data: a data set, one of those `mnergraph ls` shows, whose errors are shown.
        root: its folder.
        split: its split: train, valid or test.
        every: all posts of the split, not those with errors alone.
        most: posts on the page at most, the first ones.
        stores: folders of feature stores in which pictures are looked up, made as those of the training were.
        extract: whether to run the training's extractors on pictures that no store knows.
        batch_size: posts at once.
        progress: whether to show a progress bar.
    """
    beside: dict[str, Any] = {
        "text": text,
        "image": image,
        "caption": caption,
        "posts": posts,
        "images": images,
        "objects": objects,
        "captions": captions,
        "features": features,
    }
    if (data is None) != (root is None):
        raise ValueError("data and root go together: a data set and its folder")
    idle = [name for name, given in beside.items() if given is not None]
    if data is not None and idle:
        raise ValueError(f"{', '.join(idle)} can't go with data")
    if data is None and text is None and posts is None:
        raise ValueError("give either text, with image and caption if there are any, or posts, or data with root")
    found = load_inputs(**beside)[:most] if data is None else []
    tagger = Tagger.from_pretrained(model)
    of_data = data(root, split) if data is not None and root is not None else None
    known = (*of_data.evidence.stores, *stores) if of_data is not None else stores
    pipeline = Pipeline(tagger, batch_size=batch_size, stores=known, extract=extract)
    if of_data is not None:
        pairs = _of_split(pipeline, of_data, every, most, progress)
    else:
        pairs = pipeline.prepared(post.pair for post in found)
    content = report_data(pipeline.model, pairs, batch_size=batch_size, progress=progress)
    size = write_report(content, out)
    print(f"{out}: {len(pairs)} posts, {size / 1e6:.2f} MB")


def _of_split(pipeline: Pipeline, posts: PostDataset, every: bool, most: int, progress: bool) -> list[Pair]:
    """The first posts of a split, or those of them in which the model errs, ready for the model."""
    pairs = posts.pairs[:most] if every else posts.pairs
    pairs = pipeline.prepared(pairs, cache=Path(posts.processed_dir), progress=progress)
    if every:
        return pairs
    wrong: list[Pair] = []
    for begin in range(0, len(pairs), pipeline.batch_size):
        some = pairs[begin : begin + pipeline.batch_size]
        for pair, tags in zip(some, pipeline.model.decode_tags(pipeline.model.forward_examples(some)), strict=True):
            if tags_to_spans(tags) != tags_to_spans(pair.labels or ()):
                wrong.append(pair)
        if len(wrong) >= most:
            break
    return wrong[:most]
