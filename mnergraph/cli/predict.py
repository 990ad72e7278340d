"""The command ``predict``: entities of posts as JSON lines."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from mnergraph.cli.inputs import Inputs, StoreOptions
from mnergraph.files import replacing
from mnergraph.training.interruption import keeps


def predict(
    model: Path,
    inputs: Inputs,
    sources: StoreOptions = StoreOptions(),
    out: Path | None = None,
    batch_size: int = 32,
    progress: bool = True,
) -> None:
    """Write the entities of a text with its image, or of a file of posts, as JSON lines.

    Args:
        model: folder of a saved model, or its name on the hub.
        inputs: the posts.
        sources: where the features of their images come from.
        out: file for the result, which is complete or not there; without it, the result is printed. A post that the
            model can't read has "error" in the place of entities.
        batch_size: posts at once.
        progress: whether to show a progress bar for a file of posts, unless the result itself is shown.

    Raises:
        ValueError: when none of the posts can be predicted, after their lines are written.
    """
    from tqdm.auto import tqdm

    from mnergraph.data.evidence import attach_node_evidence
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger
    from mnergraph.quoting import listed

    pairs = inputs.load()
    tagger = Tagger.from_pretrained(model)
    node_types = tagger.builder.node_types.values()
    pairs = attach_node_evidence(pairs, node_types, *inputs.folders, required=False)
    pipeline = Predictor(tagger, batch_size=batch_size, stores=sources.stores, run_extractors=sources.run_extractors)
    pipeline.require_evidence(pairs, allow_missing=sources.allow_missing)
    silent = not progress or inputs.posts is None or (out is None and sys.stdout.isatty())
    failed = []
    with keeps(lambda: f"{out} is unchanged" if out else ""), _opened(out) as target:
        for line in tqdm(pipeline(pairs), "predicting", len(pairs), unit="post", disable=silent):
            print(_as_json(line), file=target, flush=True)
            failed += [line] if "error" in line else []
    if failed and len(failed) == len(pairs):
        raise ValueError(f"none of {len(pairs)} posts could be predicted; the first: {failed[0]['error']}")
    if failed:
        names = listed([line["id"] for line in failed])
        what = f"{len(failed)} of {len(pairs)} posts have an error in the place of entities"
        warnings.warn(f"{what}: {names}", stacklevel=1)


@contextmanager
def _opened(path: Path | None) -> Iterator[TextIO]:
    """Open a file for the result, which appears when it is complete, or standard output."""
    if path is None:
        yield sys.stdout
        return
    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8") as file:
        yield file


def _as_json(line: Mapping[str, Any]) -> str:
    """Return a result as JSON, in ASCII where its text can't be encoded."""
    text = json.dumps(line, ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(line)
    return text
