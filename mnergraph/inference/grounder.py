"""The second step of a two-step prediction: regions of entities that another model found."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mnergraph.data.missing_evidence import MissingCounts
from mnergraph.data.processor import Processor
from mnergraph.labels import Entity, Region
from mnergraph.models.base import Tagger
from mnergraph.models.batch_config import BatchConfig
from mnergraph.models.evg import EVG
from mnergraph.pair import Pair


class Grounder:
    """A model that grounds entities (`EVG`), and the processor that gives posts what its training posts had.

    Args:
        model: the model.
        batching: how posts are taken into batches, and the precision.
        stores: folders of feature stores in which to look images up.
        run_extractors: whether to run the training's extractors on images that no store has.

    Attributes:
        missing: which posts lacked evidence that the model reads.

    Raises:
        TypeError: for a model of another class.
    """

    def __init__(
        self,
        model: Tagger,
        *,
        batching: BatchConfig = BatchConfig(),
        stores: Iterable[Path | str] = (),
        run_extractors: bool = True,
    ) -> None:
        if not isinstance(model, EVG):
            raise TypeError(f"a grounder is an EVG, not a {type(model).__name__}, which finds entities of its own")
        self.model, self.batching = model, batching
        self.processor = Processor(model.processor_config, stores=stores, run_extractors=run_extractors)
        self.missing = MissingCounts()

    def __call__(self, pairs: Sequence[Pair], found: Sequence[Sequence[dict[str, Any]]]) -> None:
        """Add box, label and probability to results of posts, in place.

        Args:
            pairs: the posts.
            found: the entities of every post, dicts with ``type`` or ``label``, ``score``, ``word_start`` and
                ``word_end``.
        """
        entities = [
            [
                Entity(entity["word_start"], entity["word_end"], entity.get("type") or entity["label"], entity["score"])
                for entity in post
            ]
            for post in found
        ]
        grounded = self.ground(pairs, entities)
        for post, results in zip(grounded, found, strict=True):
            for entity, result in zip(post, results, strict=True):
                result |= describe_region(entity.region)

    def lacking(self, pair: Pair) -> set[str]:
        """Return the kinds of evidence that the model reads, and neither the pair has nor processing gives."""
        allowed = self.processor.config.allow_missing
        return set(self.model.builder.missing(pair)) - self.processor.available(pair) - set(allowed)

    def ground(self, pairs: Sequence[Pair], entities: Sequence[Sequence[Entity]]) -> list[list[Entity]]:
        """Return the entities of posts, each with the region of the image that shows it."""
        device = next(self.model.parameters()).device
        ready, missing = self.processor.process(list(pairs), builder=self.model.builder, device=device)
        grounded = self.model.ground(ready, entities, batching=self.batching)
        self.missing.add(missing, len(ready))
        return grounded


def describe_region(region: Region | None) -> dict[str, Any]:
    """Return box, label and probability of where the image shows an entity; nothing of a model that grounds none."""
    if region is None:
        return {}
    return {
        "box": None if region.box is None else [float(side) for side in region.box],
        "box_label": None if region.box is None else region.label,
        "box_probability": round(region.score, 6),
    }
