"""What stands for the whole picture: one vector or a grid of them, computed once before training."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from tqdm.auto import tqdm

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.vision.extractor import Extractor, ImageEvidence
from mnergraph.graph import GraphBuilder, Schema, Tokens, collate
from mnergraph.nn.conv.pooling import segment_sum
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

Shape = Literal["vector", "grid"]


def seen_by_backbone(
    splits: Mapping[str, Sequence[Pair]],
    by: Extractor,
    shape: Shape,
    *,
    standardise: bool = False,
    progress: bool = True,
) -> dict[str, list[Pair]]:
    """The posts of every split with the vectors of their pictures; posts without a picture have none.

    Args:
        splits: the posts.
        by: what looks at the pictures.
        shape: a ``vector`` of the whole or a ``grid``.
        standardise: centre and scale every feature by the training pictures' mean and deviation; those of a
            frozen network are nearly parallel, and a linear map learns slowly from them.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when no post to learn from has a picture.
    """
    if all(pair.image_path is None for pair in splits["train"]):
        raise ValueError(
            "no post to learn from has a picture; give the folder of the pictures, or take "
            "image_features caption, or image none"
        )
    found = {name: _look(pairs, by, shape, progress) for name, pairs in splits.items()}
    known = [pair.image_features for pair in found["train"] if pair.image_features is not None]
    if not standardise or not known:
        return found
    deviation, mean = torch.std_mean(torch.cat(known), dim=0)
    deviation = deviation.where(deviation > 1e-6, torch.ones_like(deviation))
    return {
        name: [
            pair
            if pair.image_features is None
            else replace(pair, image_features=(pair.image_features - mean) / deviation)
            for pair in pairs
        ]
        for name, pairs in found.items()
    }


def _look(pairs: Sequence[Pair], by: Extractor, shape: Shape, progress: bool) -> list[Pair]:
    pictures = {place: pair.image_path for place, pair in enumerate(pairs) if pair.image_path is not None}
    how: dict[str, Any] = {"device": "cuda" if torch.cuda.is_available() else "cpu", "progress": progress}
    seen = dict(zip(pictures, by.extract(list(pictures.values()), **how), strict=True))
    faults = [one.issue for one in seen.values() if one.issue is not None and not one.issue.usable]
    if faults:
        told = "; ".join(f"{fault.id}: {fault.detail}" for fault in faults[:5])
        warnings.warn(f"{len(faults)} pictures can't be used; their posts have none: {told}", stacklevel=3)
    return [
        replace(pair, image_features=_rows(seen.get(place, ImageEvidence()), shape)) for place, pair in enumerate(pairs)
    ]


def _rows(seen: ImageEvidence, shape: Shape) -> Tensor | None:
    if shape == "grid":
        return seen.grid
    return None if seen.pooled is None else seen.pooled[None]


def seen_by_caption(
    splits: Mapping[str, Sequence[Pair]],
    reader: TextEncoderModel,
    shape: Shape,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, list[Pair]]:
    """The posts of every split with their captions' states for a picture; posts without one have none.

    A ``vector`` is the mean of the states of all pieces, [CLS] and [SEP] among them, as sentence encoders
    pool; a ``grid`` has a row for each word, the mean of its pieces' states.

    Raises:
        ValueError: when no post to learn from has a caption.
    """
    captions = {pair.caption or "" for pairs in splits.values() for pair in pairs}
    words = {caption: Pair(tuple(caption.split())) for caption in captions if caption.split()}
    rows = dict(zip(words, _read(list(words.values()), reader, shape, batch_size, progress), strict=True))
    if not any(pair.caption in rows for pair in splits["train"]):
        raise ValueError("no post to learn from has a caption; give captions, or take image none")
    return {
        name: [replace(pair, image_features=rows.get(pair.caption or "")) for pair in pairs]
        for name, pairs in splits.items()
    }


@torch.no_grad()
def _read(
    texts: Sequence[Pair], reader: TextEncoderModel, shape: Shape, batch_size: int, progress: bool
) -> list[Tensor]:
    """The states of every text, by the encoder as it is, ``[1 or words, width]``."""
    builder = GraphBuilder(Schema(), [Tokens(reader.tokenizer, unit="pieces" if shape == "vector" else "words")])
    encoder = TextEncoder(reader, pooling="mean").eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place].words))
    rows: dict[int, Tensor] = {}
    with tqdm(total=len(texts), desc="captions", unit="caption", disable=not progress) as bar:
        for begin in range(0, len(order), batch_size):
            some = order[begin : begin + batch_size]
            graph = GraphState.from_batch(collate(builder.build_all(texts[place] for place in some)), builder.schema)
            states, layout = encoder(graph).x["token"], graph.layouts["token"]
            if shape == "vector":
                mean = segment_sum(states, layout.graph_index, len(some), mean=True)
                rows |= dict(zip(some, mean.split(1), strict=True))
            else:
                rows |= dict(zip(some, states.split(layout.counts.tolist()), strict=True))
            bar.update(len(some))
    return [rows[place].clone() for place in range(len(texts))]
