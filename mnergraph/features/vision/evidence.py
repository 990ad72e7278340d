"""What an extractor saw in a picture, and how that becomes evidence of a pair."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor

from mnergraph.features.vision.image_io import ImageIssue
from mnergraph.pair import DetectedObject, Pair


@dataclass(frozen=True)
class ImageEvidence:
    """What an extractor saw in one picture. What it does not look for is None; what it did not find is empty.

    Args:
        size: width and height of the upright picture in pixels.
        objects: with boxes in pixels of the upright picture, best first.
        grid: features of the regions of the whole picture, row by row, ``[regions, width]``.
        pooled: features of the whole picture, ``[width]``.
        caption: one sentence on what it shows.
        issue: what is unusual about the picture; one that is not usable gave nothing else of the above.
    """

    size: tuple[int, int] | None = None
    objects: tuple[DetectedObject, ...] | None = None
    grid: Tensor | None = None
    pooled: Tensor | None = None
    caption: str | None = None
    issue: ImageIssue | None = None

    def attach_to(self, pair: Pair, *, image: Literal["grid", "pooled"] = "grid") -> Pair:
        """The pair with this evidence: boxed objects, picture features and caption replace those it had.

        Args:
            pair: the post; its objects without boxes, of which a caption told, stay.
            image: whether its picture becomes one node per region or one for all.
        """
        told = tuple(thing for thing in pair.objects if thing.box is None)
        pooled = None if self.pooled is None else self.pooled[None]
        features = self.grid if image == "grid" else pooled
        return replace(
            pair,
            size=self.size or pair.size,
            objects=pair.objects if self.objects is None else (*self.objects, *told),
            image_features=pair.image_features if features is None else features,
            caption=pair.caption if self.caption is None else self.caption,
        )
