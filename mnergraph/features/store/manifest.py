"""What made a feature store: its manifest, and how two of them differ."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

MANIFEST = "manifest.json"


class StoreError(ValueError):
    """A store that is not what it should be; the message names the file and what to do."""


@dataclass(frozen=True)
class Manifest:
    """What made a store's features; two stores with equal manifests hold interchangeable features.

    Args:
        extractor: its name.
        version: of the extractor's code; raised when its results change.
        settings: its settings, plain JSON data.
        weights: checksum of its weights, or how they were drawn (``random, seed 0``).
        dtype: what floats are kept as: ``float32``, ``float16`` or ``bfloat16``.
    """

    extractor: str
    version: int = 1
    settings: dict[str, Any] = field(default_factory=dict)
    weights: str = ""
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "float16", "bfloat16"):
            raise ValueError(f"dtype is float32, float16 or bfloat16, not {self.dtype!r}")
        json.dumps(self.settings)  # a TypeError names what is no plain data

    def differences(self, other: Manifest) -> list[str]:
        """Every entry in which the other differs: ``settings.top: 20 there, 10 here``."""
        here, there = _flat(asdict(self)), _flat(asdict(other))
        return [
            f"{name}: {there.get(name, 'nothing')!r} there, {here.get(name, 'nothing')!r} here"
            for name in sorted(here.keys() | there.keys())
            if here.get(name) != there.get(name)
        ]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """The manifest of a store."""
        path = folder / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{folder} is no feature store: it has no {MANIFEST}")
        try:
            return cls(**json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise StoreError(f"{path} is no manifest of a feature store: {error}") from None


def require(folder: Path, there: Manifest, here: Manifest | None) -> None:
    """A StoreError that spells out the differences when a store was made with other settings."""
    found = here.differences(there) if here else []
    if found:
        raise StoreError(
            f"{folder} was made with other settings: {'; '.join(found)}. Take another folder, or these settings"
        )


def dtype_of(manifest: Manifest) -> torch.dtype:
    """What the store keeps floats as."""
    found = getattr(torch, manifest.dtype)
    assert isinstance(found, torch.dtype)
    return found


def _flat(entries: dict[str, Any], above: str = "") -> dict[str, Any]:
    """Nested entries by dotted names."""
    found: dict[str, Any] = {}
    for name, value in entries.items():
        if isinstance(value, dict) and value:
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found
