"""Evidence of posts by id, attached to pairs: objects, captions, features, context; any, all or none of them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mnergraph.data.formats.evidence_jsonl import Detections, EvidenceError, read_captions, read_context, read_objects
from mnergraph.data.formats.feature_file import Features, open_features
from mnergraph.features.store.entries import lookup
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.noun_chunks import Chunker, RuleChunker, phrase_labels
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.graph.node_types import NodeType
from mnergraph.pair import ContextText, DetectedObject, Pair
from mnergraph.quoting import listed

#: Names under which evidence lies beside the text.
OBJECTS, CAPTIONS, FEATURES = "objects.jsonl", "captions.jsonl", "features.safetensors"
CONTEXT = "context.jsonl"
#: Objects of a post; its graph has their number squared of edges.
MAX_OBJECTS = 300


@dataclass(frozen=True)
class Coverage:
    """Number of posts that have evidence of each kind, of ``posts`` in all; ``unmatched_ids``: ids without a post."""

    posts: int
    captions: int = 0
    objects: int = 0
    regions: int = 0
    images: int = 0
    context: int = 0
    unmatched_ids: int = 0


@dataclass(frozen=True)
class Evidence:
    """Files of evidence and how they become part of a pair.

    Args:
        captions: path of ``captions.jsonl`` (see `mnergraph.data.formats.evidence_jsonl`), or None.
        objects: path of ``objects.jsonl``, or None. Where there are stores, a post for which it lists no
            objects gets the stores' objects, as it does when a model predicts.
        features: path of ``features.safetensors`` (see `mnergraph.data.formats.feature_file`), or None.
        top_objects: keep this many boxed objects, best score first; None for all.
        caption_phrases: append the caption's noun phrases as objects without boxes, beyond ``top_objects``.
        chunker: finds those noun phrases, and those of the sentence for which a grounder's store was asked;
            by default `RuleChunker`, by the documented rules.
        stores: folders of feature stores (`mnergraph features`), looked up by the content of a post's
            image; where two hold the same kind of evidence, the later one's is used.
        context: path of ``context.jsonl`` (see `mnergraph.data.formats.evidence_jsonl`), or None.
        image_nodes: whether a store's image becomes its ``grid`` of nodes, or one ``pooled`` node.
    """

    captions: Path | str | None = None
    objects: Path | str | None = None
    features: Path | str | None = None
    top_objects: int | None = None
    caption_phrases: bool = True
    chunker: Chunker | None = None
    stores: tuple[Path | str, ...] = ()
    image_nodes: Literal["grid", "pooled"] = "grid"
    context: Path | str | None = None

    def __post_init__(self) -> None:
        for folder in self.stores:
            Manifest.read(Path(folder))
        if self.top_objects is not None and self.top_objects < 0:
            raise ValueError(f"top_objects is {self.top_objects}; right is a count, or None for all")
        for kind in ("captions", "objects", "features", "context"):
            path = getattr(self, kind)
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"{kind}={str(path)!r} is no file; give a path that is there, or None")

    @property
    def noun_chunker(self) -> Chunker:
        """The chunker that finds noun phrases: `chunker`, or the rules."""
        return self.chunker or RuleChunker()

    @classmethod
    def from_folder(cls, *folders: str | Path) -> Evidence:
        """Return evidence from files with the usual names, each from the first folder that has it."""

        def first(name: str) -> Path | None:
            return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)

        return cls(first(CAPTIONS), first(OBJECTS), first(FEATURES), context=first(CONTEXT))

    def attach(self, pairs: Iterable[Pair]) -> list[Pair]:
        """Return the pairs with their evidence, which replaces what a pair had of that kind.

        Ids of the files that belong to no pair are ignored; `coverage` counts them.

        Raises:
            EvidenceError: at the first fault, naming file and line, or file and id.
        """
        captions, detections = self._read()
        context = read_context(self.context) if self.context else {}
        stores = [FeatureStore(folder) for folder in self.stores]
        with ExitStack() as stack:
            features = stack.enter_context(open_features(self.features)) if self.features else None
            ready = []
            for pair in pairs:
                detected = detections.get(pair.id)
                if self._defers_to_stores(detected):
                    named = tuple(item for item in pair.objects if not item.box)
                    pair = replace(pair, objects=named, size=None)
                stored = with_context(self._from_stores(pair, stores), context.get(pair.id, ()))
                try:
                    ready.append(self._attach(stored, captions.get(pair.id), detected, features))
                except EvidenceError:
                    raise
                except ValueError as error:  # a span that leaves the sentence
                    raise EvidenceError(f"{detected.where if detected else self.objects}: {error}") from error
            return limit_objects(ready)

    def _defers_to_stores(self, detected: Detections | None) -> bool:
        """Whether a post's boxes and size are left to the stores, as the file lists nothing."""
        return bool(self.stores) and detected is not None and not detected.objects

    def _from_stores(self, pair: Pair, stores: Sequence[FeatureStore]) -> Pair:
        for stored in filter(None, lookup(stores, pair, self.noun_chunker)):
            pair = stored.attach_to(pair, image=self.image_nodes)
            if stored.caption is not None and self.caption_phrases:
                boxed = tuple(item for item in pair.objects if item.box)
                pair = replace(pair, objects=boxed + self.phrases(stored.caption))
        return pair

    def complete(self, pair: Pair, evidence: ImageEvidence) -> Pair:
        """Return the pair with what it lacked of an image's evidence, with as many objects as these settings keep.

        The caption's noun phrases become objects where the pair has no objects without boxes.
        """
        found = evidence.attach_to(replace(pair, objects=(), image_features=None, caption=None), image=self.image_nodes)
        boxed = any(item.box is not None for item in pair.objects)
        objects = pair.objects if boxed else (*found.objects, *pair.objects)
        caption = found.caption if pair.caption is None else pair.caption
        named = tuple(item for item in objects if item.box is None)
        if caption is not None and self.caption_phrases and not named:
            named = self.phrases(caption)
        best = sorted((item for item in objects if item.box is not None), key=lambda item: -item.score)
        return replace(
            pair,
            size=pair.size if boxed and pair.size else found.size,
            objects=(*best[: self.top_objects], *named),
            image_features=found.image_features if pair.image_features is None else pair.image_features,
            caption=caption,
            context=with_context(replace(pair, context=evidence.context or ()), pair.context).context,
        )

    def phrases(self, caption: str) -> tuple[DetectedObject, ...]:
        """The caption's noun phrases as general objects without boxes."""
        return tuple(DetectedObject(label) for label in phrase_labels(caption, self.noun_chunker))

    def coverage(self, pairs: Sequence[Pair]) -> Coverage:
        """Return how many of these pairs have evidence in the files and stores; feature files are only listed."""
        captions, detections = self._read()
        kinds = {
            "captions": set(captions),
            "objects": {key for key, detected in detections.items() if detected.objects},
            "context": set(read_context(self.context)) if self.context else set(),
        }
        if self.features:
            with open_features(self.features) as features:
                listed = features.ids("objects") - {key for key, detected in detections.items() if not detected.objects}
                kinds |= {"regions": listed, "images": features.ids("image")}
        if self.stores:
            stores = [FeatureStore(folder) for folder in self.stores]
            without = [replace(pair, objects=(), image_features=None, context=()) for pair in pairs]
            attached = [self._from_stores(pair, stores) for pair in without]
            in_stores = {
                "objects": {pair.id for pair in attached if pair.objects},
                "regions": {pair.id for pair in attached if any(item.region is not None for item in pair.objects)},
                "images": {pair.id for pair in attached if pair.image_features is not None},
                "context": {pair.id for pair in attached if pair.context},
            }
            kinds = {kind: kinds.get(kind, set()) | in_stores.get(kind, set()) for kind in {*kinds, *in_stores}}
        known = {pair.id for pair in pairs}
        unmatched = set().union(*kinds.values(), detections) - known
        counts = {kind: sum(pair.id in ids for pair in pairs) for kind, ids in kinds.items()}
        return Coverage(len(pairs), **counts, unmatched_ids=len(unmatched))

    def _read(self) -> tuple[dict[str, str], dict[str, Detections]]:
        captions = read_captions(self.captions) if self.captions else {}
        return captions, read_objects(self.objects) if self.objects else {}

    def _attach(self, pair: Pair, caption: str | None, detected: Detections | None, features: Features | None) -> Pair:
        boxed, size = tuple(item for item in pair.objects if item.box), pair.size
        if detected and not self._defers_to_stores(detected):
            boxed = detected.objects
        if detected and (size is None or not self._defers_to_stores(detected)):
            size = detected.width, detected.height
        regions = features.regions(pair.id, len(detected.objects if detected else boxed)) if features else None
        if regions is not None and len(regions):
            boxed = tuple(replace(item, region=row) for item, row in zip(boxed, regions, strict=True))
        boxed = tuple(sorted(boxed, key=lambda item: -item.score))[: self.top_objects]
        named = tuple(item for item in pair.objects if not item.box)
        if self.caption_phrases and caption is not None:
            named = self.phrases(caption)
        image = features.image(pair.id) if features else None
        return replace(
            pair,
            objects=boxed + named,
            caption=pair.caption if caption is None else caption,
            size=size,
            image_features=pair.image_features if image is None else image,
        )


def with_context(pair: Pair, texts: Sequence[ContextText]) -> Pair:
    """Return the pair with these texts about it in the place of those that it has of the same sources."""
    sources = {entry.source for entry in texts}
    kept = tuple(entry for entry in pair.context if entry.source not in sources)
    return replace(pair, context=(*kept, *texts)) if texts else pair


def limit_objects(pairs: list[Pair]) -> list[Pair]:
    """Return the pairs with at most `MAX_OBJECTS` objects each, the first ones; a warning counts those left out."""
    many = TooManyObjects()
    limited = [many.limit(pair) for pair in pairs]
    many.warn(stacklevel=4)
    return limited


class TooManyObjects:
    """Limits posts to `MAX_OBJECTS` objects, and counts what is left out."""

    def __init__(self) -> None:
        self.posts = self.left_out = 0
        self._first: list[str] = []

    def limit(self, pair: Pair) -> Pair:
        """Return the pair with its first objects."""
        if len(pair.objects) <= MAX_OBJECTS:
            return pair
        self.posts += 1
        self.left_out += len(pair.objects) - MAX_OBJECTS
        self._first += [pair.id] * (len(self._first) < 5)
        return replace(pair, objects=pair.objects[:MAX_OBJECTS])

    def warn(self, *, stacklevel: int = 3) -> None:
        """Warn of the objects that were left out, if there were any."""
        if self.posts:
            warnings.warn(
                f"{self.posts} posts have more than {MAX_OBJECTS} objects ({listed(self._first, self.posts)}); "
                f"{self.left_out} objects are left out",
                stacklevel=stacklevel,
            )


def attach_node_evidence(
    pairs: Sequence[Pair], node_types: Iterable[NodeType], *folders: Path | str, required: bool = True
) -> list[Pair]:
    """Return the pairs with what node types of your own read from their evidence files, in ``pair.extra``.

    What a pair has already takes precedence. A warning counts the pairs without any.

    Args:
        pairs: the posts.
        node_types: the model's node types; those without an ``evidence_file`` read none.
        folders: where the files may be, the first that has one.
        required: whether a file that is absent is an error, unless every pair has its evidence already.

    Raises:
        FileNotFoundError: for an absent file, with what it should hold.
        ValueError: for a malformed line, naming file and line.
    """
    pairs = list(pairs)
    for node_type in node_types:
        if node_type.evidence_file is None:
            continue
        name = node_type.name
        paths = (Path(folder) / node_type.evidence_file for folder in folders)
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            if required and not all(name in pair.extra for pair in pairs):
                raise FileNotFoundError(
                    f"the model's {name!r} nodes are read from {node_type.evidence_file}, which is not in "
                    f"{' or '.join(map(str, folders))}; a line of it is "
                    f'{{"id": "7", "nodes": ...}} as {type(node_type).__name__}.parse takes it'
                )
            continue
        evidence = node_type.read_evidence(path)
        pairs = [
            replace(pair, extra={name: evidence[pair.id], **pair.extra}) if pair.id in evidence else pair
            for pair in pairs
        ]
        without = [pair.id for pair in pairs if name not in pair.extra]
        if without:
            warnings.warn(
                f"{path} has nothing on {len(without)} of {len(pairs)} posts: {', '.join(without[:5])}"
                f"{', ...' if len(without) > 5 else ''}",
                stacklevel=3,
            )
    return pairs
