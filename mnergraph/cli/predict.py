"""The command ``predict``: entities of posts as JSON lines."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mnergraph.cli.inputs import Inputs, PostStream, StoreOptions
from mnergraph.inference.output_file import OutputFile, unfinished_path
from mnergraph.models.batch_config import BatchConfig
from mnergraph.quoting import MAX_NAMES, quoted
from mnergraph.training.interruption import keeps

if TYPE_CHECKING:
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger


def predict(
    model: Path,
    inputs: Inputs,
    sources: StoreOptions = StoreOptions(),
    batching: BatchConfig = BatchConfig(),
    out: Path | None = None,
    resume: bool = False,
    progress: bool = True,
) -> None:
    """Write the entities of a text with its image, or of a file of posts, as JSON lines.

    Args:
        model: folder of a saved model, or its name on the hub.
        inputs: the posts.
        sources: where the features of their images come from.
        batching: how posts are taken into batches, and the precision.
        out: file for the result, which is complete or not there; without it, the result is printed. A post that can't
            be read or predicted has "error" in the place of entities; where there are such posts, a last line counts
            them.
        resume: whether to go on from the lines that a stopped run has left beside out, if it has left any.
        progress: whether to show a progress bar for a file of posts, unless the result itself is shown.

    Raises:
        ValueError: when none of the posts can be predicted, after their lines are written.
    """
    from tqdm.auto import tqdm

    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger

    if resume and (out is None or inputs.posts is None):
        raise ValueError("resume goes with posts and out: a file of posts, and a file for the result")
    inputs.stream()  # what can't be read at all, before the model is loaded
    tagger = Tagger.from_pretrained(model)
    posts = inputs.stream(tagger.builder.node_types.values())
    predictor = Predictor(tagger, batching=batching, stores=sources.stores, run_extractors=sources.run_extractors)
    if resume and out is not None and out.exists() and not unfinished_path(out).exists():
        print(f"{out}: complete, with {_same_posts(out, posts):,} posts; delete it to predict them again")
        return
    predictor.require_evidence(posts, allow_missing=sources.allow_missing)
    silent = not progress or inputs.posts is None or (out is None and sys.stdout.isatty())
    errors = Errors()
    if out is None:
        with tqdm(total=len(posts), desc="predicting", unit="post", disable=silent) as bar:
            for line in predictor(posts, progress=bar.update):
                print(_as_json(errors.add(line)), flush=True)
        if errors.posts:
            print(_as_json(errors.line()), flush=True)
    else:
        run = _settings(tagger, inputs, sources, predictor)
        with OutputFile(out, run, resume=resume, step=predictor.window) as file, keeps(file.describe_kept):
            for line in file.kept_lines():
                errors.add(line)
            rest = islice(posts, file.kept, None)
            with tqdm(total=len(posts), initial=file.kept, desc="predicting", unit="post", disable=silent) as bar:
                for lines in batched(predictor(rest, progress=bar.update), predictor.window):
                    file.write(_as_json(errors.add(line)) for line in lines)
            if errors.posts:
                file.write([_as_json(errors.line())])
    errors.report()


class Errors:
    """Counts the posts that have an error in the place of entities.

    Attributes:
        posts: how many of them there are.
        total: how many posts there are.
        first: id and error of the first ones.
    """

    def __init__(self) -> None:
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
            raise ValueError(f"none of {self.total} posts could be predicted; the first: {self.first[0]['error']}")
        if self.posts:
            names = ", ".join(quoted(error["id"]) for error in self.first if error["id"])
            more = f": {names}{', ...' * (self.posts > len(self.first))}" if names else ""
            what = f"{self.posts} of {self.total} posts have an error in the place of entities{more}"
            warnings.warn(f"{what}; the first error: {self.first[0]['error']}", stacklevel=2)


def _settings(tagger: Tagger, inputs: Inputs, sources: StoreOptions, predictor: Predictor) -> dict[str, Any]:
    """Return what determines the result, as plain JSON values."""
    from mnergraph.features.pretrained import state_dict_sha256
    from mnergraph.features.vision.image_io import file_sha256
    from mnergraph.models.batches import resolve_precision

    device = next(tagger.parameters()).device
    return {
        "weights": state_dict_sha256(tagger),
        **{name: str(value) for name, value in vars(inputs).items() if value is not None and name != "posts"},
        "posts_sha256": None if inputs.posts is None else file_sha256(inputs.posts),
        "stores": [str(folder) for folder in sources.stores],
        "run_extractors": sources.run_extractors,
        "precision": resolve_precision(predictor.batching.precision, device),
        "batch_pieces": predictor.batching.pieces_on(device),
    }


def _same_posts(out: Path, posts: PostStream) -> int:
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


def batched(lines: Iterable[dict[str, Any]], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the lines in lists of a size; `itertools.batched` of Python 3.12."""
    waiting = iter(lines)
    while some := list(islice(waiting, size)):
        yield some


def _as_json(line: Mapping[str, Any]) -> str:
    """Return a result as JSON, in ASCII where its text can't be encoded."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(line)
    return text
