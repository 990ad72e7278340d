"""Convert image evidence to entries of the feature store and back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mnergraph.features.store.manifest import Manifest, StoreError
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.noun_chunks import Chunker, Phrase, WholeSentence, noun_phrases
from mnergraph.features.vision.extractor import Extractor, ImageEvidence
from mnergraph.features.vision.image_io import ImageIssue, file_sha256
from mnergraph.pair import ContextText, DetectedObject, Pair


def manifest_of(extractor: Extractor, dtype: str = "float32") -> Manifest:
    """Return the manifest of a store of this extractor's features."""
    identity = extractor.identity()
    settings = identity["settings"] | {"processor": identity["processor"]}
    return Manifest(identity["extractor"], identity["version"], settings, identity["weights"], dtype)


def image_key(path: Path, phrases: Sequence[Phrase] | None = None) -> str:
    """Return the key of an image's features: the SHA-256 of its content, and with phrases that of both."""
    content = file_sha256(path)
    if phrases is None:
        return content
    queries = json.dumps([[phrase.text, phrase.span] for phrase in phrases])
    return hashlib.sha256(f"{content} {queries}".encode()).hexdigest()


def lookup(stores: Sequence[FeatureStore], pair: Pair, chunker: Chunker) -> list[ImageEvidence | None]:
    """Return each store's evidence of a pair's image, or None.

    Entries are keyed by the image's content, or by content and noun phrases or the sentence (see `image_key`).
    """
    if pair.image_path is None or not stores:
        return [None] * len(stores)
    keys = [image_key(pair.image_path)]
    if any(keys[0] not in store for store in stores):
        keys += (image_key(pair.image_path, noun_phrases(pair.words, find)) for find in (chunker, WholeSentence()))
    return [next((from_store_entry(store, key) for key in keys if key in store), None) for store in stores]


def cast(evidence: ImageEvidence, dtype: torch.dtype) -> ImageEvidence:
    """Return the evidence with its tensors in this dtype."""

    def convert(rows: Tensor | None) -> Tensor | None:
        return None if rows is None else rows.to(dtype)

    objects = evidence.objects and tuple(replace(item, region=convert(item.region)) for item in evidence.objects)
    return replace(evidence, grid=convert(evidence.grid), pooled=convert(evidence.pooled), objects=objects)


def to_store_entry(evidence: ImageEvidence) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors and the JSON data of evidence, for `StoreWriter.add`; boxes are JSON, in full precision."""
    features = {}
    if evidence.grid is not None:
        features["grid"] = evidence.grid
    if evidence.pooled is not None:
        features["pooled"] = evidence.pooled[None]
    objects = evidence.objects
    regions = [item.region for item in objects or () if item.region is not None]
    if regions:
        features["regions"] = torch.stack(regions)
    facts = {
        "size": evidence.size,
        "objects": objects
        and [
            {
                "label": item.label,
                "box": item.box,
                "score": item.score,
                "words": item.span,
                "region": item.region is not None,
            }
            for item in objects
        ],
        "caption": evidence.caption,
        **({} if evidence.context is None else {"context": [list(entry) for entry in evidence.context]}),
        "fault": evidence.issue
        and {"id": evidence.issue.id, "kind": evidence.issue.code, "detail": evidence.issue.detail},
    }
    return features, facts


def from_store_entry(store: FeatureStore, key: str) -> ImageEvidence:
    """Return the evidence of an entry; its tensors are views of the mapped file, in the store's dtype.

    Raises:
        StoreError: when the entry is damaged, naming its shard.
    """
    try:
        return _evidence(store[key], store.info(key))
    except (KeyError, IndexError, TypeError, ValueError, StopIteration) as error:
        if key not in store:
            raise
        raise StoreError(
            f"{store.path_of(key)}: the entry {key} is damaged; delete the file and extract again"
        ) from error


def _evidence(features: dict[str, Tensor], facts: dict[str, Any]) -> ImageEvidence:
    regions = iter(features.get("regions", ()))
    objects = facts["objects"]
    grid, pooled = features.get("grid"), features.get("pooled")
    return ImageEvidence(
        size=facts["size"] and tuple(facts["size"]),
        objects=None if objects is None else tuple(_object(item, regions) for item in objects),
        grid=grid if grid is not None and len(grid) else None,
        pooled=pooled[0] if pooled is not None and len(pooled) else None,
        caption=facts["caption"],
        context=tuple(ContextText(*entry) for entry in facts["context"]) if "context" in facts else None,
        issue=facts["fault"] and ImageIssue(facts["fault"]["id"], facts["fault"]["kind"], facts["fault"]["detail"]),
    )


def _object(facts: dict[str, Any], regions: Any) -> DetectedObject:
    return DetectedObject(
        facts["label"],
        facts["box"] and tuple(facts["box"]),
        facts["score"],
        span=facts["words"] and tuple(facts["words"]),
        region=next(regions) if facts["region"] else None,
    )
