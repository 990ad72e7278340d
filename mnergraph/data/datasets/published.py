"""Data sets whose text is published and so has known checksums."""

from __future__ import annotations

import warnings
from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

from mnergraph.data.datasets.base import PostDataset
from mnergraph.features.vision.image_io import file_sha256

#: Under what data sets of tweets may be used.
TWITTER_TERMS = "the terms of Twitter and of the data set's providers; no open licence."


class PublishedDataset(PostDataset, ABC):
    """A `PostDataset` with the checksums of its text, ``sha256``, by split."""

    sha256: ClassVar[Mapping[str, str]]

    def _warn_of_other_text(self, *, stacklevel: int = 3) -> None:
        """Warn, with both checksums, of a text that is not the published one."""
        found = file_sha256(self.raw_paths[0])
        if found != self.sha256[self.split]:
            warnings.warn(
                f"{self.raw_paths[0]} is not the {self.split} split of {type(self).__name__} as published: "
                f"its sha256 is {found}, the published one {self.sha256[self.split]}; scores do not compare",
                stacklevel=stacklevel,
            )
