"""Evidence per post id, brought to pairs: objects, captions, features. A pair may have any, all or none."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from mnergraph.data.formats.evidence_jsonl import Detections, read_captions, read_objects
from mnergraph.data.formats.feature_file import Features, open_features
from mnergraph.features.store.entries import lookup
from mnergraph.features.store.manifest import Manifest
from mnergraph.features.store.reader import FeatureStore
from mnergraph.features.text.noun_chunks import Chunker, RuleChunker, phrase_labels
from mnergraph.features.vision.evidence import ImageEvidence
from mnergraph.graph.node_types import NodeType
from mnergraph.pair import DetectedObject, Pair

#: Names under which evidence lies beside the text.
OBJECTS, CAPTIONS, FEATURES = "objects.jsonl", "captions.jsonl", "features.safetensors"


@dataclass(frozen=True)
class Coverage:
    """How many of ``posts`` posts have evidence of each kind; ``strangers``: ids without a post."""

    posts: int
    captions: int = 0
    objects: int = 0
    regions: int = 0
    images: int = 0
    unmatched_ids: int = 0


@dataclass(frozen=True)
class Evidence:
    """Files of evidence and how they become part of a pair.

    Args:
        captions: path of ``captions.jsonl`` (see ``records``), or None.
        objects: path of ``objects.jsonl``, or None. Where there are stores, a post for which it lists no
            objects has those that they know, as a post without objects has when a model predicts.
        features: path of ``features.safetensors`` (see ``vectors``), or None.
        top_objects: keep this many boxed objects, best score first; None for all.
        caption_phrases: append the caption's noun phrases as objects without boxes, beyond ``top_objects``.
        chunker: finds those noun phrases, and those of the sentence for which a grounder's store was asked;
            by default `RuleChunker`, by the documented rules.
        stores: folders of feature stores (`mnergraph features`), looked up by the content of a post's
            image; where two know of the same kind of evidence the later one holds.
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

    def __post_init__(self) -> None:
        for folder in self.stores:
            Manifest.read(Path(folder))
        if self.top_objects is not None and self.top_objects < 0:
            raise ValueError(f"top_objects is {self.top_objects}; right is a count, or None for all")
        for kind in ("captions", "objects", "features"):
            path = getattr(self, kind)
            if path is not None and not Path(path).is_file():
                raise FileNotFoundError(f"{kind}={str(path)!r} is no file; give a path that is there, or None")

    @property
    def noun_chunker(self) -> Chunker:
        """What finds noun phrases."""
        return self.chunker or RuleChunker()

    @classmethod
    def from_folder(cls, *folders: str | Path) -> Evidence:
        """The files of the usual names in the first of these folders that has each, with default settings."""

        def first(name: str) -> Path | None:
            return next((path for folder in folders if (path := Path(folder) / name).is_file()), None)

        return cls(first(CAPTIONS), first(OBJECTS), first(FEATURES))

    def attach(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs with their evidence. Evidence takes the place of what a pair held of that kind.

        Ids of the files that belong to no pair are left alone; ``coverage`` counts them.

        Raises:
            EvidenceError: at the first fault, naming file and line, or file and id.
            ValueError: when an object's ``words`` leave the sentence, naming the post.
        """
        captions, sights = self._read()
        stores = [FeatureStore(folder) for folder in self.stores]
        with ExitStack() as stack:
            features = stack.enter_context(open_features(self.features)) if self.features else None
            found = []
            for pair in pairs:
                sight = sights.get(pair.id)
                if self._defers_to_stores(sight):
                    named = tuple(seen for seen in pair.objects if not seen.box)
                    pair = replace(pair, objects=named, size=None)
                seen = self._from_stores(pair, stores)
                found.append(self._attach(seen, captions.get(pair.id), sight, features))
            return found

    def _defers_to_stores(self, sight: Detections | None) -> bool:
        """Whether a post's boxes and size are left to the stores, as the file lists nothing."""
        return bool(self.stores) and sight is not None and not sight.objects

    def _from_stores(self, pair: Pair, stores: Sequence[FeatureStore]) -> Pair:
        for seen in filter(None, lookup(stores, pair, self.noun_chunker)):
            pair = seen.attach_to(pair, image=self.image_nodes)
            if seen.caption is not None and self.caption_phrases:
                boxed = tuple(thing for thing in pair.objects if thing.box)
                pair = replace(pair, objects=boxed + self.phrases(seen.caption))
        return pair

    def complete(self, pair: Pair, seen: ImageEvidence) -> Pair:
        """Return the pair with what it lacked of an image's evidence, with as many objects as these settings keep.

        The caption's noun phrases become objects where the pair has no objects without boxes.
        """
        looked = seen.attach_to(replace(pair, objects=(), image_features=None, caption=None), image=self.image_nodes)
        boxed = any(item.box is not None for item in pair.objects)
        objects = pair.objects if boxed else (*looked.objects, *pair.objects)
        caption = looked.caption if pair.caption is None else pair.caption
        named = tuple(item for item in objects if item.box is None)
        if caption is not None and self.caption_phrases and not named:
            named = self.phrases(caption)
        best = sorted((item for item in objects if item.box is not None), key=lambda item: -item.score)
        return replace(
            pair,
            size=pair.size if boxed and pair.size else looked.size,
            objects=(*best[: self.top_objects], *named),
            image_features=looked.image_features if pair.image_features is None else pair.image_features,
            caption=caption,
        )

    def phrases(self, caption: str) -> tuple[DetectedObject, ...]:
        """The caption's noun phrases as general objects without boxes."""
        return tuple(DetectedObject(label) for label in phrase_labels(caption, self.noun_chunker))

    def coverage(self, pairs: Sequence[Pair]) -> Coverage:
        """Which of these pairs the files and stores speak of; of files it reads no feature."""
        captions, sights = self._read()
        kinds = {
            "captions": set(captions),
            "objects": {key for key, sight in sights.items() if sight.objects},
        }
        if self.features:
            with open_features(self.features) as features:
                listed = features.ids("objects") - {key for key, sight in sights.items() if not sight.objects}
                kinds |= {"regions": listed, "images": features.ids("image")}
        if self.stores:
            stores = [FeatureStore(folder) for folder in self.stores]
            bare = [replace(pair, objects=(), image_features=None) for pair in pairs]
            seen = [self._from_stores(pair, stores) for pair in bare]
            told = {
                "objects": {pair.id for pair in seen if pair.objects},
                "regions": {p.id for p in seen if any(thing.region is not None for thing in p.objects)},
                "images": {pair.id for pair in seen if pair.image_features is not None},
            }
            kinds = {kind: kinds.get(kind, set()) | told.get(kind, set()) for kind in {*kinds, *told}}
        known = {pair.id for pair in pairs}
        strangers = set().union(*kinds.values(), sights) - known
        counts = {kind: sum(pair.id in ids for pair in pairs) for kind, ids in kinds.items()}
        return Coverage(len(pairs), **counts, unmatched_ids=len(strangers))

    def _read(self) -> tuple[dict[str, str], dict[str, Detections]]:
        captions = read_captions(self.captions) if self.captions else {}
        return captions, read_objects(self.objects) if self.objects else {}

    def _attach(self, pair: Pair, caption: str | None, sight: Detections | None, features: Features | None) -> Pair:
        boxed, size = tuple(seen for seen in pair.objects if seen.box), pair.size
        if sight and not self._defers_to_stores(sight):
            boxed = sight.objects
        if sight and (size is None or not self._defers_to_stores(sight)):
            size = sight.width, sight.height
        regions = features.regions(pair.id, len(sight.objects if sight else boxed)) if features else None
        if regions is not None and len(regions):
            boxed = tuple(replace(seen, region=row) for seen, row in zip(boxed, regions, strict=True))
        boxed = tuple(sorted(boxed, key=lambda seen: -seen.score))[: self.top_objects]
        named = tuple(seen for seen in pair.objects if not seen.box)
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
