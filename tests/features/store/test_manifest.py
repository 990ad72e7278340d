"""Manifests of version 0.1 are read with the current names of extractors and settings."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from mnergraph.features.store.entries import manifest_of
from mnergraph.features.store.manifest import MANIFEST_FILE, Manifest
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.store.writer import StoreWriter
from mnergraph.features.vision.backbones import BackboneGrid
from mnergraph.features.vision.registry import extractor_of

REGIONS = {"extractor": "Crops", "version": 2, "settings": {"backbone": "resnet50"}, "weights": "ab"}


@pytest.mark.parametrize(
    ("name", "settings", "renamed"),
    [
        ("Regions", {"fit": "crop", "cells": 3}, {"resize_mode": "crop", "pool_size": 3}),
        ("Tower", {"model": "clip"}, {"model": "clip"}),
        ("RCNN", {"top": 5, "sides": [320, 640]}, {"top_k": 5, "min_size": 320, "max_size": 640}),
        ("RCNN", {"top": 5, "sides": None}, {"top_k": 5, "min_size": None, "max_size": None}),
        ("QueryDetector", {"top": 5, "crops": None}, {"top_k": 5, "region_encoder": None}),
        (
            "Grounder",
            {"general": ["hat"], "per_phrase": 2, "crops": REGIONS},
            {
                "generic_queries": ["hat"],
                "top_k_per_phrase": 2,
                "region_encoder": {**REGIONS, "extractor": "RegionEncoder"},
            },
        ),
        ("Captioner", {"max_pieces": 9, "beams": 2}, {"max_new_tokens": 9, "num_beams": 2}),
    ],
)
def test_names_of_version_0_1(name: str, settings: dict[str, Any], renamed: dict[str, Any]) -> None:
    today = {
        "Regions": "BackboneGrid",
        "Tower": "VisionTower",
        "RCNN": "RCNNDetector",
        "QueryDetector": "DETRDetector",
        "Grounder": "PhraseGrounder",
    }
    manifest = Manifest.from_dict({"extractor": name, "version": 1, "settings": settings, "weights": "cd"})
    assert manifest == Manifest(today.get(name, name), 1, renamed, "cd")
    assert Manifest.from_dict(asdict(manifest)) == manifest, "today's names stay"


def test_a_store_of_version_0_1_is_read(tmp_path: Path) -> None:
    extractor = BackboneGrid("resnet18", size=48, resize_mode="crop", pool_size=2)
    with StoreWriter(tmp_path, manifest_of(extractor)):
        pass
    entries = json.loads((tmp_path / MANIFEST_FILE).read_text())
    settings = entries["settings"]
    settings["fit"], settings["cells"] = settings.pop("resize_mode"), settings.pop("pool_size")
    (tmp_path / MANIFEST_FILE).write_text(json.dumps({**entries, "extractor": "Regions"}))
    store = FeatureStore(tmp_path, manifest_of(extractor))
    assert extractor_of(store.manifest) == extractor
