"""What a model's training posts were seen by, and what that says of other posts' pictures."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import torch

from mnergraph.features.extract import Extractor
from mnergraph.features.extractors import EXTRACTORS, extractor_of
from mnergraph.features.manifest import Manifest, StoreError, dtype_of, require
from mnergraph.features.phrases import Chunker, noun_phrases
from mnergraph.features.seen import Seen
from mnergraph.features.store import FeatureStore
from mnergraph.features.stored import in_precision, known
from mnergraph.graph import Pair


class Eyes:
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
        self.eyes = [Eye(manifest) for manifest in manifests]
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

    def __call__(self, pairs: Sequence[Pair], device: torch.device) -> tuple[list[Pair], list[Seen]]:
        """The pairs with what was seen in their pictures where they had none of it, and all that was seen."""
        seen = [Seen()] * len(pairs)
        for eye in self.eyes:
            found = eye(pairs, self.chunker, device, extract=self.extract)
            seen = [_together(before, one) for before, one in zip(seen, found, strict=True)]
        return [self._with(pair, one) for pair, one in zip(pairs, seen, strict=True)], seen

    def _with(self, pair: Pair, seen: Seen) -> Pair:
        """The pair with what it lacked of what was seen."""
        looked = seen.onto(replace(pair, objects=(), image=None, caption=None), image=self.image)
        boxed = any(thing.box is not None for thing in pair.objects)
        return replace(
            pair,
            size=pair.size if boxed and pair.size else looked.size,
            objects=pair.objects if boxed else (*looked.objects, *pair.objects),
            image=looked.image if pair.image is None else pair.image,
            caption=looked.caption if pair.caption is None else pair.caption,
        )


class Eye:
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
    ) -> list[Seen | None]:
        """What is seen in these posts' pictures; None where nobody looked, or nothing is lacking."""
        found: list[Seen | None] = [
            next(filter(None, known(self.stores, pair, chunker)), None) if _has_file(pair) else None
            for pair in pairs
        ]
        if extract:
            places = [place for place, seen in enumerate(found) if seen is None and self._helps(pairs[place])]
            looked = self._look([pairs[place] for place in places], chunker, device) if places else []
            for place, seen in zip(places, looked, strict=True):
                found[place] = seen
        return found

    def _look(self, pairs: Sequence[Pair], chunker: Chunker, device: torch.device) -> list[Seen]:
        """What the extractor sees in these pictures, in the precision of the training's store."""
        phrases = [noun_phrases(pair.words, chunker) for pair in pairs]
        pictures = [pair.picture for pair in pairs if pair.picture is not None]
        found = self.extractor.extract(
            pictures, phrases if self.extractor.reads_phrases else None, device=device, progress=False
        )
        return [in_precision(seen, dtype_of(self.manifest)) for seen in found]

    def _helps(self, pair: Pair) -> bool:
        """Whether there is a picture, and the pair lacks something that the extractor may find in it."""
        has = {
            "objects": any(thing.box is not None for thing in pair.objects),
            "image": pair.image is not None,
            "caption": pair.caption is not None,
        }
        gives = EXTRACTORS.get(self.manifest.extractor, Extractor).gives
        return pair.picture is not None and not all(has[kind] for kind in gives)


def _has_file(pair: Pair) -> bool:
    return pair.picture is not None and pair.picture.is_file()


def _together(before: Seen, after: Seen | None) -> Seen:
    """What two extractors saw; of what both looked for, the later one's."""
    told = {entry.name: getattr(after, entry.name) for entry in fields(Seen)} if after else {}
    return replace(before, **{name: value for name, value in told.items() if value is not None})
