"""Edge-case posts and small models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from fakes import uses_word_vectors, word_vectors_for

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.graph.context import Agreement, Context
from mnergraph.labels import LabelSet
from mnergraph.models import MODELS, Tagger
from mnergraph.nn import Grounding
from mnergraph.pair import ContextText, DetectedObject, Pair

REGION_FEATURES, IMAGE = 6, 5
NAMES = ("bob", "ann", "lee", "paris", "rome", "oslo", "saw", "new", "york", "city")
SIMILAR = NearestWords.from_table(
    NAMES, torch.randn(len(NAMES), 3, generator=torch.Generator().manual_seed(0)), NAMES, progress=False
)

#: Each model's settings where they are not the defaults: small, and with all inputs that it can use.
SMALL: dict[str, dict[str, Any]] = {
    "BiLSTM-CRF": {"hidden_size": 8},
    "CNN-BiLSTM-CRF": {"hidden_size": 8, "char_dim": 6, "filters": 5},
    "HBiLSTM-CRF": {"hidden_size": 8, "char_dim": 6, "char_hidden_size": 3},
    "BERT": {},
    "BERT-CRF": {},
    "Captions": {"context": Context(sources=("caption",), budget=8)},
    "ATTR-MMKG-MNER": {
        "hidden_size": 8,
        "char_dim": 6,
        "char_hidden_size": 3,
        "attention_size": 9,
        "image_dim": IMAGE,
        "context": Context(sources=("knowledge", "caption"), budget=8),
    },
    "ITA": {"context": Context(sources=("caption", "tags"), budget=8, agreement=Agreement())},
    "PGIM": {"context": Context(budget=8)},
    "MT-BERT-CRF": {"num_heads": 4, "intermediate_size": 24, "image_dim": IMAGE},
    "UMT": {"num_heads": 4, "intermediate_size": 24, "image_dim": IMAGE},
    "GVATT": {
        "hidden_size": 8,
        "char_dim": 6,
        "char_hidden_size": 3,
        "query_size": 7,
        "attention_size": 9,
        "image_dim": IMAGE,
    },
    "AdaCAN": {"hidden_size": 8, "char_dim": 6, "filters": 5, "attention_size": 9, "image_dim": IMAGE},
    "OCSGA": {
        "hidden_size": 8,
        "char_dim": 6,
        "char_hidden_size": 3,
        "intermediate_size": 24,
        "attention_dropout": 0.0,
    },
    "Object-AGBAN": {
        "hidden_size": 8,
        "char_dim": 6,
        "char_hidden_size": 3,
        "num_glimpses": 2,
        "region_dim": REGION_FEATURES,
        "attention_dropout": 0.0,
    },
    "MAF": {"num_heads": 4, "intermediate_size": 24, "image_dim": IMAGE},
    "MGCMT": {
        "num_heads": 4,
        "intermediate_size": 24,
        "image_dim": IMAGE,
        "nearest_words": SIMILAR,
        "fusion_dropout": 0.0,
    },
    "UMGF": {"hidden_size": 16, "num_heads": 4, "num_layers": 2, "region_dim": REGION_FEATURES},
    "GEI": {
        "hidden_size": 16,
        "num_heads": 4,
        "num_layers": 2,
        "intermediate_size": 24,
        "region_dim": REGION_FEATURES,
        "image_dim": IMAGE,
    },
    "MRC-MNER": {
        "num_heads": 4,
        "intermediate_size": 24,
        "region_dim": REGION_FEATURES,
        # short enough for an encoder of 16 pieces
        "queries": {"PER": "who", "LOC": "at"},
    },
    "HVPNeT": {"region_dim": REGION_FEATURES, "image_dim": IMAGE, "bottleneck_size": 7},
    "HamLearning": {"num_heads": 4, "region_dim": REGION_FEATURES, "image_dim": IMAGE},
}


def _object(label: str = "", words: tuple[int, int] | None = None, region: bool = True) -> DetectedObject:
    return DetectedObject(label, (0, 0, 4, 4), span=words, region=torch.randn(REGION_FEATURES) if region else None)


@pytest.fixture
def labels() -> LabelSet:
    return LabelSet.from_types(["PER", "LOC"])


@pytest.fixture
def everything() -> list[Pair]:
    """A batch that uses all parameters: every tag, phrases, general objects, regions and labels, knowledge, words of
    several pieces."""
    torch.manual_seed(7)
    words = ("Ann", "and", "Bob", "Lee", "saw", "New", "York", "City", "today")
    tags = ("B-PER", "O", "B-PER", "I-PER", "O", "B-LOC", "I-LOC", "I-LOC", "O")
    objects = (_object("person", (0, 1)), _object("a city", (5, 8)), _object("person"))
    return [
        Pair(
            words,
            tags,
            "all",
            size=(8, 8),
            objects=objects,
            image_features=torch.randn(4, IMAGE),
            context=(ContextText("knowledge", "Bob Lee is a singer"),),
        ),
        Pair(
            words[::-1],
            ("O", "B-LOC", "I-LOC", "O", "O", "B-PER", "I-PER", "O", "B-PER"),
            "b",
            size=(8, 8),
            objects=objects[1:],
            image_features=torch.randn(1, IMAGE),
        ),
    ]


@pytest.fixture
def awkward() -> dict[str, list[Pair]]:
    """Batches of edge-case posts, by the edge case."""
    torch.manual_seed(8)
    obj, words = _object("person"), ("Bob", "saw", "Paris")
    tags = ("B-PER", "O", "B-LOC")
    long = tuple(f"w{position}" for position in range(128))
    return {
        "no object": [Pair(words, tags, "a")],
        "no image": [Pair(words, tags, "a", objects=(obj,)), Pair(words, tags, "b", image_path=None)],
        "no objects in two posts": [Pair(words, tags, "a"), Pair(words[:1], tags[:1], "b")],
        "an image for one of two": [
            Pair(words, tags, "a", image_features=torch.randn(4, IMAGE)),
            Pair(words, tags, "b"),
        ],
        "one region": [Pair(words, tags, "a", image_features=torch.randn(1, IMAGE), objects=(obj,))],
        "one word": [Pair(words[:1], tags[:1], "a", objects=(obj,)), Pair(words[:1], tags[:1], "b")],
        "128 words": [Pair(long, ("O", "B-PER") * 64, "a", objects=(obj,)), Pair(words, tags, "b")],
        "erased words": [Pair(("\u200b", "Bob", "\u00ad", "\ufe0f"), ("O", "B-PER", "O", "O"), "a", objects=(obj,))],
        "only erased words": [
            Pair(("\u200b",), ("O",), "a"),
            Pair(("\u00ad",), ("B-PER",), "b", objects=(obj,)),
        ],
        "a word too long": [
            Pair(("x" * 60, "Bob"), ("O", "B-PER"), "a", objects=(obj,)),
            Pair(words, tags, "b"),
        ],
        "objects without features": [
            Pair(words, tags, "a", objects=(_object(region=False), _object("", (0, 1), region=False)))
        ],
        "object without a label": [Pair(words, tags, "a", objects=(_object(), _object("hat", (0, 1), region=False)))],
        "thirty objects": [
            Pair(words, tags, "a", objects=(obj,) * 30),
            Pair(words, tags, "b", objects=(obj,)),
        ],
        "one object on a phrase": [
            Pair(words, tags, "a", objects=(_object("city", (2, 3)),)),
            Pair(words, tags, "b"),
        ],
        "I- without B-": [Pair(words, ("I-PER", "I-LOC", "O"), "a", objects=(obj,))],
    }


@pytest.fixture
def build(labels: LabelSet) -> Callable[..., Tagger]:
    """``build(kind, encoder=..., dropout=..., context=...)``: a small model of that kind, the same at every call.

    Models with word vectors get vectors for the encoder's vocabulary.
    """

    def make(
        kind: str,
        *,
        encoder: TextEncoderModel | None = None,
        dropout: float = 0.0,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> Tagger:
        torch.manual_seed(1)
        encoder = encoder or tiny_encoder(["bob", "saw", "paris"], hidden_size=16, num_layers=1, heads=2)
        for part in encoder.model.modules():
            if isinstance(part, torch.nn.Dropout):
                part.p = dropout
        name, _, variant = kind.partition(" ")
        settings = SMALL[name] | ({"variant": variant} if variant and variant != "words" else {})
        settings |= {} if context is None else {"context": context}
        settings |= {} if grounding is None else {"grounding": grounding}
        read = word_vectors_for(encoder) if uses_word_vectors(kind) else encoder
        return MODELS[name](read, labels, dropout=dropout, **settings)

    return make


@pytest.fixture
def grids() -> list[Pair]:
    """The same words with one image, with another and with none; one word, one region, a hundred words."""
    torch.manual_seed(3)
    words = ("Bob", "saw", "Paris", "in", "2017")
    return [
        Pair(words, None, "a grid", image_features=torch.randn(49, IMAGE)),
        Pair(words, None, "another image", image_features=torch.randn(49, IMAGE)),
        Pair(words, None, "no image"),
        Pair(words[:1], None, "one word", image_features=torch.randn(3, IMAGE)),
        Pair(words[2:], None, "one region", image_features=torch.randn(1, IMAGE)),
        Pair(words[:1], None, "one word, no image"),
        Pair(words * 20, None, "a hundred words", image_features=torch.randn(4, IMAGE)),
    ]


@pytest.fixture
def peaked(build: Callable[..., Tagger]) -> Callable[[str], Tagger]:
    """``peaked(kind)``: a small model in evaluation mode whose attention weights are far from uniform."""

    def make(kind: str) -> Tagger:
        model = build(kind).eval()
        with torch.no_grad():
            for weight in model.parameters():  # initial weights are small, so attention is nearly uniform
                weight.mul_(4 if weight.dim() > 1 else 1)
        return model

    return make
