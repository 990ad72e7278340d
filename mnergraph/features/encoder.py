"""What a model reads its words by: a Hugging Face encoder (`Backbone`), or a table of `WordVectors`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol

from torch import nn

from mnergraph.features import backbone, wordvectors
from mnergraph.graph.tokens import Tokenizer


class Encoder(Protocol):
    """What every model needs of its text encoder; `Backbone` and `WordVectors` are the two.

    Which of them a model takes, the layer says that reads it: `TextEncoder` a Backbone, `WordEncoder` word
    vectors.
    """

    @property
    def model(self) -> nn.Module:
        """What is learned of it."""

    @property
    def pieces(self) -> Tokenizer:
        """Words to the ids that the model reads."""

    @property
    def characters(self) -> Tokenizer | None:
        """Words to their characters, for models that read spelling; None where the pieces tell of it."""

    @property
    def name(self) -> str:
        """What it is called in records."""

    @property
    def width(self) -> int:
        """Features of what it gives each piece."""

    def save(self, folder: Path) -> None:
        """Writes all but the weights, for `untrained`."""


def untrained(folder: str | os.PathLike[str]) -> backbone.Backbone | wordvectors.WordVectors:
    """The encoder of a folder that ``save`` wrote, whichever it was, to load weights into."""
    folder = Path(folder)
    if (folder / wordvectors.VOCABULARY).is_file():
        return wordvectors.untrained(folder)
    return backbone.untrained(folder)
