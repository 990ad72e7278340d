"""The output of an extractor for one image, and how it is attached to a pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from mnergraph.features.vision.image_io import ImageIssue
from mnergraph.pair import ContextText, DetectedObject, Pair


@dataclass(frozen=True)
class ImageEvidence:
    """The output of an extractor for one image; None for evidence that it does not compute, empty if it finds none.

    Args:
        size: width and height of the upright image in pixels.
        objects: with boxes in pixels of the upright image, best first.
        grid: features of the regions of the whole image, row by row, ``[regions, width]``.
        pooled: features of the whole image, ``[width]``.
        caption: one sentence that describes the image.
        context: further texts from the image or about the post, such as the text in the image.
        issue: what is unusual about the image; an unusable image has no other evidence.
    """

    size: tuple[int, int] | None = None
    objects: tuple[DetectedObject, ...] | None = None
    grid: Tensor | None = None
    pooled: Tensor | None = None
    caption: str | None = None
    context: tuple[ContextText, ...] | None = None
    issue: ImageIssue | None = None

    def attach_to(self, pair: Pair, *, image: Literal["grid", "pooled"] = "grid") -> Pair:
        """Return the pair with this evidence in the place of its boxed objects, image features, caption and context.

        Context of other sources is kept.

        Args:
            pair: the post; its objects without boxes (phrases of a caption) are kept.
            image: whether the image becomes one node per region (``grid``) or a single node (``pooled``).
        """
        without_box = tuple(obj for obj in pair.objects if obj.box is None)
        pooled = None if self.pooled is None else self.pooled[None]
        sources = {entry.source for entry in self.context or ()}
        others = tuple(entry for entry in pair.context if entry.source not in sources)
        features = self.grid if image == "grid" else pooled
        return replace(
            pair,
            size=self.size or pair.size,
            objects=pair.objects if self.objects is None else (*self.objects, *without_box),
            image_features=pair.image_features if features is None else features,
            caption=pair.caption if self.caption is None else self.caption,
            context=(*others, *(self.context or ())),
        )
