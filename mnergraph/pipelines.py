"""From a post as people have it to entities with their place in the text."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from typing import Any

from mnergraph.data import Evidence
from mnergraph.features.phrases import Chunker, RuleChunker, SpacyChunker
from mnergraph.features.regions import Crops
from mnergraph.graph import Pair
from mnergraph.models import Tagger
from mnergraph.posts import Post

#: Chunkers by the name under which a model's record keeps them.
CHUNKERS: dict[str, type[Chunker]] = {kind.__name__: kind for kind in (RuleChunker, SpacyChunker)}


class Pipeline:
    """A model and what it needs to see a picture the way it saw those it learned from.

    Args:
        model: the model; its record says which region vectors and phrases it was trained with.
        batch_size: posts at once.
    """

    def __init__(self, model: Tagger, *, batch_size: int = 32) -> None:
        self.model, self.batch_size = model, batch_size
        seen = model.record.get("evidence", {})
        self.crops = Crops(**seen["regions"]) if seen.get("regions") else None
        self.evidence = Evidence(
            top_objects=seen.get("top_objects"),
            caption_phrases=seen.get("caption_phrases", True),
            chunker=CHUNKERS[seen.get("chunker", "RuleChunker")](),
        )

    def __call__(self, posts: Iterable[Post]) -> Iterator[dict[str, Any]]:
        """For every post its entities: type, score (0 to 1), words, and offsets in words and characters."""
        waiting = iter(posts)
        while some := list(islice(waiting, self.batch_size)):
            pairs = self.prepared([post.pair for post in some])
            for post, entities in zip(some, self.model.predict(pairs), strict=True):
                yield {
                    "id": post.pair.id,
                    "text": post.text,
                    "entities": [
                        {
                            "type": found.type,
                            "score": round(found.score, 6),
                            "words": list(post.pair.words[found.start : found.end]),
                            "word_start": found.start,
                            "word_end": found.end,
                            "start": post.words[found.start].start,
                            "end": post.words[found.end - 1].end,
                        }
                        for found in entities
                    ],
                }

    def prepared(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs with the objects and region vectors that the model saw in training."""
        seen = [self._seen(pair) for pair in pairs]
        return seen if self.crops is None else self.crops.attach(seen, progress=False)

    def _seen(self, pair: Pair) -> Pair:
        """The pair with as many boxed objects, and its caption's phrases as objects, as in training."""
        told = tuple(thing for thing in pair.objects if thing.box is None)
        if pair.caption is not None and self.evidence.caption_phrases and not told:
            told = self.evidence.phrases(pair.caption)
        boxed = sorted(
            (thing for thing in pair.objects if thing.box is not None), key=lambda thing: -thing.score
        )
        return replace(pair, objects=(*boxed[: self.evidence.top_objects], *told))


def record_of(evidence: Evidence, crops: Crops | None) -> dict[str, Any]:
    """What a pipeline must know of the evidence a model was trained with, as plain data."""
    return {
        "top_objects": evidence.top_objects,
        "caption_phrases": evidence.caption_phrases,
        "chunker": type(evidence.chunks).__name__,
        "regions": asdict(crops) if crops else None,
    }
