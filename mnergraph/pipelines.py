"""From a post as people have it to entities with their place in the text."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from itertools import islice
from pathlib import Path
from typing import Any

from mnergraph.data import Evidence
from mnergraph.features.manifest import Manifest
from mnergraph.features.phrases import Chunker, RuleChunker, SpacyChunker
from mnergraph.features.regions import Crops
from mnergraph.features.seen import Seen
from mnergraph.graph import Pair
from mnergraph.models import Tagger
from mnergraph.posts import Post
from mnergraph.seeing import Eyes

#: Chunkers by the name under which a model's record keeps them.
CHUNKERS: dict[str, type[Chunker]] = {kind.__name__: kind for kind in (RuleChunker, SpacyChunker)}


class Pipeline:
    """A model and what it needs to see a picture the way it saw those it learned from.

    Args:
        model: the model; its record says through which extractors, and with which region vectors and phrases,
            it was trained.
        batch_size: posts at once.
        stores: folders of feature stores in which to look pictures up, made as those of the training were.
        extract: whether to run the training's extractors on pictures that no store knows.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
    """

    def __init__(
        self,
        model: Tagger,
        *,
        batch_size: int = 32,
        stores: Iterable[Path | str] = (),
        extract: bool = True,
    ) -> None:
        self.model, self.batch_size = model, batch_size
        seen = model.record.get("evidence", {})
        self.crops = Crops(**seen["regions"]) if seen.get("regions") else None
        self.evidence = Evidence(
            top_objects=seen.get("top_objects"),
            caption_phrases=seen.get("caption_phrases", True),
            chunker=CHUNKERS[seen.get("chunker", "RuleChunker")](),
            image=seen.get("image", "grid"),
        )
        self.eyes = Eyes(
            [Manifest(**manifest) for manifest in seen.get("stores", ())],
            chunker=self.evidence.chunks,
            image=self.evidence.image,
            stores=stores,
            extract=extract,
        )

    def __call__(self, posts: Iterable[Post]) -> Iterator[dict[str, Any]]:
        """For every post its entities: type, score (0 to 1), words, and offsets in words and characters."""
        waiting = iter(posts)
        unseen: list[str] = []
        while some := list(islice(waiting, self.batch_size)):
            pairs, blind = self._prepared([post.pair for post in some], None, False)
            unseen += blind
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
        _warn(unseen)

    def prepared(
        self, pairs: Iterable[Pair], *, cache: Path | None = None, progress: bool = False
    ) -> list[Pair]:
        """The pairs with what the model saw of such posts in training: objects, features, region vectors.

        What a pair has already holds. A warning counts the posts that have a picture but not the features of
        it that the model reads.

        Args:
            pairs: the posts.
            cache: folder that keeps region vectors.
            progress: whether to show a progress bar for these.

        Raises:
            ValueError: when a picture needs an extractor that can't be made again here.
        """
        seen, blind = self._prepared(list(pairs), cache, progress)
        _warn(blind)
        return seen

    def _prepared(
        self, pairs: list[Pair], cache: Path | None, progress: bool
    ) -> tuple[list[Pair], list[str]]:
        """The pairs ready for the model, and those of them that go without their picture's features."""
        looked, seen = self.eyes(pairs, next(self.model.parameters()).device)
        found = [self._seen(pair) for pair in looked]
        blind = [_told(pair, one) for pair, one in zip(found, seen, strict=True) if self._misses(pair, one)]
        if self.crops is not None:
            found = self.crops.attach(found, cache, progress=progress)
        return found, blind

    def _misses(self, pair: Pair, seen: Seen) -> bool:
        """Whether the model reads what is seen in pictures, and there is nothing of this post's."""
        if pair.picture is None:
            return False
        builder = self.model.builder
        image = builder.image_width is not None and pair.image is None
        looked = seen.objects is not None or self.crops is not None
        regions = builder.region_width is not None and all(thing.region is None for thing in pair.objects)
        nothing = bool(self.eyes.eyes) and not pair.objects and pair.image is None and pair.caption is None
        return image or (not looked and (regions or nothing))

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
        "image": evidence.image,
        "stores": [asdict(Manifest.read(Path(folder))) for folder in evidence.stores],
    }


def _told(pair: Pair, seen: Seen) -> str:
    """A post that goes without its picture's features, and why if the picture is to blame."""
    name = pair.id or (pair.picture.name if pair.picture else "")
    return f"{name} ({seen.fault.detail})" if seen.fault and not seen.fault.usable else name


def _warn(blind: list[str]) -> None:
    if blind:
        warnings.warn(
            f"{len(blind)} posts have a picture, but the model does not see it, as they have none of the "
            f"features that it reads: {', '.join(blind[:5])}{', ...' if len(blind) > 5 else ''}. A feature "
            "store of their pictures, made as the training's was, or a file of features gives them",
            stacklevel=3,
        )
