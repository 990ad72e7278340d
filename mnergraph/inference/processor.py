"""What a model's training posts were seen by, and what that says of other posts' pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, fields, replace
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import torch

from mnergraph.data.evidence import Evidence
from mnergraph.features.store.entries import cast, known
from mnergraph.features.store.manifest import Manifest, StoreError, dtype_of, require
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.noun_chunks import Chunker, RuleChunker, SpacyChunker, noun_phrases
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import Extractor
from mnergraph.features.vision.registry import EXTRACTORS, extractor_of
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair, Post


class ImageProcessor:
    """The extractors that a model's training posts were seen by, in the order in which they were read.

    A picture that a store knows, by its content, is looked up; any other is given to the extractor.

    Args:
        manifests: of the training's feature stores.
        image: what they told of the whole picture, see `Evidence`.
        chunker: finds the sentence's phrases, for an extractor that reads them.
        stores: folders of feature stores, each made as one of the training's was.
        extract: whether to run extractors on pictures that no store knows.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
    """

    def __init__(
        self,
        manifests: Iterable[Manifest],
        *,
        chunker: Chunker,
        image: Literal["grid", "pooled"] = "grid",
        stores: Iterable[Path | str] = (),
        extract: bool = True,
    ) -> None:
        self.eyes = [StoreBackedExtractor(manifest) for manifest in manifests]
        self.image, self.chunker, self.extract = image, chunker, extract
        for folder in dict.fromkeys(map(Path, stores)):
            there = Manifest.read(folder)
            ours = [eye.manifest.extractor for eye in self.eyes]
            if there.extractor not in ours:
                raise StoreError(
                    f"{folder} holds what {there.extractor} saw; the model learned "
                    f"from {'stores of ' + ', '.join(ours) if ours else 'no feature store'}"
                )
            eye = min(self.eyes, key=lambda eye: len(eye.manifest.differences(there)))
            require(folder, there, eye.manifest)
            eye.stores.append(FeatureStore(folder))

    def __call__(self, pairs: Sequence[Pair], device: torch.device) -> tuple[list[Pair], list[ImageEvidence]]:
        """The pairs with what was seen in their pictures where they had none of it, and all that was seen."""
        seen = [ImageEvidence()] * len(pairs)
        for eye in self.eyes:
            found = eye(pairs, self.chunker, device, extract=self.extract)
            seen = [_together(before, one) for before, one in zip(seen, found, strict=True)]
        return [self._with(pair, one) for pair, one in zip(pairs, seen, strict=True)], seen

    def _with(self, pair: Pair, seen: ImageEvidence) -> Pair:
        """The pair with what it lacked of what was seen."""
        looked = seen.attach_to(replace(pair, objects=(), image_features=None, caption=None), image=self.image)
        boxed = any(thing.box is not None for thing in pair.objects)
        return replace(
            pair,
            size=pair.size if boxed and pair.size else looked.size,
            objects=pair.objects if boxed else (*looked.objects, *pair.objects),
            image_features=looked.image_features if pair.image_features is None else pair.image_features,
            caption=looked.caption if pair.caption is None else pair.caption,
        )


class StoreBackedExtractor:
    """One extractor that a model's training posts were seen by.

    Args:
        manifest: of the feature store that they were read from.

    Attributes:
        stores: others made like it, to look pictures up in.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.stores: list[FeatureStore] = []

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor itself, made again when first asked for.

        Raises:
            ValueError: when it can't be made here, or would be another one; it says what to do instead.
        """
        try:
            return extractor_of(self.manifest)
        except (OSError, ValueError) as error:
            raise ValueError(
                f"the model saw pictures through {self.manifest.extractor}, which can't be made again here: "
                f"{error}. Give stores, feature stores of these pictures that `mnergraph features` made with "
                "the same extractor, or extract=False to read the posts without what it would see"
            ) from error

    def __call__(
        self, pairs: Sequence[Pair], chunker: Chunker, device: torch.device, *, extract: bool
    ) -> list[ImageEvidence | None]:
        """What is seen in these posts' pictures; None where nobody looked, or nothing is lacking."""
        found: list[ImageEvidence | None] = [
            next(filter(None, known(self.stores, pair, chunker)), None) if _has_file(pair) else None for pair in pairs
        ]
        if extract:
            places = [place for place, seen in enumerate(found) if seen is None and self._helps(pairs[place])]
            looked = self._look([pairs[place] for place in places], chunker, device) if places else []
            for place, seen in zip(places, looked, strict=True):
                found[place] = seen
        return found

    def _look(self, pairs: Sequence[Pair], chunker: Chunker, device: torch.device) -> list[ImageEvidence]:
        """What the extractor sees in these pictures, in the precision of the training's store."""
        phrases = [noun_phrases(pair.words, chunker) for pair in pairs]
        pictures = [pair.image_path for pair in pairs if pair.image_path is not None]
        found = self.extractor.extract(
            pictures, phrases if self.extractor.reads_phrases else None, device=device, progress=False
        )
        return [cast(seen, dtype_of(self.manifest)) for seen in found]

    def _helps(self, pair: Pair) -> bool:
        """Whether there is a picture, and the pair lacks something that the extractor may find in it."""
        has = {
            "objects": any(thing.box is not None for thing in pair.objects),
            "image": pair.image_features is not None,
            "caption": pair.caption is not None,
        }
        gives = EXTRACTORS.get(self.manifest.extractor, Extractor).gives
        return pair.image_path is not None and not all(has[kind] for kind in gives)


def _has_file(pair: Pair) -> bool:
    return pair.image_path is not None and pair.image_path.is_file()


def _together(before: ImageEvidence, after: ImageEvidence | None) -> ImageEvidence:
    """What two extractors saw; of what both looked for, the later one's."""
    told = {entry.name: getattr(after, entry.name) for entry in fields(ImageEvidence)} if after else {}
    return replace(before, **{name: value for name, value in told.items() if value is not None})


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
        seen = model.metadata.get("evidence", {})
        self.crops = RegionEncoder(**seen["regions"]) if seen.get("regions") else None
        self.evidence = Evidence(
            top_objects=seen.get("top_objects"),
            caption_phrases=seen.get("caption_phrases", True),
            chunker=CHUNKERS[seen.get("chunker", "RuleChunker")](),
            image_nodes=seen.get("image", "grid"),
        )
        self.eyes = ImageProcessor(
            [Manifest(**manifest) for manifest in seen.get("stores", ())],
            chunker=self.evidence.noun_chunker,
            image=self.evidence.image_nodes,
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

    def prepared(self, pairs: Iterable[Pair], *, cache: Path | None = None, progress: bool = False) -> list[Pair]:
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

    def _prepared(self, pairs: list[Pair], cache: Path | None, progress: bool) -> tuple[list[Pair], list[str]]:
        """The pairs ready for the model, and those of them that go without their picture's features."""
        looked, seen = self.eyes(pairs, next(self.model.parameters()).device)
        found = [self._seen(pair) for pair in looked]
        blind = [_told(pair, one) for pair, one in zip(found, seen, strict=True) if self._misses(pair, one)]
        if self.crops is not None:
            found = self.crops.attach(found, cache, progress=progress)
        return found, blind

    def _misses(self, pair: Pair, seen: ImageEvidence) -> bool:
        """Whether the model reads what is seen in pictures, and there is nothing of this post's."""
        if pair.image_path is None:
            return False
        missing = self.model.builder.missing(pair)
        image = "image features" in missing
        looked = seen.objects is not None or self.crops is not None
        regions = "region features" in missing
        nothing = bool(self.eyes.eyes) and not pair.objects and pair.image_features is None and pair.caption is None
        return image or (not looked and (regions or nothing))

    def _seen(self, pair: Pair) -> Pair:
        """The pair with as many boxed objects, and its caption's phrases as objects, as in training."""
        told = tuple(thing for thing in pair.objects if thing.box is None)
        if pair.caption is not None and self.evidence.caption_phrases and not told:
            told = self.evidence.phrases(pair.caption)
        boxed = sorted((thing for thing in pair.objects if thing.box is not None), key=lambda thing: -thing.score)
        return replace(pair, objects=(*boxed[: self.evidence.top_objects], *told))


def record_of(evidence: Evidence, crops: RegionEncoder | None) -> dict[str, Any]:
    """What a pipeline must know of the evidence a model was trained with, as plain data."""
    return {
        "top_objects": evidence.top_objects,
        "caption_phrases": evidence.caption_phrases,
        "chunker": type(evidence.noun_chunker).__name__,
        "regions": asdict(crops) if crops else None,
        "image": evidence.image_nodes,
        "stores": [asdict(Manifest.read(Path(folder))) for folder in evidence.stores],
    }


def _told(pair: Pair, seen: ImageEvidence) -> str:
    """A post that goes without its picture's features, and why if the picture is to blame."""
    name = pair.id or (pair.image_path.name if pair.image_path else "")
    return f"{name} ({seen.fault.detail})" if seen.fault and not seen.fault.usable else name


def _warn(blind: list[str]) -> None:
    if blind:
        warnings.warn(
            f"{len(blind)} posts have a picture, but the model does not see it, as they have none of the "
            f"features that it reads: {', '.join(blind[:5])}{', ...' if len(blind) > 5 else ''}. A feature "
            "store of their pictures, made as the training's was, or a file of features gives them",
            stacklevel=3,
        )
