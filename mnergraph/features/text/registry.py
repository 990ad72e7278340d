"""All noun chunkers by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mnergraph.registry import Registry

if TYPE_CHECKING:
    from mnergraph.features.text.noun_chunks import Chunker

#: Every noun chunker, by name.
CHUNKERS: Registry[type[Chunker]] = Registry(
    "chunker",
    {
        "RuleChunker": ("mnergraph.features.text.noun_chunks:RuleChunker", "English noun phrases by word lists."),
        "SpacyChunker": ("mnergraph.features.text.noun_chunks:SpacyChunker", "The noun chunks of a spaCy pipeline."),
    },
)
