"""A saved model at work as a job: scored on a split, or asked for the entities of posts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from mnergraph.data import PostDataset
from mnergraph.evaluation import Scores
from mnergraph.models import Tagger
from mnergraph.pipelines import Pipeline
from mnergraph.posts import given_posts
from mnergraph.training import evaluate as score_posts


def evaluate(
    model: Path,
    data: Callable[[Path, str], PostDataset],
    root: Path,
    split: str = "test",
    batch_size: int = 32,
    predictions: Path | None = None,
    stores: tuple[Path, ...] = (),
    extract: bool = True,
    progress: bool = True,
) -> Scores:
    """Scores a saved model on a split, lenient and strict, over all and per type.

    Args:
        model: folder of a saved model, or its name on the hub.
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder.
        split: train, valid or test.
        batch_size: posts at once.
        predictions: file for the tags: a line per word with word, gold tag and predicted tag.
        stores: folders of feature stores in which pictures are looked up, made as those of the training were.
        extract: whether to run the training's extractors on pictures that no store knows.
        progress: whether to show a progress bar.
    """
    tagger = Tagger.from_pretrained(model)
    posts = data(root, split)
    strange = sorted(set(posts.tags) - set(tagger.labels.tags))
    if strange:
        raise ValueError(
            f"the posts have labels that the model does not know: {', '.join(strange)}; it knows "
            f"{', '.join(tagger.labels.tags)}. A mapping such as --data.mapping '{{OTHER: MISC}}' renames "
            "types."
        )
    pipeline = Pipeline(tagger, stores=(*posts.evidence.stores, *stores), extract=extract)
    pairs = pipeline.prepared(posts.pairs, cache=Path(posts.processed_dir), progress=progress)
    scores, tags = score_posts(tagger, pairs, batch_size=batch_size, progress=progress)
    if predictions is not None:
        lines = []
        for pair, predicted in zip(pairs, tags, strict=True):
            lines.append(f"IMGID:{pair.id}")
            lines += ["\t".join(row) for row in zip(pair.words, pair.labels or (), predicted, strict=True)]
            lines.append("")
        predictions.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(scores.table())
    return scores


def predict(
    model: Path,
    text: str | None = None,
    image: Path | None = None,
    caption: str | None = None,
    posts: Path | None = None,
    images: Path | None = None,
    objects: Path | None = None,
    captions: Path | None = None,
    features: Path | None = None,
    stores: tuple[Path, ...] = (),
    extract: bool = True,
    out: Path | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> None:
    """Finds the entities of a text with its picture, or of a file of posts, as JSON lines.

    Args:
        model: folder of a saved model, or its name on the hub.
        text: one post's text.
        image: its picture.
        caption: one sentence on what the picture shows.
        posts: a file of posts instead: .jsonl, or the CoNLL format.
        images: folder of the pictures of a CoNLL file.
        objects: objects.jsonl of a CoNLL file.
        captions: captions.jsonl of a CoNLL file.
        features: features.safetensors of a CoNLL file.
        stores: folders of feature stores in which pictures are looked up, made as those of the training were.
        extract: whether to run the training's extractors on pictures that no store knows.
        out: file for the result; without it, it is printed.
        batch_size: posts at once.
        progress: whether to show a progress bar for a file of posts, unless the result itself is shown.
    """
    found = given_posts(
        text,
        image=image,
        caption=caption,
        posts=posts,
        images=images,
        objects=objects,
        captions=captions,
        features=features,
    )
    tagger = Tagger.from_pretrained(model)
    pipeline = Pipeline(tagger, batch_size=batch_size, stores=stores, extract=extract)
    target = sys.stdout if out is None else out.open("w", encoding="utf-8")
    try:
        silent = not progress or posts is None or (out is None and sys.stdout.isatty())
        for line in tqdm(pipeline(found), "predicting", len(found), unit="post", disable=silent):
            print(json.dumps(line, ensure_ascii=False), file=target, flush=True)
    finally:
        if out is not None:
            target.close()
