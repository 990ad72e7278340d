"""The manifest of a feature store: which extractor, settings and weights made its features."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

MANIFEST_FILE = "manifest.json"


class StoreError(ValueError):
    """An invalid or incompatible store; the message names the file and the remedy."""


@dataclass(frozen=True)
class Manifest:
    """The origin of a store's features; stores with equal manifests hold interchangeable features.

    Args:
        extractor: class name of the extractor.
        version: version of the extractor's code, raised when its results change.
        settings: the extractor's settings, plain JSON data.
        weights: checksum of the extractor's weights.
        dtype: of stored floating point features: ``float32``, ``float16`` or ``bfloat16``.
    """

    extractor: str
    version: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype is float32, float16 or bfloat16, not {self.dtype!r}")
        json.dumps(self.settings)  # raises a TypeError for other than plain data

    def differences(self, other: Manifest) -> list[str]:
        """Return every entry in which the other manifest differs: ``settings.top_k: 20 there, 10 here``."""
        return differences(asdict(self), asdict(other))

    @classmethod
    def from_dict(cls, entries: dict[str, Any]) -> Manifest:
        """Return the manifest of these entries; names of version 0.1 are replaced by today's.

        Raises:
            TypeError: when an entry is missing or unknown.
        """
        return cls(**rename_entries(entries))

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Read the manifest of a store.

        Raises:
            FileNotFoundError: when the folder has none.
            StoreError: when it is invalid.
        """
        path = folder / MANIFEST_FILE
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is no feature store: it has no {MANIFEST_FILE}")
        try:
            return cls.from_dict(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path} is no manifest of a feature store: {error}") from None


#: Class names of extractors in version 0.1, and today's.
RENAMED_EXTRACTORS = {
    "Regions": "BackboneGrid",
    "Tower": "VisionTower",
    "RCNN": "RCNNDetector",
    "QueryDetector": "DETRDetector",
    "Grounder": "PhraseGrounder",
    "Crops": "RegionEncoder",
}


#: By today's class name, the settings that version 0.1 called otherwise, and their names today.
RENAMED_SETTINGS = {
    "BackboneGrid": {"fit": "resize_mode", "cells": "pool_size"},
    "RCNNDetector": {"top": "top_k"},
    "DETRDetector": {"top": "top_k", "crops": "region_encoder"},
    "PhraseGrounder": {"general": "generic_queries", "per_phrase": "top_k_per_phrase", "crops": "region_encoder"},
    "Captioner": {"max_pieces": "max_new_tokens", "beams": "num_beams"},
}


def rename_entries(entries: dict[str, Any]) -> dict[str, Any]:
    """Return the entries of a manifest, or of an extractor within one, under today's names."""
    name = entries.get("extractor")
    if not isinstance(name, str) or not isinstance(entries.get("settings", {}), dict):
        return entries
    extractor = RENAMED_EXTRACTORS.get(name, name)
    renamed = RENAMED_SETTINGS.get(extractor, {})
    settings: dict[str, Any] = {}
    for key, value in entries.get("settings", {}).items():
        if extractor == "RCNNDetector" and key == "sides":
            settings["min_size"], settings["max_size"] = value or (None, None)
        else:
            nested = isinstance(value, dict) and "extractor" in value
            settings[renamed.get(key, key)] = rename_entries(value) if nested else value
    return {**entries, "extractor": extractor, "settings": settings}


def check_manifest(folder: Path, manifest: Manifest, expected: Manifest | None) -> None:
    """Raise a StoreError that lists the differences if a store was made with other settings.

    Args:
        folder: of the store.
        manifest: its manifest.
        expected: the expected manifest; None accepts any.
    """
    differences = expected.differences(manifest) if expected else []
    if differences:
        raise StoreError(
            f"{folder} was made with other settings: {'; '.join(differences)}. Take another folder, or these settings"
        )


def store_dtype(manifest: Manifest) -> torch.dtype:
    """Return the torch dtype of the store's floating point features."""
    dtype = getattr(torch, manifest.dtype)
    assert isinstance(dtype, torch.dtype)
    return dtype


def differences(here: dict[str, Any], there: dict[str, Any]) -> list[str]:
    """Return every entry in which nested settings differ, by dotted names: ``trainer.seed: 0 there, 3 here``."""
    here, there = _flatten(here), _flatten(there)
    return [
        f"{name}: {there.get(name, 'nothing')!r} there, {here.get(name, 'nothing')!r} here"
        for name in sorted(here.keys() | there.keys())
        if here.get(name) != there.get(name)
    ]


def _flatten(entries: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested entries by dotted names."""
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, dict) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = value
    return flat
