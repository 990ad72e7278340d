"""Kinds of evidence of a post and its image that models read, and whether a post has them.

Node types and edge rules return the kinds that a post lacks (`NodeType.missing`, `EdgeRule.missing`); a kind of one's
own is any other string.
"""

from __future__ import annotations

from collections.abc import Callable

from mnergraph.pair import IMAGE_SOURCES, Pair

IMAGE_FILE, IMAGE_FEATURES, IMAGE_GRID = "image file", "image features", "image grid"
DETECTED_OBJECTS, OBJECT_BOXES, OBJECT_CLASSES = "detected objects", "object boxes", "object classes"
GROUNDED_OBJECTS, REGION_FEATURES = "grounded objects", "region features"
NEAREST_WORDS = "nearest words"
#: Texts about a post; of one source "context (caption)", see `context_kind`.
CONTEXT = "context"

#: Whether a post lacks evidence of a kind. `OBJECT_CLASSES` and `NEAREST_WORDS` depend on a model's own tables.
LACKS: dict[str, Callable[[Pair], bool]] = {
    IMAGE_FILE: lambda pair: pair.image_path is None,
    IMAGE_FEATURES: lambda pair: pair.image_features is None,
    # one vector for the whole image is no grid
    IMAGE_GRID: lambda pair: pair.image_features is not None and len(pair.image_features) == 1,
    DETECTED_OBJECTS: lambda pair: not pair.objects,
    OBJECT_BOXES: lambda pair: pair.size is None or all(item.box is None for item in pair.objects),
    GROUNDED_OBJECTS: lambda pair: all(item.span is None for item in pair.objects),
    REGION_FEATURES: lambda pair: all(item.region is None for item in pair.objects),
}


def context_kind(source: str | None = None) -> str:
    """Return the kind of evidence that texts about a post are, those of one source or any."""
    return CONTEXT if source is None else f"{CONTEXT} ({source})"


#: The kinds that come from a post's image.
IMAGE_EVIDENCE = (*LACKS, OBJECT_CLASSES, *map(context_kind, IMAGE_SOURCES))


def lacking(pair: Pair, *kinds: str) -> tuple[str, ...]:
    """Return those of the kinds that the pair lacks, in their order."""
    return tuple(kind for kind in kinds if LACKS[kind](pair))
