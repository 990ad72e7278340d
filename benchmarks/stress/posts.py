"""Odd posts through every text encoder: a line out for each, in order, with offsets that fit."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from benchmarks.encoder_families import FAMILIES
from benchmarks.stress.report import Report, fault_of
from benchmarks.stress.samples import FILLERS, NAMES, TYPES
from mnergraph import BatchConfig, DetectedObject, LabelSet, Pair
from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.inference.predictor import Predictor
from mnergraph.models import UMGF

#: Posts per encoder at size 1.
POSTS = 400

#: Words that tokenizers stumble over.
ODD_WORDS = (
    "\u200b",
    "\ufeff",
    "\u202eabc\u202c",
    "e\u0301\u0301\u0301",
    "\u0301",
    "👩‍👩‍👧",
    "🇫🇷",
    "1️⃣",
    "क्षत्रिय",
    "สวัสดี",
    "北京大学",
    "مرحبا",
    "ﷺ",
    "\x07",
    "\x85",
    "\u2028",
    "\U000e0001",
    "\uffff",
    "[CLS]",
    "[MASK]",
    "<s>",
    "</s>",
    "&amp;",
    "#",
    "@",
    "http://t.co/" + "x" * 200,
    "a" * 3000,
    "Ａ",
    "ß",
    "İ",
    "\\",
    "%s%n",
)
#: A word with half a surrogate pair, with which a post may get an error.
HALF = "\ud83d"


def odd_posts(rng: random.Random, size: float, folder: Path) -> Report:
    """Predict odd posts by an UMGF over each family of text encoders.

    Args:
        rng: the source of chance.
        size: 1 for a few minutes.
        folder: an empty folder.
    """
    report = Report()
    encoders = {"tiny": lambda: tiny_encoder([*NAMES, *FILLERS], hidden_size=16, num_layers=1, heads=2), **FAMILIES}
    names = list(encoders)
    if size < 0.1:  # a short run takes two families, others by another seed
        names = ["tiny", *rng.sample(names[1:], 1)]
    for name in names:
        torch.manual_seed(0)
        encoder: TextEncoderModel = encoders[name]()
        labels = LabelSet.from_types(TYPES)
        model = UMGF(encoder, labels, hidden_size=16, num_heads=2, num_layers=1).eval()
        posts = [odd_post(rng, index) for index in range(max(8, round(POSTS * size)))]
        fault = fault_of(_check, report, name, Predictor(model, batching=BatchConfig(batch_pieces=128)), posts)
        if fault:
            report.fault(f"{name}: {fault}")
    return report


def odd_post(rng: random.Random, index: int) -> Pair:
    """Return a post of 1 to 600 words with objects, some of them odd, a few without an answer."""
    length = rng.choice((1, 2, 5, 20, 60)) if rng.random() < 0.97 else 600
    words = [rng.choice((*FILLERS, *NAMES, *ODD_WORDS)) for _ in range(length)]
    if rng.random() < 0.1:
        words[rng.randrange(length)] = HALF
    objects = tuple(
        DetectedObject(rng.choice(("hat", "", "👩‍👩‍👧", "a " * 100)), score=rng.random())
        for _ in range(rng.choice((0, 1, 7)))
    )
    return Pair.from_words(words, id=rng.choice((str(index), f"id {index} 😀")), objects=objects)


def _check(report: Report, name: str, predict: Predictor, posts: list[Pair]) -> None:
    lines = list(predict(posts))
    if [line["id"] for line in lines] != [pair.id for pair in posts]:
        report.fault(f"{name}: {len(posts)} posts, lines of {[line['id'] for line in lines]}")
        return
    for pair, line in zip(posts, lines, strict=True):
        report.count(name)
        half = any(HALF in word for word in pair.words)
        # a slow tokenizer takes half a surrogate pair for an unknown word
        if "error" in line and not half:
            report.fault(f"{name}: {line['error']} for {ascii(pair.words[:8])[:200]}")
        for entity in line.get("entities", ()):
            if line["text"][entity["start"] : entity["end"]].split() != " ".join(entity["words"]).split():
                report.fault(f"{name}: {entity!a} is not in its text")
            if not 0 <= entity["score"] <= 1:
                report.fault(f"{name}: {entity!a} has a score that is no probability")
