r"""Speed of every system: a training step and prediction, in whole and by part. Needs a quiet machine.

    uv run python -m benchmarks.speed --out benchmarks/results/speed.json

A system is measured with its paper's arguments (`settings/`), a text encoder of random weights, pictures'
vectors of width 2048 and made-up posts, in batches by length as in training. Medians; what is compared was
timed in turns within this one run.
"""

from __future__ import annotations

import random
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jsonargparse import auto_cli
from torch_geometric.data import Batch

from benchmarks.building import build
from benchmarks.common import LABELS, allocated, commit, flops, machine, random_encoder, some_posts, timed, write_result
from benchmarks.experiment import SETTINGS, Experiment, read
from benchmarks.steps import Precision, prediction_calls, training_calls
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data import read_conll
from mnergraph.models import MODELS, Tagger
from mnergraph.pair import Pair
from mnergraph.training import GraphLoader
from mnergraph.training.build import text_encoder

#: Width, layers and heads of the text encoders.
SHAPES = {"MiniLM": (384, 6, 12), "BERT-base": (768, 12, 12)}
ROWS = {"none": 0, "vector": 1, "grid": 49}
VECTORS = 2048


def main(
    out: Path | None = None,
    systems: tuple[str, ...] | None = None,
    settings: Path = SETTINGS,
    shapes: dict[str, tuple[int, int, int]] = SHAPES,
    precisions: tuple[Precision, ...] = ("fp32", "bf16"),
    root: Path | None = None,
    batch_size: int = 16,
    batches: int = 4,
    repeats: int = 5,
    device: str = "cpu",
) -> dict[str, Any]:
    """Measures the systems, prints a table, and writes all figures if asked.

    Args:
        out: the result file, written after each system.
        systems: which; all those with settings for Twitter-2015 without it.
        settings: folder of the settings files.
        shapes: width, layers and heads of the text encoders, by name.
        precisions: fp32, bf16 (autocast) or both.
        root: folder of Twitter-2015, for the lengths of its training posts; without it lengths are drawn from
            a log-normal distribution of like mean and deviation (16 and 5.5 words).
        batch_size: posts at once.
        batches: how many batches a measured pass goes through.
        repeats: passes of which the median counts.
        device: cpu or cuda.
    """
    lengths = twitter_lengths() if root is None else [len(pair.words) for pair in read_conll(root / "train.txt")]
    result: dict[str, Any] = {
        "benchmark": "speed",
        "machine": machine(),
        "commit": commit(),
        "device": device,
        "batch size": batch_size,
        "batches": batches,
        "repeats": repeats,
        "lengths": "log-normal" if root is None else "Twitter-2015 train",
        "systems": {},
    }
    for experiment in chosen(settings, systems):
        posts = posts_for(experiment, batch_size * batches, lengths)
        found = result["systems"][experiment.system] = {}
        for shape, size in shapes.items():
            for precision in precisions:
                torch.manual_seed(0)
                model = model_for(experiment, posts, size).to(device)
                found[f"{shape}, {precision}"] = measure(model, posts, precision, batch_size, repeats, device)
                print(
                    _line(experiment.system, f"{shape}, {precision}", found[f"{shape}, {precision}"]),
                    flush=True,
                )
        result["peak MiB of the process"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if out is not None:
            write_result(result, out)
    return result


def measure(
    model: Tagger, posts: Sequence[Pair], precision: Precision, batch_size: int, repeats: int, device: str
) -> dict[str, Any]:
    """Posts per second, memory, shares of the parts, and the floating-point rate against the encoder alone.

    ``shares`` are of the seconds of a step, or of a prediction; ``stack`` is what the encoder alone and the
    CRFs alone leave. Models without a Hugging Face encoder have neither shares of it nor a rate: an LSTM's
    products are not counted.
    """
    batches: list[Batch] = [
        batch.to(device) for batch in GraphLoader(model.builder.build_all(posts), batch_size, shuffle=True)
    ]
    training = training_calls(model, batches, precision)
    seconds = timed(training, repeats, device)
    memory = {"training": allocated(training["step"], device)}
    operations = {name: flops(training[name]) for name in ("step", "encoder") if name in training}
    prediction = prediction_calls(model, batches, precision)
    predicting = timed(prediction, repeats, device)
    memory["prediction"] = allocated(prediction["predict"], device)
    found: dict[str, Any] = {
        "posts per second": {
            "training": len(posts) / seconds["step"],
            "prediction": len(posts) / predicting["predict"],
        },
        "peak MiB beside weights and optimiser": memory,
        "seconds of a pass": {"training": seconds, "prediction": predicting},
        "parameters": sum(weight.numel() for weight in model.parameters()),
    }
    if "encoder" in seconds:
        rates = {name: count / seconds[name] / 1e9 for name, count in operations.items()}
        found |= {
            "shares": {
                "training": _shares(seconds["encoder"], seconds["losses"], seconds["step"]),
                "prediction": _shares(predicting["encoder"], predicting["decode"], predicting["predict"]),
            },
            "GFLOP/s": rates,
            "share of the encoder's rate": rates["step"] / rates["encoder"],
        }
    return found


def twitter_lengths(count: int = 4000, seed: int = 0) -> list[int]:
    """Words of so many posts, of about the mean and deviation of Twitter-2015's training posts."""
    chance = random.Random(seed)
    return [min(40, max(3, round(chance.lognormvariate(2.72, 0.35)))) for _ in range(count)]


def _shares(encoder: float, crf: float, whole: float) -> dict[str, float]:
    return {
        "encoder": encoder / whole,
        "stack": (whole - encoder - crf) / whole,
        "CRF": crf / whole,
    }


def chosen(settings: Path, systems: Sequence[str] | None) -> list[Experiment]:
    """The experiments on Twitter-2015, in the order of their files."""
    found = [read(path) for path in sorted(settings.glob("*_twitter2015.yaml"))]
    names = [experiment.system for experiment in found]
    strange = sorted(set(systems or ()) - set(names))
    if strange:
        raise ValueError(f"no settings of {', '.join(strange)} for Twitter2015; there is {', '.join(names)}")
    return [experiment for experiment in found if systems is None or experiment.system in systems]


def posts_for(experiment: Experiment, count: int, lengths: Sequence[int]) -> list[Pair]:
    """Made-up posts with the pictures' and regions' vectors that the experiment asks for."""
    rows = ROWS[experiment.image]
    detects = experiment.regions is not None or any("objects" in one.provides for one in experiment.extract)
    image, region = (rows, VECTORS) if rows else None, VECTORS if detects else None
    return some_posts(count, lengths=lengths, image=image, region=region)


def model_for(experiment: Experiment, posts: Sequence[Pair], size: tuple[int, int, int]) -> Tagger:
    """The system over a random text encoder of this shape, or over word vectors where it reads such."""
    quiet = replace(experiment, trainer=replace(experiment.trainer, progress=False))
    words = experiment.encoder.startswith("random:")
    encoder = text_encoder(experiment.encoder, posts, MODELS[experiment.model]) if words else random_encoder(*size)
    with tempfile.TemporaryDirectory() as folder:
        table = Path(folder) / "vectors.txt"
        table.write_text(_vectors(posts), encoding="utf-8")
        return build(quiet, {"train": posts}, LABELS, encoder=encoder, word_vectors=table)


def _vectors(posts: Sequence[Pair], width: int = 200) -> str:
    """A table of random vectors of all words, in word2vec's text format."""
    chance = random.Random(0)
    words = sorted({word for pair in posts for word in pair.words})
    rows = (" ".join([word, *(f"{chance.uniform(-1, 1):.3f}" for _ in range(width))]) for word in words)
    return f"{len(words)} {width}\n" + "\n".join(rows) + "\n"


def _line(system: str, how: str, found: dict[str, Any]) -> str:
    """The figures in short."""
    speed, share = found["posts per second"], found.get("share of the encoder's rate")
    rate = "" if share is None else f", {100 * share:.0f}% of the encoder's rate"
    both = f"{speed['training']:.1f} posts/s training, {speed['prediction']:.1f} predicting"
    return f"{system}, {how}: {both}{rate}"


if __name__ == "__main__":
    disable_malloc_trim()
    auto_cli(main, as_positional=False)
