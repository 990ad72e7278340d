"""Lines of predictions: those with errors, and those that are there from an earlier run."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.cli.post_stream import PostStream
from mnergraph.features.pretrained import state_dict_sha256
from mnergraph.features.vision.image_io import file_sha256
from mnergraph.inference.predictor import Predictor
from mnergraph.models.batches import resolve_precision
from mnergraph.quoting import MAX_NAMES, quoted


class Errors:
    """Counts the posts that have an error in the place of entities.

    Args:
        what: what they have an error in the place of.
        done: what they could not be.

    Attributes:
        posts: how many of them there are.
        total: how many posts there are.
        first: id and error of the first ones.
    """

    def __init__(self, what: str = "entities", done: str = "predicted") -> None:
        self.what, self.done = what, done
        self.posts = self.total = 0
        self.first: list[dict[str, str]] = []

    def add(self, line: dict[str, Any]) -> dict[str, Any]:
        """Count a post's line and return it."""
        self.total += 1
        if "error" in line:
            self.posts += 1
            self.first += [{"id": line["id"], "error": line["error"]}] * (len(self.first) < MAX_NAMES)
        return line

    def line(self) -> dict[str, Any]:
        """Return the last line of a result."""
        return {"posts": self.total, "posts_with_errors": self.posts, "first_errors": self.first}

    def report(self) -> None:
        """Warn of the posts with errors, if there are any.

        Raises:
            ValueError: when all posts have one.
        """
        if self.posts and self.posts == self.total:
            raise ValueError(f"none of {self.total} posts could be {self.done}; the first: {self.first[0]['error']}")
        if self.posts:
            names = ", ".join(quoted(error["id"]) for error in self.first if error["id"])
            more = f": {names}{', ...' * (self.posts > len(self.first))}" if names else ""
            what = f"{self.posts} of {self.total} posts have an error in the place of {self.what}{more}"
            warnings.warn(f"{what}; the first error: {self.first[0]['error']}", stacklevel=2)


def settings_of(inputs: Inputs, sources: StoreOptions, predictor: Predictor) -> dict[str, Any]:
    """Return what determines the result, as plain JSON values."""
    device = next(predictor.model.parameters()).device
    return {
        "weights": state_dict_sha256(predictor.model),
        **({} if predictor.grounder is None else {"grounder": state_dict_sha256(predictor.grounder.model)}),
        # of files their content, wherever they lie
        **{
            name: f"sha256 {file_sha256(value)}" if isinstance(value, Path) and value.is_file() else str(value)
            for name, value in vars(inputs).items()
            if value is not None
        },
        "stores": [str(folder) for folder in sources.stores],
        "run_extractors": sources.run_extractors,
        "precision": resolve_precision(predictor.batching.precision, device),
        "batch_pieces": predictor.batching.pieces_on(device.type),
    }


def count_same_posts(out: Path, posts: PostStream) -> int:
    """Return the number of posts of a result that is there, once it is checked to be one of these posts.

    Raises:
        ValueError: when it is not.
    """
    different = ValueError(f"{out} is there, and is no result of these posts; give another file, or delete it")
    number = 0
    with out.open("rb") as file:
        try:
            lines = (line for line in map(json.loads, file) if "posts_with_errors" not in line)
            for line, post in zip(lines, posts, strict=True):
                if line["id"] != post.id:
                    raise different
                number += 1
        except (ValueError, LookupError, TypeError) as error:
            raise different from error
    return number
