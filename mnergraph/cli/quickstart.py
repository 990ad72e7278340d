"""`mnergraph quickstart`: make Lookalikes, train UMGF and BERT-CRF, compare, predict one post."""

from __future__ import annotations

import json
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import lightning

from mnergraph.data.lookalikes.dataset import Lookalikes, vocabulary
from mnergraph.data.processor import Processor, ProcessorConfig
from mnergraph.features.text.encoder import TINY, tiny_encoder
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.inference.predictor import Predictor
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.text_only import BERTCRF
from mnergraph.models.umgf.model import UMGF
from mnergraph.pair import Pair
from mnergraph.training.build import build_model
from mnergraph.training.config import OptimizerConfig, TrainerConfig
from mnergraph.training.evaluate import evaluate
from mnergraph.training.fit import fit

#: Small enough for two cores and two minutes.
CROPS = RegionEncoder(backbone="resnet18", weights="random", size=48)


OPTIMIZER = OptimizerConfig(encoder_lr=3e-3, lr=3e-3)


UMGF_SETTINGS: dict[str, Any] = {"hidden_size": 64, "num_heads": 4, "dropout": 0.1, "label_features": False}


def quickstart(
    folder: Path | None = None,
    seed: int = 0,
    sizes: tuple[int, int, int] = (1600, 200, 400),
    epochs: int = 10,
    image_irrelevant_ratio: float = 0.1,
    image_missing_ratio: float = 0.1,
    progress: bool = True,
) -> dict[str, float]:
    """Makes the drawn benchmark Lookalikes, trains UMGF and BERT-CRF on it, prints both beside the ceilings.

    Its text encoder is tiny and randomly initialized, the image backbone is a random ResNet-18: nothing
    is downloaded.

    Args:
        folder: where posts, checkpoints and models go; without it a temporary folder, deleted at the end.
        seed: of posts, weights and order.
        sizes: how many posts train, valid and test hold.
        epochs: passes over the training posts.
        image_irrelevant_ratio: share of the images that determine no entity's type.
        image_missing_ratio: share of the posts without an image.
        progress: whether to show progress bars.

    Returns:
        lenient F1 on test by model, and the two ceilings.
    """
    with tempfile.TemporaryDirectory() as spare:
        return _run(folder or Path(spare), seed, sizes, epochs, image_irrelevant_ratio, image_missing_ratio, progress)


def _run(
    folder: Path,
    seed: int,
    sizes: tuple[int, int, int],
    epochs: int,
    image_irrelevant_ratio: float,
    image_missing_ratio: float,
    progress: bool,
) -> dict[str, float]:
    root = folder / "lookalikes"
    draw = partial(
        Lookalikes,
        root,
        seed=seed,
        sizes=sizes,
        image_irrelevant_ratio=image_irrelevant_ratio,
        image_missing_ratio=image_missing_ratio,
    )
    splits = {name: draw(split=name, progress=progress) for name in ("train", "valid", "test")}
    processor = Processor(ProcessorConfig.of(splits["train"].evidence, CROPS))
    pairs = {
        name: processor.add_regions(posts.pairs, cache=root / "processed", progress=progress)
        for name, posts in splits.items()
    }
    labels, test = LabelSet(splits["train"].tags), splits["test"]
    trainer = TrainerConfig(epochs=epochs, batch_size=32, seed=seed, progress=progress, save_every=0)

    found: dict[str, float] = {}
    tables: dict[str, str] = {}
    models: dict[str, Tagger] = {}
    for name in ("BERT-CRF", "UMGF"):
        print(f"\nTraining {name} with the {TINY} encoder", flush=True)
        lightning.seed_everything(seed, verbose=False)
        encoder = tiny_encoder(vocabulary())
        if name == "UMGF":
            model = build_model(UMGF, encoder, labels, pairs["train"], regions=CROPS, arguments=UMGF_SETTINGS)
        else:
            model = build_model(BERTCRF, encoder, labels, pairs["train"])
        fit(model, pairs["train"], pairs["valid"], folder / name, optimizer=OPTIMIZER, trainer=trainer)
        scores, _ = evaluate(model, pairs["test"], progress=progress)
        model.metadata = {
            "data": {"name": "Lookalikes", "seed": seed, "sizes": sizes, "license": test.license},
            "scores": {"test": scores.to_dict()},
            "tables": {"test": scores.table()},
        }
        model.processor_config = ProcessorConfig.of(test.evidence, CROPS if name == "UMGF" else None)
        model.save_pretrained(folder / name / "model")
        models[name], tables[name], found[name] = model, scores.table(), scores.lenient.f1

    found |= {"text ceiling": test.ceiling.accuracy, "image ceiling": test.image_ceiling.accuracy}
    for name, table in tables.items():
        print(f"\n{name} on Lookalikes' test posts\n{table}")
    percent = {name: f"{100 * value:.1f}" for name, value in found.items()}
    print(
        f"\nF1 in percent: BERT-CRF {percent['BERT-CRF']}, UMGF {percent['UMGF']}."
        f"\nWhat words alone can reach: {percent['text ceiling']}, give or take "
        f"{100 * test.ceiling.spread:.1f} by guessing. With the images: {percent['image ceiling']}."
    )
    _print_example(models["UMGF"], splits["test"].pairs)
    return found


def _print_example(model: Tagger, pairs: list[Pair]) -> None:
    """Print the predictions for one post of the test split, with its image and without."""
    pair = next((p for p in pairs if p.image_path is not None and any(tag != "O" for tag in p.labels or ())), pairs[0])
    with_image, without = Predictor(model)([pair, pair.without_image()])
    objects = ", ".join(item.label for item in pair.objects) or "nothing"
    print(f"\nOne post: {' '.join(pair.words)}\n  objects in its image: {objects}")
    for name, line in (("with its image", with_image), ("without", without)):
        entities = [f"{' '.join(e['words'])} = {e['type']} ({e['score']:.2f})" for e in line["entities"]]
        print(f"  UMGF {name}: {'; '.join(entities) or 'no entity'}")
    print("  as `mnergraph predict` writes it: " + json.dumps(with_image, ensure_ascii=False))
