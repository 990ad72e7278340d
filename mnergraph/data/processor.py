"""Preparation of posts for a model: the evidence of their images, as the model's training posts had it."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import torch

from mnergraph.data.chunker_config import chunker_config, make_chunker
from mnergraph.data.evidence import Evidence
from mnergraph.data.json_settings import check_entries, read_json_object
from mnergraph.data.missing_evidence import MissingCounts
from mnergraph.features.store.entries import cast, lookup
from mnergraph.features.store.manifest import Manifest, StoreError, check_manifest, rename_entries, store_dtype
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.noun_chunks import Chunker, noun_phrases
from mnergraph.features.vision.crops import RegionEncoder
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.features.vision.extractor import Extractor
from mnergraph.features.vision.registry import EXTRACTORS, extractor_of
from mnergraph.graph.evidence_kinds import (
    DETECTED_OBJECTS,
    GROUNDED_OBJECTS,
    IMAGE_EVIDENCE,
    IMAGE_FEATURES,
    IMAGE_FILE,
    IMAGE_GRID,
    OBJECT_BOXES,
    OBJECT_CLASSES,
    REGION_FEATURES,
    context_kind,
)
from mnergraph.pair import IMAGE_SOURCES, Pair
from mnergraph.quoting import listed

if TYPE_CHECKING:
    from mnergraph.graph.builder import GraphBuilder

#: The file of a processor's settings, in the folder of the model.
PROCESSOR_CONFIG = "processor_config.json"


@dataclass(frozen=True)
class ProcessorConfig:
    """Settings of the evidence that a model's training posts had; plain data.

    Args:
        top_objects: how many boxed objects a post keeps, best score first; None for all.
        caption_phrases: whether the captions' noun phrases became objects.
        chunker: what found noun phrases, as `chunker_config` writes it; None for the rules.
        regions: the settings of the `RegionEncoder` of boxed objects, if any.
        image_nodes: whether a store's image became a ``grid`` of nodes or one ``pooled`` node.
        stores: the manifests of the feature stores, in the order in which they were read.
        allow_missing: the kinds of evidence (`mnergraph.graph.evidence_kinds`) that the model reads and all training
            posts were allowed to lack.
    """

    top_objects: int | None = None
    caption_phrases: bool = True
    chunker: dict[str, Any] | None = None
    regions: dict[str, Any] | None = None
    image_nodes: Literal["grid", "pooled"] = "grid"
    stores: tuple[dict[str, Any], ...] = ()
    allow_missing: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, evidence: Evidence, regions: RegionEncoder | None = None, *, allow_missing: Iterable[str] = ()
    ) -> ProcessorConfig:
        """Return the settings of evidence that training posts have.

        Raises:
            ValueError: for a chunker that can't be made again from plain data, with what to do.
        """
        return cls(
            top_objects=evidence.top_objects,
            caption_phrases=evidence.caption_phrases,
            chunker=None if evidence.chunker is None else chunker_config(evidence.chunker),
            regions=asdict(regions) if regions else None,
            image_nodes=evidence.image_nodes,
            stores=tuple(asdict(Manifest.read(Path(folder))) for folder in evidence.stores),
            allow_missing=tuple(allow_missing),
        )

    def save_pretrained(self, folder: Path) -> None:
        """Write the settings into the folder of a model."""
        text = json.dumps(asdict(self), indent=2, ensure_ascii=False)
        (folder / PROCESSOR_CONFIG).write_text(text + "\n", encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: Path) -> ProcessorConfig | None:
        """Return the settings in the folder of a model; None where there are none.

        Raises:
            ValueError: for a damaged file, or one with other entries than `ProcessorConfig` has; names the file.
        """
        path = folder / PROCESSOR_CONFIG
        if not path.exists():
            return None
        return cls.from_dict(read_json_object(path), str(path))

    @classmethod
    def from_dict(cls, saved: Mapping[str, Any], where: str) -> ProcessorConfig:
        """Return the settings of these entries, as `save_pretrained` writes them.

        Args:
            saved: the entries.
            where: what they are, for messages.

        Raises:
            ValueError: for an entry that is missing, unknown or of another type, here or within an entry.
        """
        hints = get_type_hints(cls)
        unknown = sorted(set(saved) - set(hints))
        if unknown:
            raise ValueError(f"{where}: {listed(unknown)} is no setting of a processor in this version")
        # models saved before there was allow_missing have none
        check_entries(saved, hints, where, optional=("allow_missing",))
        config = cls(**{**saved, **{name: tuple(saved.get(name, ())) for name in ("stores", "allow_missing")}})
        try:
            config._check()
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: {error}") from error
        return config

    def _check(self) -> None:
        """Check what a processor will be made of, without loading anything."""
        if self.top_objects is not None and self.top_objects < 0:
            raise ValueError(f"top_objects is {self.top_objects}; right is a count, or None for all")
        if self.chunker is not None:
            check_entries(self.chunker, {"class": str, "settings": dict}, "chunker", optional=("settings",))
        if self.regions is not None:
            check_entries(self.regions, get_type_hints(RegionEncoder), "regions", optional=("fit", "pyramid_stages"))
            RegionEncoder(**self.regions)
        for manifest in self.stores:
            check_entries(rename_entries(manifest), get_type_hints(Manifest), "a manifest in stores")
            Manifest.from_dict(manifest)

    def describe(self) -> str:
        """Return one line per setting, for the card of a model."""
        chunker = self.chunker["class"] if self.chunker else "RuleChunker"
        regions = "none" if self.regions is None else f"{self.regions['backbone']}, {self.regions['weights']}"
        stores = ", ".join(manifest["extractor"] for manifest in self.stores) or "none"
        return "\n".join(
            [
                f"- objects per post: {'all' if self.top_objects is None else self.top_objects}",
                f"- caption phrases as objects: {'yes' if self.caption_phrases else 'no'}; noun chunker: {chunker}",
                f"- region encoder: {regions}",
                f"- feature stores: {stores}; image nodes: {self.image_nodes}",
                f"- evidence that all training posts were allowed to lack: {', '.join(self.allow_missing) or 'none'}",
            ]
        )


class Processor:
    """Gives posts the evidence that a model's training posts had: for training and for prediction alike.

    Args:
        config: the settings.
        stores: folders of feature stores in which to look images up, made as those of the training were.
        run_extractors: whether to run the training's extractors on images that no store has.

    Raises:
        StoreError: for a store that was made otherwise, naming each difference.
    """

    def __init__(
        self,
        config: ProcessorConfig | None = None,
        *,
        stores: Iterable[Path | str] = (),
        run_extractors: bool = True,
    ) -> None:
        self.config = config = config or ProcessorConfig()
        self.regions = RegionEncoder(**config.regions) if config.regions else None
        self.evidence = Evidence(
            top_objects=config.top_objects,
            caption_phrases=config.caption_phrases,
            chunker=make_chunker(config.chunker) if config.chunker else None,
            image_nodes=config.image_nodes,
        )
        self.extractors = [StoreBackedExtractor(Manifest.from_dict(manifest)) for manifest in config.stores]
        self.run_extractors = run_extractors
        for folder in dict.fromkeys(map(Path, stores)):
            self._add_store(folder)

    def __call__(
        self,
        pairs: Iterable[Pair],
        *,
        builder: GraphBuilder | None = None,
        device: torch.device | str = "cpu",
        cache: Path | None = None,
        progress: bool = False,
    ) -> list[Pair]:
        """Return the pairs with the evidence that such posts had in training; what a pair has is kept.

        Args:
            pairs: the posts.
            builder: of the model that will read them; with it a warning counts, for every kind of evidence that the
                model reads, the posts that lack it.
            device: where extractors run.
            cache: folder that keeps region vectors.
            progress: whether to show a progress bar for these.

        Raises:
            ValueError: when an image needs an extractor that can't be made again here.
        """
        ready, missing = self.process(list(pairs), builder=builder, device=device, cache=cache, progress=progress)
        MissingCounts().add(missing, len(ready)).warn()
        return ready

    def process(
        self,
        pairs: list[Pair],
        *,
        builder: GraphBuilder | None = None,
        device: torch.device | str = "cpu",
        cache: Path | None = None,
        progress: bool = False,
    ) -> tuple[list[Pair], dict[str, list[str]]]:
        """Return the pairs ready for the model, and for every kind of evidence the names of those that lack it.

        A post without an image is read by its text, so it lacks only what does not come from one. An image in which a
        detector found nothing lacks nothing.
        """
        found = [_NOTHING] * len(pairs)
        for extractor in self.extractors:
            new = extractor(pairs, self.evidence.noun_chunker, torch.device(device), extract=self.run_extractors)
            found = [_merge(before, after) for before, after in zip(found, new, strict=True)]
        ready = [
            pair if evidence is _NOTHING and _is_bare(pair) else self.evidence.complete(pair, evidence)
            for pair, evidence in zip(pairs, found, strict=True)
        ]
        ready = self.add_regions(ready, cache=cache, progress=progress)
        missing: dict[str, list[str]] = defaultdict(list)
        if builder is not None:
            for pair, evidence in zip(ready, found, strict=True):
                for kind in self._missing(pair, evidence, builder):
                    missing[kind].append(_name(pair, evidence))
        return ready, dict(missing)

    def available(self, pair: Pair) -> set[str]:
        """Return the kinds of evidence that processing gives a pair, if its image can be read."""
        kinds: set[str] = {DETECTED_OBJECTS} if pair.caption is not None and self.config.caption_phrases else set()
        if pair.image_path is None:
            return kinds
        if self.regions is not None:
            kinds.add(REGION_FEATURES)
        for extractor in self.extractors:
            if self.run_extractors or extractor.stores:
                kinds |= extractor.kinds
        return kinds

    def add_regions(self, pairs: list[Pair], *, cache: Path | None = None, progress: bool = False) -> list[Pair]:
        """Return the pairs whose boxed objects have region vectors, where the settings have an encoder of them."""
        return pairs if self.regions is None else self.regions.attach(pairs, cache, progress=progress)

    def _add_store(self, folder: Path) -> None:
        manifest = Manifest.read(folder)
        names = [extractor.manifest.extractor for extractor in self.extractors]
        if manifest.extractor not in names:
            raise StoreError(
                f"{folder} holds features of {manifest.extractor}; the model was trained "
                f"on {'stores of ' + ', '.join(names) if names else 'no feature store'}"
            )
        nearest = min(self.extractors, key=lambda extractor: len(extractor.manifest.differences(manifest)))
        check_manifest(folder, manifest, nearest.manifest)
        nearest.stores.append(FeatureStore(folder))

    def _missing(self, pair: Pair, evidence: ImageEvidence, builder: GraphBuilder) -> Iterator[str]:
        # context of these sources was looked for, and there is none
        searched = {context_kind(entry.source) for entry in pair.context}
        searched |= {context_kind("tags")} if evidence.objects is not None else set()
        for kind in builder.missing(pair):
            if kind in searched:
                continue
            undetected = kind in _OBJECT_EVIDENCE and evidence.objects is None
            own = kind not in IMAGE_EVIDENCE
            if kind in self.config.allow_missing or not (own or pair.image_path is not None):
                continue
            if own or undetected or kind in (IMAGE_FEATURES, IMAGE_FILE, *_CONTEXT_OF_IMAGE):
                yield kind


class StoreBackedExtractor:
    """One of the extractors that computed the features of a model's training images.

    Images are looked up in stores first; the extractor runs on those that no store has.

    Args:
        manifest: of the feature store of the training images.

    Attributes:
        stores: further stores, made with the same settings.
    """

    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.stores: list[FeatureStore] = []
        self._failure: Exception | None = None

    @cached_property
    def extractor(self) -> Extractor:
        """The extractor, built when first used.

        Raises:
            ValueError: when it can't be built here, or would compute other features; with what to do instead.
        """
        if self._failure is None:
            try:
                return extractor_of(self.manifest)
            except (OSError, ValueError) as error:
                self._failure = error  # not tried again for the next post
        raise ValueError(
            f"the model's training images went through {self.manifest.extractor}, which can't be built here: "
            f"{self._failure}. Give stores, feature stores of these images that `mnergraph features` made with "
            "the same extractor, or run_extractors=False to read the posts without these features"
        ) from self._failure

    def __call__(
        self, pairs: Sequence[Pair], chunker: Chunker, device: torch.device, *, extract: bool
    ) -> list[ImageEvidence | None]:
        """Return the evidence of these posts' images; None where the image was not processed or nothing is lacking."""
        evidence: list[ImageEvidence | None] = [
            next(filter(None, lookup(self.stores, pair, chunker)), None) if _has_file(pair) else None for pair in pairs
        ]
        if extract:
            rest = [
                index for index, known in enumerate(evidence) if known is None and self._lacks_features(pairs[index])
            ]
            computed = self._extract([pairs[index] for index in rest], chunker, device) if rest else []
            for index, new in zip(rest, computed, strict=True):
                evidence[index] = new
        return evidence

    def _extract(self, pairs: Sequence[Pair], chunker: Chunker, device: torch.device) -> list[ImageEvidence]:
        """Run the extractor on these posts' images, with results in the precision of the training's store."""
        finds = self.extractor.chunker_for(chunker)
        phrases = None if finds is None else [noun_phrases(pair.words, finds) for pair in pairs]
        paths = [pair.image_path for pair in pairs if pair.image_path is not None]
        computed = self.extractor.extract(paths, phrases, device=device, progress=False)
        return [cast(evidence, store_dtype(self.manifest)) for evidence in computed]

    def _lacks_features(self, pair: Pair) -> bool:
        """Whether the pair has an image and lacks something that the extractor provides."""
        has = {
            "objects": any(item.box is not None for item in pair.objects),
            "image": pair.image_features is not None,
            "caption": pair.caption is not None,
            "context": {entry.source for entry in pair.context} >= self._sources,
        }
        provided = EXTRACTORS.get(self.manifest.extractor, Extractor).provides
        return pair.image_path is not None and not all(has[what] for what in provided)

    @property
    def kinds(self) -> set[str]:
        """The kinds of evidence that the extractor provides."""
        extractor = EXTRACTORS.get(self.manifest.extractor, Extractor)
        kinds = {kind for what in extractor.provides for kind in _KINDS_PROVIDED[what]}
        kinds |= {context_kind(source) for source in self._sources}
        return kinds | {GROUNDED_OBJECTS} if extractor.needs_phrases else kinds

    @property
    def _sources(self) -> set[str]:
        """The sources of the context that the extractor provides."""
        sources: set[str] = set(EXTRACTORS.get(self.manifest.extractor, Extractor).sources)
        return sources


#: The kinds of evidence of an image that no detector has processed.
_OBJECT_EVIDENCE = (DETECTED_OBJECTS, REGION_FEATURES)
_CONTEXT_OF_IMAGE = tuple(map(context_kind, IMAGE_SOURCES))
#: The kinds of evidence behind each entry of `Extractor.provides`.
_KINDS_PROVIDED = {
    "objects": (DETECTED_OBJECTS, OBJECT_BOXES, OBJECT_CLASSES, REGION_FEATURES, context_kind("tags")),
    "image": (IMAGE_FEATURES, IMAGE_GRID),
    "caption": (DETECTED_OBJECTS, context_kind("caption"), context_kind()),
    "context": (context_kind(),),
}


#: The evidence of a post whose image no extractor has processed.
_NOTHING = ImageEvidence()


def _is_bare(pair: Pair) -> bool:
    """Whether a pair is words alone, which `Evidence.complete` leaves as they are."""
    return not pair.objects and pair.caption is None and pair.size is None and pair.image_features is None


def _has_file(pair: Pair) -> bool:
    return pair.image_path is not None and pair.image_path.is_file()


def _merge(before: ImageEvidence, after: ImageEvidence | None) -> ImageEvidence:
    """Return the evidence of two extractors; of a kind that both provide, the later one's."""
    if after is None:
        return before
    values = {entry.name: getattr(after, entry.name) for entry in fields(ImageEvidence)}
    if before.context and values.get("context") is not None:
        sources = {entry.source for entry in values["context"]}
        values["context"] = (*(entry for entry in before.context if entry.source not in sources), *values["context"])
    return replace(before, **{name: value for name, value in values.items() if value is not None})


def _name(pair: Pair, evidence: ImageEvidence) -> str:
    """Return the name of a post without its image's features, with the image's fault if that is the reason."""
    name = pair.id or (pair.image_path.name if pair.image_path else "")
    return f"{name} ({evidence.issue.detail})" if evidence.issue and not evidence.issue.usable else name
