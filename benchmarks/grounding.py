r"""Grounded Lookalikes: entities with their boxes, in two steps and jointly, against chance, attention and the ceiling.

    uv run python -m benchmarks.grounding --out benchmarks/results/grounding.json
    uv run python -m benchmarks.grounding --systems '[BERT-CRF]' --hows '[joint]' --setup.encoder MINILM \
        --setup.epochs 15 --setup.encoder_lr 1e-4 --setup.lr 3e-4 --setup.precision bf16-mixed \
        --out RESULTS/grounding_minilm.json

Each system of `SYSTEMS` is trained with its Lookalikes settings on grounded Lookalikes, where objects are labels and
boxes of an oracle detector (`docs/data.md`): once for its tags alone, followed by an EVG that is trained apart, and
once with `Grounding`. A result file gets the seeds and systems that it lacks.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import lightning
import numpy as np
from jsonargparse import auto_cli

from benchmarks.building import build
from benchmarks.common import commit, encoder_name, machine, run_command, write_result
from benchmarks.experiment import SETTINGS, Experiment, read
from benchmarks.posts import Files, Posts, compute_features, load
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data import Lookalikes
from mnergraph.explain import record_attention
from mnergraph.graph import collate
from mnergraph.metrics.grounding import METRICS, GroundingScores, grounding_counts, score_grounding
from mnergraph.metrics.significance import compare
from mnergraph.models import EVG, Tagger
from mnergraph.nn.modes import evaluation_mode
from mnergraph.pair import Box, GroundedEntity, Pair
from mnergraph.training import fit
from mnergraph.training.build import build_model, text_encoder
from mnergraph.training.evaluate import evaluate_grounding

#: The settings file of every system.
SYSTEMS = {
    "BERT-CRF": "yu2020_bert-crf_lookalikes.yaml",
    "UMT": "yu2020_umt_lookalikes.yaml",
    "UMGF": "zhang2021_umgf_lookalikes.yaml",
    "HamLearning": "liu2023_hamlearning_lookalikes.yaml",
    "GEI": "zhao2022_gei_lookalikes.yaml",
}
#: Settings of the joint systems: types come from the regions, as words alone do not tell them.
JOINT: dict[str, Any] = {"types": "regions", "weight": 20.0, "types_weight": 4.0}
#: Those whose words or entities attend to objects.
ATTENDING = ("UMGF", "HamLearning", "GEI")
How = Literal["two steps", "joint"]
HOWS: tuple[How, ...] = get_args(How)


@dataclass(frozen=True)
class Setup:
    """What every training here has in the place of its settings file's.

    Args:
        epochs: of a training.
        encoder: name or folder of the text encoder.
        encoder_lr: the encoder's learning rate.
        lr: that of the other parameters.
        precision: Lightning's.
    """

    epochs: int = 40
    encoder: str = "tiny-random"
    encoder_lr: float = 1e-3
    lr: float = 1e-3
    precision: str = "32-true"


def experiment_of(system: str, setup: Setup, grounding: Mapping[str, Any] | None) -> Experiment:
    """Return a system's Lookalikes settings, with objects as labels and boxes, and with grounding if it is joint."""
    experiment = read(SETTINGS / SYSTEMS[system])
    return replace(
        experiment,
        encoder=setup.encoder,
        regions=None,
        object_labels=None,
        arguments=experiment.arguments | ({} if grounding is None else {"grounding": dict(grounding)}),
        optimizer=replace(experiment.optimizer, encoder_lr=setup.encoder_lr, lr=setup.lr),
        trainer=replace(
            experiment.trainer, epochs=setup.epochs, precision=setup.precision, progress=False, logger="none"
        ),
        data_options=experiment.data_options | {"grounded": True},
    )


def train(experiment: Experiment, posts: Posts, seed: int) -> Tagger:
    """Return the system trained with a seed."""
    lightning.seed_everything(seed, verbose=False)
    model = build(experiment, posts.splits, posts.labels)
    return fitted(model, experiment, posts, seed)


def train_evg(experiment: Experiment, posts: Posts, seed: int) -> EVG:
    """Return EVG trained on the gold entities, with the optimizer and epochs of an experiment."""
    lightning.seed_everything(seed, verbose=False)
    encoder = text_encoder(experiment.encoder, posts.splits["train"], EVG)
    model = build_model(EVG, encoder, posts.labels, [], arguments={"num_heads": 4})
    assert isinstance(model, EVG)
    fitted(model, experiment, posts, seed)
    return model


def fitted(model: Tagger, experiment: Experiment, posts: Posts, seed: int) -> Tagger:
    """Return the model with the weights of its best epoch."""
    train, valid = posts.splits["train"], posts.splits["valid"]
    with tempfile.TemporaryDirectory() as folder:
        trainer = replace(experiment.trainer, seed=seed)
        fit(model, train, valid, Path(folder), optimizer=experiment.optimizer, trainer=trainer)
    return model


def by_attention(model: Tagger, pairs: Sequence[Pair]) -> list[list[GroundedEntity]]:
    """Return the model's entities, each with the box that it attends to most; none in a post without boxes."""
    found = []
    with evaluation_mode(model):
        for pair in pairs:
            with record_attention(model) as record:
                [entities] = model.decode_entities(model(collate([model.builder(replace(pair, labels=None))])))
            grounded = []
            for entity in entities:
                attention = record.posts[0].attention_to((entity.start, entity.end)) if pair.objects else None
                boxes: tuple[Box, ...] = ()
                if attention is not None and len(attention):
                    box = pair.objects[int(attention[: len(pair.objects)].argmax())].box
                    boxes = () if box is None else (box,)
                grounded.append(GroundedEntity(entity.start, entity.end, entity.type, boxes))
            found.append(grounded)
    return found


def by_chance(pairs: Sequence[Pair], seed: int) -> list[list[GroundedEntity]]:
    """Return the gold entities, each with one of the objects or none, all as probable."""
    numbers = np.random.default_rng(seed)
    found = []
    for pair in pairs:
        choices: list[tuple[Box, ...]] = [(), *((item.box,) for item in pair.objects if item.box is not None)]
        gold = pair.grounding or ()
        found.append([replace(entity, boxes=choices[numbers.integers(len(choices))]) for entity in gold])
    return found


def result_of(scores: GroundingScores, predicted: Sequence[Sequence[GroundedEntity]], pairs: Sequence[Pair]) -> Any:
    """Return scores, and the counts by post that significance is tested on, as plain data."""
    counts = grounding_counts([pair.grounding or () for pair in pairs], predicted)
    by_post = {name: _lines(counts[:, index]) for index, name in enumerate(METRICS)}
    return {**scores.to_dict(), "counts by post": by_post}


def _lines(counts: np.ndarray) -> list[str]:
    """Return the right, predicted and gold entities of every post, ``[posts, 3]``, as a text of numbers each."""
    return [" ".join(map(str, column)) for column in counts.T.tolist()]


def one_seed(
    result: dict[str, Any], seed: int, setup: Setup, systems: Sequence[str], hows: Sequence[How], root: Path, out: Path
) -> None:
    """Train what a seed lacks, and write the result after each model."""
    runs = result["seeds"].setdefault(str(seed), {})
    evg: EVG | None = None
    for system in systems:
        for how in hows:
            joint = how == "joint"
            name = f"{system}, joint" if joint else f"{system} + EVG"
            if name in runs:
                continue
            experiment = experiment_of(system, setup, result["grounding"] if joint else None)
            posts = compute_features(experiment, load(experiment, Files(root)))
            test = posts.splits["test"]
            start = time.perf_counter()
            model = train(experiment, posts, seed)
            seconds = time.perf_counter() - start
            if not joint and evg is None:
                evg = train_evg(experiment, posts, seed)
            ground = None if joint or evg is None else evg.ground
            scores, predicted = evaluate_grounding(model, test, ground=ground, progress=False)
            runs[name] = result_of(scores, predicted, test) | {"training seconds": round(seconds, 1)}
            if not joint and system in ATTENDING:
                attended = by_attention(model, test)
                scores = score_grounding([pair.grounding or () for pair in test], attended)
                runs[f"{system}, attention"] = result_of(scores, attended, test)
            print(f"seed {seed} {name}: GMNER {100 * runs[name]['gmner']['f1']:.2f}", flush=True)
            if "chance, gold entities" not in runs:
                drawn = by_chance(test, seed)
                scores = score_grounding([pair.grounding or () for pair in test], drawn)
                runs["chance, gold entities"] = result_of(scores, drawn, test)
            write(result, out)


def write(result: dict[str, Any], out: Path) -> None:
    """Write the result with means over the seeds and the joint systems' differences to two steps."""
    names = dict.fromkeys(name for runs in result["seeds"].values() for name in runs)
    result["means"] = {name: means(name, result["seeds"].values()) for name in names}
    result["joint against two steps"] = {
        system: difference(result["seeds"].values(), f"{system}, joint", f"{system} + EVG")
        for system in SYSTEMS
        if all({f"{system}, joint", f"{system} + EVG"} <= {*runs} for runs in result["seeds"].values())
    }
    write_result(result, out)


def means(name: str, seeds: Any) -> dict[str, Any]:
    """Return mean and deviation over the seeds of each metric's F1 in percent, and of the parts of grounding."""
    runs = [runs[name] for runs in seeds if name in runs]
    found: dict[str, Any] = {}
    for metric in ("gmner", "mner", "eeg", "groundability", "localization"):
        values = [100 * (run[metric]["f1"] if isinstance(run[metric], Mapping) else run[metric]) for run in runs]
        deviation = statistics.stdev(values) if len(values) > 1 else None
        found[metric] = {"mean": statistics.mean(values), "deviation": deviation}
    return found | {"seeds": len(runs)}


def difference(seeds: Any, first: str, second: str) -> dict[str, float]:
    """Return the difference in GMNER F1 of two systems in points, its interval and p, over all seeds."""
    both = [[runs[name]["counts by post"]["GMNER"] for runs in seeds] for name in (first, second)]
    # [runs, posts, 3]
    found = compare(*(np.array([[line.split() for line in run] for run in runs], int).swapaxes(1, 2) for runs in both))
    return {"points": 100 * found.f1, "low": 100 * found.low, "high": 100 * found.high, "p": found.p}


def table(result: Mapping[str, Any]) -> str:
    """Return a result's means as a Markdown table, with the ceilings and the joint systems' gains on two steps."""
    ceiling = {name: f"{100 * value:.1f}" for name, value in result["ceiling"].items()}
    lines = [
        "| | GMNER | MNER | EEG | groundability | localization | joint less two steps, GMNER | p |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
        f"| ceiling | {ceiling['gmner']} | {ceiling['mner']} | {ceiling['eeg']} | | | | |",
        f"| ceiling with all entities predicted | {ceiling['gmner_of_all']} | {ceiling['mner_of_all']} "
        f"| {ceiling['eeg_of_all']} | | | | |",
    ]
    order = ["chance, gold entities"]
    for system in SYSTEMS:
        order += [f"{system}{how}" for how in (", attention", " + EVG", ", joint")]
    for name in (name for name in order if name in result["means"]):
        means = result["means"][name]
        cells = [_mean(means[metric]) for metric in ("gmner", "mner", "eeg", "groundability", "localization")]
        found = result["joint against two steps"].get(name.removesuffix(", joint"))
        gain, p = "", ""
        if found is not None and name.endswith(", joint"):
            gain, p = f"{found['points']:+.1f} [{found['low']:+.1f}, {found['high']:+.1f}]", f"{found['p']:.4f}"
        lines.append(f"| {name} | {' | '.join(cells)} | {gain} | {p} |")
    return "\n".join(lines)


def _mean(found: Mapping[str, float | None]) -> str:
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.1f}"
    return f"{found['mean']:.1f}{deviation}"


def main(
    out: Path = Path("benchmarks/results/grounding.json"),
    root: Path | None = None,
    systems: tuple[str, ...] = tuple(SYSTEMS),
    seeds: tuple[int, ...] = (0, 1, 2),
    hows: tuple[How, ...] = HOWS,
    setup: Setup = Setup(),
    grounding: dict[str, Any] = JOINT,
) -> None:
    """Train and score the systems, and write the result file.

    Args:
        out: the result file; one that is there gets what it lacks.
        root: folder of the generated posts; by default a temporary one.
        systems: those of `SYSTEMS`.
        seeds: of the runs.
        hows: in two steps, jointly, or both.
        setup: encoder, rates and epochs of every training.
        grounding: settings of `Grounding` of the joint systems.

    Raises:
        ValueError: for a system without settings.
    """
    if unknown := [name for name in systems if name not in SYSTEMS]:
        raise ValueError(f"there is no system {unknown[0]!r}; there is {', '.join(SYSTEMS)}")
    disable_malloc_trim()
    with tempfile.TemporaryDirectory() as temporary:
        folder = root or Path(temporary)
        ceiling = Lookalikes(folder, "test", grounded=True, progress=False).grounding_ceiling
        named = asdict(setup) | {"encoder": encoder_name(setup.encoder)}
        facts = {"benchmark": "grounding", **named, "grounding": grounding, "ceiling": vars(ceiling)}
        result: dict[str, Any] = json.loads(out.read_text()) if out.is_file() else {**facts, "seeds": {}}
        if other := [name for name, value in facts.items() if result.get(name) != value]:
            raise ValueError(f"{out} is a result with another {', '.join(other)}; give another --out")
        result |= {"machine": machine(), "commit": commit()}
        for seed in seeds:
            one_seed(result, seed, setup, systems, hows, folder, out)
    print(table(result))


if __name__ == "__main__":
    run_command(lambda: auto_cli(main, as_positional=False))
