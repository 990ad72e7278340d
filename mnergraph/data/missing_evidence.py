"""What a model reads and posts lack: counted and named before work starts, refused where no post has it."""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.evidence_kinds import (
    DETECTED_OBJECTS,
    GROUNDED_OBJECTS,
    IMAGE_FEATURES,
    IMAGE_FILE,
    IMAGE_GRID,
    NEAREST_WORDS,
    OBJECT_BOXES,
    OBJECT_CLASSES,
    REGION_FEATURES,
    context_kind,
)
from mnergraph.pair import Pair

_EXTRACT = "mnergraph features --images DIR --posts DIR --store STORE --extractor {}, then --stores '[STORE]'"
_DETECT = f"objects.jsonl beside the posts, or a detector's store: {_EXTRACT.format('RCNNDetector')}"
#: How posts get evidence of each kind.
REMEDIES = {
    IMAGE_FILE: "the folder of the images: images/ beside the posts, or --data.images DIR",
    IMAGE_FEATURES: f"features.safetensors beside the posts, or a store: {_EXTRACT.format('BackboneGrid')}",
    IMAGE_GRID: f"a grid of vectors: {_EXTRACT.format('BackboneGrid')}",
    DETECTED_OBJECTS: _DETECT,
    OBJECT_BOXES: _DETECT,
    OBJECT_CLASSES: f"objects labelled by COCO's classes: {_EXTRACT.format('RCNNDetector')}",
    GROUNDED_OBJECTS: f"objects detected for phrases: {_EXTRACT.format('PhraseGrounder')}",
    REGION_FEATURES: "--regions.backbone resnet18 (crops of the objects), a detector's store, or features.safetensors",
    NEAREST_WORDS: "a table of word vectors that has the posts' words: --word_vectors FILE",
}
#: How posts get context of each source.
_CONTEXT_REMEDIES = {
    None: "context.jsonl, or captions.jsonl, beside the posts",
    "caption": f"captions.jsonl beside the posts, or a captioner's store: {_EXTRACT.format('Captioner')}",
    "tags": _DETECT,
    "ocr": f"context.jsonl beside the posts, or the text in the images: {_EXTRACT.format('OCR')}",
    "knowledge": f"context.jsonl beside the posts, or a language model's: {_EXTRACT.format('KnowledgeGenerator')}",
}
#: Kinds with which posts have another kind, too.
_IMPLY = {DETECTED_OBJECTS: (GROUNDED_OBJECTS, OBJECT_CLASSES, OBJECT_BOXES)}


class MissingEvidenceError(ValueError):
    """No post of a split has evidence of a kind that the model reads; the message says how to get it."""


def count_missing(
    builder: GraphBuilder, pairs: Iterable[Pair], available: Callable[[Pair], Collection[str]] = lambda pair: ()
) -> dict[str, list[str]]:
    """Return the ids of the posts that lack evidence of each kind that the model reads.

    Args:
        builder: of the model.
        pairs: the posts.
        available: the kinds that a post lacks now and will have before the model reads it.
    """
    missing: dict[str, list[str]] = defaultdict(list)
    for pair in pairs:
        kinds = builder.missing(pair)
        for kind in set(kinds) - set(available(pair)) if kinds else ():
            missing[kind].append(pair.id)
    return dict(missing)


def require_evidence(
    builder: GraphBuilder,
    splits: Mapping[str, Sequence[Pair]],
    *,
    available: Callable[[Pair], Collection[str]] = lambda pair: (),
    allow_missing: Collection[str] = (),
) -> dict[str, dict[str, list[str]]]:
    """Return, for every split, the ids of the posts that lack evidence of each kind that the model reads.

    Args:
        builder: of the model.
        splits: the posts of every split by its name; ``""`` for posts of no split.
        available: the kinds that a post lacks now and will have before the model reads it.
        allow_missing: the kinds that may be missing for all posts of a split.

    Raises:
        MissingEvidenceError: when all posts of a split lack evidence of a kind, with how to get it.
    """
    missing = {name: count_missing(builder, pairs, available) for name, pairs in splits.items()}
    absent: dict[str, list[str]] = defaultdict(list)
    for name, kinds in missing.items():
        for kind in sorted(kinds):
            if len(kinds[kind]) == len(splits[name]) and kind not in allow_missing:
                absent[kind].append(name)
    refuse_absent(absent)
    return missing


def refuse_absent(absent: Mapping[str, Sequence[str]]) -> None:
    """Check that no kind of evidence is absent.

    Args:
        absent: by kind, the names of the splits in which no post has it; ``""`` for posts of no split.

    Raises:
        MissingEvidenceError: naming each kind, with how to get it.
    """
    if not absent:
        return
    named = {kind: names for kind, names in absent.items() if names not in map(absent.get, _IMPLY.get(kind, ()))}
    raise MissingEvidenceError(
        "; ".join(
            f"the model reads {kind}, which no post{' of ' * any(names)}{', '.join(names)} has: give {remedy(kind)}"
            for kind, names in named.items()
        )
        + f". To go on without: --allow_missing '[{', '.join(absent)}]'"
    )


def remedy(kind: str) -> str:
    """Return how posts get evidence of a kind; for a node type of one's own, its evidence file."""
    sources = {context_kind(source): means for source, means in _CONTEXT_REMEDIES.items()}
    if kind.startswith(context_kind()):
        return sources.get(kind, "context.jsonl beside the posts, with texts of this source")
    return REMEDIES.get(kind, f"the posts their {kind}, in the evidence file that the node type names")


class MissingCounts:
    """How many posts lack evidence of each kind that a model reads, and the first names of these.

    Attributes:
        total: number of posts.
    """

    def __init__(self) -> None:
        self.total = 0
        self._counts: Counter[str] = Counter()
        self._first: dict[str, list[str]] = defaultdict(list)
        # of all names of a kind, to know which kinds the same posts lack without keeping the names
        self._hashes: dict[str, int] = defaultdict(int)

    def add(self, missing: Mapping[str, Sequence[str]], total: int) -> MissingCounts:
        """Add some posts and return the counts.

        Args:
            missing: names of posts by kind of evidence.
            total: number of posts, these included.
        """
        self.total += total
        for kind, names in missing.items():
            self._counts[kind] += len(names)
            self._first[kind] += [name for name in names if name][: 6 - len(self._first[kind])]
            self._hashes[kind] = hash((self._hashes[kind], *names, self.total))
        return self

    def lines(self) -> list[str]:
        """Return a line of counts and the first five names for every kind; kinds that the same posts lack share one."""
        kinds_of: dict[tuple[int, int], list[str]] = defaultdict(list)
        for kind in sorted(self._counts):
            kinds_of[self._counts[kind], self._hashes[kind]].append(kind)
        lines = []
        for (count, _), kinds in kinds_of.items():
            known = self._first[kinds[0]]
            first = f": {', '.join(known[:5])}{', ...' if len(known) > 5 else ''}" if known else ""
            have = "has" if count == 1 else "have"
            lines.append(f"{count} of {self.total} posts {have} no {', no '.join(kinds)}, which the model reads{first}")
        return lines

    def warn(self, *, stacklevel: int = 3) -> None:
        """Warn of what is missing; see `lines`."""
        for line in self.lines():
            warnings.warn(line, stacklevel=stacklevel)


def describe_missing(missing: Mapping[str, Sequence[str]], total: int) -> list[str]:
    """Return, for posts that lack evidence that the model reads, a line of counts and the first five names.

    Args:
        missing: names of posts by kind of evidence; kinds that the same posts lack share a line.
        total: number of posts.
    """
    return MissingCounts().add(missing, total).lines()
