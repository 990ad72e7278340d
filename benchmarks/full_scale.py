"""The whole road at a benchmark's size, with generated images and small random networks, named so.

    uv run python -m benchmarks.full_scale --posts TWITTER2017 --root DIR --out benchmarks/results/full_scale.json

Twitter-2017's posts get drawn images of real sizes (``--sizes``, lines with id, width and height). Then
`benchmarks.reproduce`, a process for each system, verifies them, extracts what the five systems read and trains each
for an epoch. The result file has time, peak memory and disk of every stage. Random networks find nothing that means
anything: the figures are about the stages, not the systems. With ``--share 0.1`` a tenth of the posts, to see what
grows with them.
"""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import transformers as hf
import yaml
from jsonargparse import auto_cli
from tqdm.auto import tqdm

from benchmarks.common import commit, disk_bytes, machine, measure, run_command, write_result
from benchmarks.experiment import SETTINGS, read
from benchmarks.reproduce import STAGES
from mnergraph.cli.malloc import disable_malloc_trim
from mnergraph.data.datasets.base import SPLITS, find_text_file
from mnergraph.data.formats.conll import read_conll, write_conll
from mnergraph.data.lookalikes.drawing import draw_image
from mnergraph.data.lookalikes.sketches import SKETCHES
from mnergraph.features.vision.grounding import GENERIC_QUERIES
from mnergraph.pair import Pair

#: The five systems, whose settings are taken but for encoder, extractors and epochs.
SYSTEMS = ("UMT", "UMGF", "GEI", "MGCMT", "HamLearning")
#: Where no sizes are given.
DEFAULT_SIZES = ((600, 450), (600, 800), (500, 500), (1024, 768))
#: Objects drawn in an image, pixels of the square in which they are drawn, and width of the random word vectors.
OBJECTS, SIDE, WIDTH = (2, 5), 400, 50


def full_scale(
    posts: Path,
    root: Path,
    out: Path,
    sizes: Path | None = None,
    share: float = 1.0,
    epochs: int = 1,
    batch_size: int = 16,
    workers: int = 0,
    seed: int = 0,
    progress: bool = True,
) -> dict[str, Any]:
    """Make the images, run the road, and write time, memory and disk by stage.

    Args:
        posts: folder of Twitter-2017's texts.
        root: folder of all that is made.
        out: the result file.
        sizes: JSON lines with ``width`` and ``height`` of real images, drawn from for each post.
        share: share of the posts of every split.
        epochs: of every training.
        batch_size: images at once in extraction.
        workers: processes that open images in extraction.
        seed: of images, networks and training.
        progress: whether to show progress bars.

    Returns:
        the content of the result file.
    """
    root.mkdir(parents=True, exist_ok=True)
    stages: list[dict[str, Any]] = []

    def make() -> None:
        for split in SPLITS:
            path = find_text_file(posts, split)
            if path is None:
                raise FileNotFoundError(f"{posts} has no text of {split}")
            if share == 1:
                shutil.copy(path, root / f"{split}.txt")
            else:
                pairs = read_conll(path)
                write_conll(pairs[: max(1, round(share * len(pairs)))], root / f"{split}.txt")
        draw(root, _sizes(sizes), seed=seed, progress=progress)

    usage = measure(make)
    images = disk_bytes(root / "images")
    stages.append(
        {"stage": "texts and drawn images", "seconds": usage.seconds, "peak MiB": usage.peak_mib, "bytes": images}
    )
    settings, vectors = root / "settings", root / "random_vectors.txt"
    write_settings(root, settings, epochs=epochs, seed=seed, progress=progress)
    _write_vectors(root, vectors, seed)
    results = root / "results"
    (results / STAGES).unlink(missing_ok=True)
    for system in SYSTEMS:  # each in a process of its own, whose memory is that of its stages
        options = {"row": f"{system}/Twitter2017", "root": root, "seeds": f"[{seed}]", "settings": settings}
        options |= {"word_vectors": vectors, "batch_size": batch_size, "workers": workers}
        arguments = [part for name, value in options.items() for part in (f"--{name}", str(value))]
        subprocess.run([sys.executable, "-m", "benchmarks.reproduce", *arguments], check=True)
    stages += [json.loads(line) for line in (results / STAGES).read_text(encoding="utf-8").splitlines()]
    result = {
        "benchmark": "full scale",
        "machine": machine(),
        "commit": commit(),
        "posts": {split: len(read_conll(root / f"{split}.txt")) for split in SPLITS},
        "images": len(list((root / "images").iterdir())),
        "stores": disk_bytes(root / "stores"),
        "stages": [
            {**stage, "seconds": round(stage["seconds"], 1), "peak MiB": round(stage["peak MiB"])} for stage in stages
        ],
    }
    write_result(result, out)
    print(stage_table(result))
    return result


def draw(root: Path, sizes: Sequence[tuple[int, int]], *, seed: int, progress: bool) -> None:
    """Draw an image of some objects for every post that has none yet, of one of the sizes."""
    folder = root / "images"
    folder.mkdir(exist_ok=True)
    labels = sorted(SKETCHES)
    ids = [pair.id for split in SPLITS for pair in read_conll(root / f"{split}.txt")]
    for id in tqdm(ids, "drawing", unit="image", disable=not progress):
        path = folder / f"{id}.jpg"
        if path.exists():
            continue
        rng = random.Random(f"{seed} {id}")
        image, _ = draw_image(rng.sample(labels, rng.randint(*OBJECTS)), SIDE, rng)
        image.resize(rng.choice(sizes)).save(path, quality=85)


def write_settings(root: Path, folder: Path, *, epochs: int, seed: int, progress: bool) -> None:
    """Write the settings of the five systems with tiny random networks in the place of theirs."""
    folder.mkdir(exist_ok=True)
    regions = {"backbone": "resnet18", "weights": "random", "size": 64}
    grid = {
        "class_path": "mnergraph.features.vision.backbones.BackboneGrid",
        "init_args": {"backbone": "resnet18", "weights": "random"},
    }
    rcnn = {
        "class_path": "mnergraph.features.vision.detectors.RCNNDetector",
        "init_args": {"detector": "fasterrcnn_mobilenet_v3_large_320_fpn", "weights": "random", "threshold": 0.0},
    }
    torch.manual_seed(seed)
    detr = {
        "class_path": "mnergraph.features.vision.detr.DETRDetector",
        "init_args": {
            "model": _detr(root / "networks" / "tiny-random-detr"),
            "region_encoder": regions,
            "threshold": 0.0,
        },
    }
    grounder = {
        "class_path": "mnergraph.features.vision.grounding.PhraseGrounder",
        "init_args": {
            "model": _grounder(root / "networks" / "tiny-random-grounding-dino"),
            "region_encoder": regions,
            "threshold": 0.0,
        },
    }
    extractors = {
        "UMT": [grid],
        "UMGF": [grounder],
        "GEI": [grid, detr],
        "MGCMT": [grid, rcnn],
        "HamLearning": [grid, rcnn],
    }
    whole = {read(path).system: path for path in SETTINGS.glob("*_twitter2017.yaml")}
    for system, extract in extractors.items():
        values = yaml.safe_load(whole[system].read_text(encoding="utf-8"))
        values |= {"encoder": "tiny-random", "extract": extract}
        values["arguments"] = {**values["arguments"], "num_heads": 4}
        values["trainer"] = {**values["trainer"], "epochs": epochs, "progress": progress}
        # random detectors' objects have no region vectors and no classes that mean anything
        values["allow_missing"] = ["region features", "object classes"]
        values["regions"] = regions if system == "HamLearning" else None
        (folder / whole[system].name).write_text(yaml.safe_dump(values), encoding="utf-8")


_SMALL = {"d_model": 64, "encoder_layers": 1, "decoder_layers": 2, "num_queries": 20, "encoder_attention_heads": 2,
          "decoder_attention_heads": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}  # fmt: skip
_SIDES = {"shortest_edge": 320, "longest_edge": 533}


def _detr(folder: Path) -> str:
    """Save a small DETR with random weights and return its folder."""
    if not folder.is_dir():
        body = hf.ResNetConfig(
            embedding_size=16,
            hidden_sizes=[16, 32, 64, 64],
            depths=[1, 1, 1, 1],
            layer_type="basic",
            out_features=["stage4"],
        )
        hf.DetrForObjectDetection(hf.DetrConfig(**_SMALL, backbone_config=body)).save_pretrained(folder)
        hf.DetrImageProcessor(size=_SIDES).save_pretrained(folder)
    return str(folder)


def _grounder(folder: Path) -> str:
    """Save a small Grounding DINO with random weights and return its folder."""
    if not folder.is_dir():
        tokenizer = letter_tokenizer(GENERIC_QUERIES)
        config = hf.GroundingDinoConfig(
            **_SMALL,
            backbone_config=hf.SwinConfig(
                image_size=320,
                embed_dim=16,
                depths=[1, 1, 1, 1],
                num_heads=[1, 1, 2, 2],
                out_features=["stage2", "stage3", "stage4"],
            ),
            text_config=hf.BertConfig(
                vocab_size=1030,  # its special pieces have the ids of BERT's
                hidden_size=32,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=64,
            ),
        )
        hf.GroundingDinoForObjectDetection(config).save_pretrained(folder)
        hf.GroundingDinoProcessor(hf.GroundingDinoImageProcessor(size=_SIDES), tokenizer).save_pretrained(folder)
    return str(folder)


def letter_tokenizer(words: Sequence[str], max_length: int = 512) -> hf.PreTrainedTokenizerFast:
    """Return a tokenizer of some words, and of letters for others.

    Special pieces have BERT's ids, which Grounding DINO has in its code for [CLS], [SEP], "." and "?".
    """
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

    ids = {"[PAD]": 0, "[UNK]": 100, "[CLS]": 101, "[SEP]": 102, ".": 1012, "?": 1029}
    free = (index for index in range(1, 1029) if index not in ids.values())
    letters = [chr(code) for code in range(33, 127)]
    for piece in (*words, *letters, *("##" + letter for letter in letters)):
        if piece not in ids:
            ids[piece] = next(free)
    inner = Tokenizer(models.WordPiece(ids, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    inner.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 101), ("[SEP]", 102)]
    )
    return hf.PreTrainedTokenizerFast(
        tokenizer_object=inner,
        model_max_length=max_length,
        pad_token="[PAD]",
        unk_token="[UNK]",
        cls_token="[CLS]",
        sep_token="[SEP]",
    )


def _sizes(path: Path | None) -> list[tuple[int, int]]:
    """Return the width and height of every line of a file, or some usual ones."""
    if path is None:
        return list(DEFAULT_SIZES)
    lines = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [(line["width"], line["height"]) for line in lines]


def _write_vectors(root: Path, path: Path, seed: int) -> None:
    """Write random word vectors of all words of the posts, in word2vec's text format."""
    pairs: list[Pair] = [pair for split in SPLITS for pair in read_conll(root / f"{split}.txt")]
    words = sorted({word for pair in pairs for word in pair.words if len(word.split()) == 1})
    vectors = torch.randn(len(words), WIDTH, generator=torch.Generator().manual_seed(seed))
    lines = [f"{len(words)} {WIDTH}"]
    lines += [
        f"{word} " + " ".join(f"{value:.4f}" for value in row)
        for word, row in zip(words, vectors.tolist(), strict=True)
    ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def stage_table(result: dict[str, Any]) -> str:
    """Return the stages as a Markdown table."""
    lines = ["| stage | time | images or posts a second | peak memory | disk |", "|---|--:|--:|--:|--:|"]
    total = sum(result["posts"].values())
    for stage in result["stages"]:
        minutes, seconds = divmod(round(stage["seconds"]), 60)
        rate = total / stage["seconds"] if stage["seconds"] else 0.0
        cells = f"{minutes}:{seconds:02} | {rate:.1f} | {stage['peak MiB']} MiB | {stage['bytes'] / 1e6:.1f} MB"
        lines.append(f"| {stage['stage']} | {cells} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Run `full_scale` with the arguments of the command line."""
    disable_malloc_trim()
    auto_cli(full_scale, as_positional=False, args=arguments)


if __name__ == "__main__":
    run_command(main)
