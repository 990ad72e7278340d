"""The command ``predict``: entities of posts as JSON lines."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mnergraph.cli.inputs import Inputs, StoreOptions


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
        out: file for the result; without it, it is printed.
        batch_size: posts at once.
        progress: whether to show a progress bar for a file of posts, unless the result itself is shown.
    """
    from tqdm.auto import tqdm

    from mnergraph.data.evidence import attach_node_evidence
    from mnergraph.inference.predictor import Predictor
    from mnergraph.models.base import Tagger

    pairs = inputs.load()
    tagger = Tagger.from_pretrained(model)
    node_types = tagger.builder.node_types.values()
    pairs = attach_node_evidence(pairs, node_types, *inputs.folders, required=False)
    pipeline = Predictor(tagger, batch_size=batch_size, stores=sources.stores, run_extractors=sources.run_extractors)
    pipeline.require_evidence(pairs, allow_missing=sources.allow_missing)
    target = sys.stdout if out is None else out.open("w", encoding="utf-8")
    try:
        silent = not progress or inputs.posts is None or (out is None and sys.stdout.isatty())
        for line in tqdm(pipeline(pairs), "predicting", len(pairs), unit="post", disable=silent):
            print(json.dumps(line, ensure_ascii=False), file=target, flush=True)
    finally:
        if out is not None:
            target.close()
