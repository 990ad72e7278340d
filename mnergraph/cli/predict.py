"""The command ``predict``: entities of posts as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tqdm.auto import tqdm

from mnergraph.cli.inputs import load_inputs
from mnergraph.inference.processor import Pipeline
from mnergraph.models.base import Tagger


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
    found = load_inputs(
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
