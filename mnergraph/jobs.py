"""The jobs of the command line as functions: train, evaluate, predict. Each reads from top to bottom."""

from __future__ import annotations

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import lightning
import torch
from tqdm.auto import tqdm

from mnergraph.assembly import assembled, text_encoder
from mnergraph.data import PostDataset, checksum
from mnergraph.evaluation import Scores
from mnergraph.features.backbone import TINY
from mnergraph.features.encoder import Encoder
from mnergraph.features.regions import Crops
from mnergraph.features.similar import SimilarWords
from mnergraph.labels import Labels
from mnergraph.models import Tagger
from mnergraph.pipelines import Pipeline, record_of
from mnergraph.posts import given_posts
from mnergraph.training import Loop, Optimisation, fit
from mnergraph.training import evaluate as score_posts

MODEL, RESULT = "model", "result.json"


def train(
    data: Callable[[Path, str], PostDataset],
    root: Path,
    model: Callable[[Encoder, Labels], Tagger],
    out: Path,
    encoder: str = TINY,
    regions: Crops | None = None,
    word_vectors: Path | None = None,
    stores: tuple[Path, ...] = (),
    optimisation: Optimisation = Optimisation(),
    loop: Loop = Loop(),
    resume: bool = False,
) -> dict[str, Any]:
    """Trains a model, chooses its checkpoint on dev alone, and scores that one on dev and test.

    Args:
        data: the data set, one of those `mnergraph ls` shows.
        root: its folder; what can be made or downloaded goes there.
        model: the model, one of those `mnergraph ls` shows.
        out: folder of the run: checkpoints, logs, the saved model and result.json.
        encoder: a Hugging Face text encoder, by name or folder, or tiny-random; for models over word vectors
            a text file of them, or random:WIDTH.
        regions: how boxes become region vectors; without it objects speak by their labels alone.
        word_vectors: a table of word vectors, in which the nearest neighbours of all words are looked up,
            for models that read them (MGCMT).
        stores: folders of feature stores of the posts' pictures, read beside the files of evidence.
        optimisation: how weights learn.
        loop: how long and on what.
        resume: take up a killed run of this folder again; give the same options.

    Returns:
        what result.json holds.
    """
    began = time.perf_counter()
    splits = {name: data(root, name).with_stores(*stores) for name in ("train", "valid", "test")}
    cache = Path(splits["train"].processed_dir)
    lightning.seed_everything(loop.seed, verbose=False)
    similar = None
    if word_vectors is not None:
        words = (word for posts in splits.values() for pair in posts.pairs for word in pair.words)
        similar = SimilarWords.find(word_vectors, words, cache=cache, progress=loop.progress)
    learned = splits["train"]
    reads = text_encoder(encoder, learned.pairs)
    tagger = assembled(model, reads, Labels(learned.tags), learned.pairs, regions=regions, similar=similar)
    pairs = {
        name: regions.attach(posts.pairs, cache, progress=loop.progress) if regions else posts.pairs
        for name, posts in splits.items()
    }
    print(f"{type(tagger).__name__} on {type(splits['train']).__name__}\n{tagger.schema}", flush=True)
    fit(tagger, pairs["train"], pairs["valid"], out, optimisation=optimisation, loop=loop, resume=resume)
    scores = {name: score_posts(tagger, pairs[name], progress=loop.progress)[0] for name in ("valid", "test")}

    facts = _facts(splits)
    tagger.record = {
        "data": facts,
        "scores": {name: found.to_dict() for name, found in scores.items()},
        "tables": {name: found.table() for name, found in scores.items()},
        "evidence": record_of(splits["train"].evidence, regions),
    }
    tagger.save_pretrained(out / MODEL)
    result = {
        "model": type(tagger).__name__,
        "settings": tagger.settings(),
        "encoder": tagger.encoder.name,
        "word_vectors": word_vectors and word_vectors.name,
        "data": facts,
        "optimisation": vars(optimisation),
        "loop": vars(loop),
        "scores": tagger.record["scores"],
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {
            name: version(name) for name in ("mnergraph", "torch", "torch-geometric", "transformers")
        },
        "machine": {"python": platform.python_version(), "threads": torch.get_num_threads()},
    }
    (out / RESULT).write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    for name, found in scores.items():
        print(f"\n{name}\n{found.table()}")
    print(f"\nmodel: {out / MODEL}\nresult: {out / RESULT}")
    return result


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
        progress: whether to show a progress bar while a file of posts goes into another.
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
        silent = out is None or not progress
        for line in tqdm(pipeline(found), "predicting", len(found), unit="post", disable=silent):
            print(json.dumps(line, ensure_ascii=False), file=target, flush=True)
    finally:
        if out is not None:
            target.close()


def _facts(splits: dict[str, PostDataset]) -> dict[str, Any]:
    """Which posts these were: what a result must say."""
    return {
        "name": type(splits["train"]).__name__,
        **{f"{name} posts": len(posts) for name, posts in splits.items()},
        **{f"{name} sha256": checksum(posts.raw_paths[0]) for name, posts in splits.items()},
    }
