"""Training as a job: from a data set's folder to a saved model and result.json."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mnergraph.data.datasets.base import PostDataset
from mnergraph.features.text.encoder import TINY, Encoder
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.training.config import OptimizerConfig, TrainerConfig

MODEL, RESULT = "model", "result.json"


def train(
    data: Callable[[Path, str], PostDataset],
    root: Path,
    model: Callable[[Encoder, LabelSet], Tagger],
    out: Path,
    encoder: str = TINY,
    regions: RegionEncoder | None = None,
    word_vectors: Path | None = None,
    stores: tuple[Path, ...] = (),
    optimizer: OptimizerConfig = OptimizerConfig(),
    trainer: TrainerConfig = TrainerConfig(),
    resume: bool = False,
) -> dict[str, Any]:
    """Train a model, choose its checkpoint on dev alone, and score that one on dev and test.

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
        stores: folders of feature stores of the posts' images, read beside the files of evidence.
        optimizer: how weights learn.
        trainer: how long and on what.
        resume: take up a killed run of this folder again; give the same options.

    Returns:
        what result.json holds.
    """
    import lightning
    import torch

    from mnergraph.data.processor import Processor, ProcessorConfig
    from mnergraph.features.text.nearest_words import NearestWords
    from mnergraph.training.build import build_model, text_encoder
    from mnergraph.training.evaluate import evaluate as score_posts
    from mnergraph.training.fit import fit

    began = time.perf_counter()
    splits = {name: data(root, name).with_stores(*stores) for name in ("train", "valid", "test")}
    cache = Path(splits["train"].processed_dir)
    lightning.seed_everything(trainer.seed, verbose=False)
    # refuses here, before hours are spent, what could not be saved afterwards
    processor = Processor(ProcessorConfig.of(splits["train"].evidence, regions))
    similar = None
    if word_vectors is not None:
        words = (word for posts in splits.values() for pair in posts.pairs for word in pair.words)
        similar = NearestWords.from_file(word_vectors, words, cache=cache, progress=trainer.progress)
    learned = splits["train"]
    reads = text_encoder(encoder, learned.pairs)
    tagger = build_model(model, reads, LabelSet(learned.tags), learned.pairs, regions=regions, nearest_words=similar)
    node_types = tagger.builder.node_types.values()
    splits = {name: posts.with_node_evidence(node_types) for name, posts in splits.items()}
    tagger.hparams()  # refuses here an argument that could not be saved
    pairs = {
        name: processor.add_regions(posts.pairs, cache=cache, progress=trainer.progress)
        for name, posts in splits.items()
    }
    print(f"{type(tagger).__name__} on {type(splits['train']).__name__}\n{tagger.schema}", flush=True)
    fit(tagger, pairs["train"], pairs["valid"], out, optimizer=optimizer, trainer=trainer, resume=resume)
    scores = {name: score_posts(tagger, pairs[name], progress=trainer.progress)[0] for name in ("valid", "test")}

    facts = _facts(splits)
    tagger.metadata = {
        "data": facts,
        "scores": {name: found.to_dict() for name, found in scores.items()},
        "tables": {name: found.table() for name, found in scores.items()},
    }
    tagger.processor_config = processor.config
    tagger.save_pretrained(out / MODEL)
    result = {
        "model": type(tagger).__name__,
        "settings": tagger.hparams(),
        "encoder": tagger.encoder.name,
        "word_vectors": word_vectors and word_vectors.name,
        "data": facts,
        "optimizer": vars(optimizer),
        "trainer": vars(trainer),
        "scores": tagger.metadata["scores"],
        "seconds": round(time.perf_counter() - began, 1),
        "versions": {name: version(name) for name in ("mnergraph", "torch", "torch-geometric", "transformers")},
        "machine": {"python": platform.python_version(), "threads": torch.get_num_threads()},
    }
    (out / RESULT).write_text(json.dumps(result, indent=2, default=str) + "\n", encoding="utf-8")
    for name, found in scores.items():
        print(f"\n{name}\n{found.table()}")
    print(f"\nmodel: {out / MODEL}\nresult: {out / RESULT}")
    return result


def _facts(splits: dict[str, PostDataset]) -> dict[str, Any]:
    """Which posts these were: what a result must say."""
    from mnergraph.features.vision.image_io import file_sha256

    return {
        "name": type(splits["train"]).__name__,
        **{f"{name} posts": len(posts) for name, posts in splits.items()},
        **{f"{name} sha256": file_sha256(posts.raw_paths[0]) for name, posts in splits.items()},
    }
