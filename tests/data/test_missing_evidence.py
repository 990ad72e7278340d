"""Evidence that models read and posts lack: declared by model and ablation, counted, refused where no post has it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from mnergraph.data.missing_evidence import MissingEvidenceError, count_missing, describe_missing, require_evidence
from mnergraph.features.text.encoder import tiny_encoder
from mnergraph.labels import LabelSet
from mnergraph.models import BERTCRF, GEI, MGCMT, UMGF, UMT, HamLearning, HVPNeT, Tagger
from mnergraph.models.gei.model import IMAGE_REGION
from mnergraph.models.umgf.model import ResNetConfig
from mnergraph.pair import DetectedObject, Pair

LABELS = LabelSet.from_types(["PER", "LOC"])
BARE = Pair(("Ann", "waves"), id="1")
GROUNDED = DetectedObject("person", (0, 0, 9, 9), span=(0, 1), region=torch.zeros(4))
WHOLE = Pair(("Ann", "waves"), id="2", size=(9, 9), objects=(GROUNDED,), image_features=torch.zeros(49, 6))


def model(cls: Callable[..., Tagger], **options: Any) -> Tagger:
    return cls(tiny_encoder(hidden_size=8), LABELS, **options)


UMGF_SIZES = {"hidden_size": 8, "num_heads": 2}
CASES = [
    (BERTCRF, {}, set()),
    (UMT, {"image_dim": 6, "num_heads": 2}, {"image features"}),
    (UMGF, UMGF_SIZES, {"detected objects", "grounded objects", "region features"}),
    (UMGF, {**UMGF_SIZES, "region_dim": 4}, {"detected objects", "grounded objects", "region features"}),
    (UMGF, {**UMGF_SIZES, "variant": "released", "region_dim": 4}, {"detected objects", "region features"}),
    (UMGF, {**UMGF_SIZES, "image_dim": 6, "ablate": {"w/o Tar."}}, {"image features"}),
    (
        UMGF,
        {**UMGF_SIZES, "resnet": ResNetConfig("resnet18", "random")},
        {"detected objects", "grounded objects", "image file"},
    ),
    (GEI, {"hidden_size": 8, "num_heads": 2}, {"image features", "detected objects", "region features"}),
    (GEI, {"hidden_size": 8, "num_heads": 2, "image_dim": 6, "ablate": {IMAGE_REGION}}, {"image features"}),
    (HVPNeT, {"image_dim": 6}, {"image features", "region features"}),
    (HVPNeT, {"region_dim": 6, "ablate": {"OnlyObj"}}, {"detected objects", "region features"}),
    (
        HamLearning,
        {"image_dim": 6, "num_heads": 2},
        {"image features", "detected objects", "object boxes", "region features"},
    ),
    (
        HamLearning,
        {"image_dim": 6, "num_heads": 2, "ablate": {"w/o RGCN"}},
        {"image features", "detected objects", "region features"},
    ),
    (
        MGCMT,
        {"image_dim": 6, "num_heads": 2, "ablate": {"w/o SemAug"}},
        {"image features", "detected objects", "object classes"},
    ),
    (MGCMT, {"num_heads": 2, "ablate": {"w/o SemAug", "w/o TextImg"}}, {"detected objects", "object classes"}),
    (MGCMT, {"image_dim": 6, "num_heads": 2, "ablate": {"w/o SemAug", "w/o TextObj"}}, {"image features"}),
]


@pytest.mark.parametrize(("cls", "options", "kinds"), CASES)
def test_a_model_declares_what_it_reads(cls: type[Tagger], options: dict[str, Any], kinds: set[str]) -> None:
    builder = model(cls, **options).builder
    assert set(builder.missing(BARE)) == kinds
    assert set(builder.missing(WHOLE)) <= {"image file"}


def test_one_vector_is_no_grid() -> None:
    vector = Pair(("Ann",), image_features=torch.zeros(1, 6))
    assert model(UMT, image_dim=6, num_heads=2).builder.missing(vector) == ("image grid",)


def test_posts_are_counted_and_named() -> None:
    builder = model(UMGF, **UMGF_SIZES).builder
    general = Pair(("Ann",), id="3", objects=(DetectedObject("person", region=torch.zeros(4)),))
    missing = require_evidence(builder, {"train": [BARE, WHOLE, general], "test": [WHOLE]})
    assert missing == {
        "train": {"detected objects": ["1"], "grounded objects": ["1", "3"], "region features": ["1"]},
        "test": {},
    }
    assert describe_missing(missing["train"], 3) == [
        "1 of 3 posts has no detected objects, no region features, which the model reads: 1",
        "2 of 3 posts have no grounded objects, which the model reads: 1, 3",
    ]


def test_what_no_post_of_a_split_has_is_refused() -> None:
    builder = model(UMGF, **UMGF_SIZES).builder
    with pytest.raises(MissingEvidenceError) as error:
        require_evidence(builder, {"train": [WHOLE], "valid": [BARE], "test": [BARE, BARE]})
    message = str(error.value)
    assert "reads grounded objects, which no post of valid, test has: give objects detected for phrases" in message
    assert "--extractor PhraseGrounder" in message
    assert "the model reads detected objects" not in message, "grounded objects are detected ones"
    assert message.endswith("--allow_missing '[detected objects, grounded objects, region features]'")
    allowed = ("detected objects", "grounded objects", "region features")
    assert require_evidence(builder, {"test": [BARE]}, allow_missing=allowed)["test"].keys() == set(allowed)


def test_what_processing_gives_is_not_missing() -> None:
    builder = model(UMGF, **UMGF_SIZES).builder
    assert set(count_missing(builder, [BARE], lambda pair: {"region features", "detected objects"})) == {
        "grounded objects"
    }
