"""Settings of `mnergraph.data.convert_data`. Imports no torch, as the command line's help reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mnergraph.data.formats.tag_schemes import Scheme
from mnergraph.data.formats.text_spans import Align, Overlap, Tokenizer

#: Formats that are read, and those that are written.
SourceFormat = Literal[
    "auto", "folder", "conll", "columns", "posts", "predictions", "label-studio", "doccano", "brat", "datasets"
]
TargetFormat = Literal["folder", "conll", "posts", "label-studio", "doccano", "brat", "datasets"]


@dataclass(frozen=True)
class ConversionOptions:
    """How annotated posts are read and written.

    Args:
        images: folder of the images, found by the names that the source has, or by id for folders of ours; by default
            the source's own folder.
        align: what is done with an entity that begins or ends within a word: it is an error, or takes the whole word.
        overlap: what is done with entities that share words: they are an error, or the longest is kept.
        tokenizer: how texts are split into words: as tweets, or at white space.
        mapping: entity types to rename, such as "{Sports team: ORG}".
        text_key: the field of the text, of label-studio and doccano.
        image_key: the field of the image, of label-studio.
        graphemes: whether offsets of doccano count grapheme clusters, as its project option has it.
        word_column: the column of the words, of columns, from 0.
        tag_column: the column of the tags; -1 is the last one.
        scheme: the scheme of the tags, of columns and datasets; auto for the one that fits.
        comments: whether lines of columns that begin with # are comments.
        posts: of predictions, the file of posts that was predicted, for images and words.
        model_version: of predictions, the version that Label Studio shows.
        image_prefix: for label-studio, what stands before the name of an image's file in its address.
        objects: for label-studio, whether boxes that belong to no entity are written, too.
        fractions: for a folder, the shares of train, valid and test, where the source has no splits; posts with one
            image or text stay together.
        seed: of the shares' random choice.
    """

    images: Path | None = None
    align: Align = "error"
    overlap: Overlap = "error"
    tokenizer: Tokenizer = "tweets"
    mapping: Mapping[str, str] | None = None
    text_key: str = "text"
    image_key: str = "image"
    graphemes: bool = False
    word_column: int = 0
    tag_column: int = -1
    scheme: Scheme | Literal["auto"] = "auto"
    comments: bool = False
    posts: Path | None = None
    model_version: str = ""
    image_prefix: str = "/data/local-files/?d="
    objects: bool = False
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.images is not None and not Path(self.images).is_dir():
            raise FileNotFoundError(f"images={str(self.images)!r} is no folder; give the one that holds the images")
        if abs(sum(self.fractions) - 1) > 1e-6 or min(self.fractions) < 0:
            raise ValueError(f"fractions {self.fractions} are no shares of train, valid and test that sum to 1")
