"""Image features of posts, one vector or a grid, by a backbone or from captions; computed once before training."""

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


def features_from_backbone(
    splits: Mapping[str, Sequence[Pair]],
    extractor: Extractor,
    shape: Shape,
    *,
    standardise: bool = False,
    progress: bool = True,
) -> dict[str, list[Pair]]:
    """Return the posts of every split with the features of their images; posts without an image have none.

    Args:
        splits: the posts.
        extractor: computes the features.
        shape: a ``vector`` of the whole image or a ``grid``.
        standardise: whether to standardize every feature by the training images' mean and standard deviation; the
            features of a frozen network are nearly parallel, and a linear map learns slowly from them.
        progress: whether to show a progress bar.

    Raises:
        ValueError: when no training post has an image.
    """
    if all(pair.image_path is None for pair in splits["train"]):
        raise ValueError(
            "no training post has an image; give the folder of the images, or --image_features caption, or --image none"
        )
    found = {name: _extract(pairs, extractor, shape, progress) for name, pairs in splits.items()}
    features = [pair.image_features for pair in found["train"] if pair.image_features is not None]
    if not standardise or not features:
        return found
    deviation, mean = torch.std_mean(torch.cat(features), dim=0)
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


def _extract(pairs: Sequence[Pair], extractor: Extractor, shape: Shape, progress: bool) -> list[Pair]:
    paths = {index: pair.image_path for index, pair in enumerate(pairs) if pair.image_path is not None}
    options: dict[str, Any] = {"device": "cuda" if torch.cuda.is_available() else "cpu", "progress": progress}
    evidence = dict(zip(paths, extractor.extract(list(paths.values()), **options), strict=True))
    issues = [one.issue for one in evidence.values() if one.issue is not None and not one.issue.usable]
    if issues:
        first = "; ".join(f"{issue.id}: {issue.detail}" for issue in issues[:5])
        warnings.warn(f"{len(issues)} images can't be read; their posts have no features: {first}", stacklevel=3)
    return [
        replace(pair, image_features=_rows(evidence.get(index, ImageEvidence()), shape))
        for index, pair in enumerate(pairs)
    ]


def _rows(evidence: ImageEvidence, shape: Shape) -> Tensor | None:
    if shape == "grid":
        return evidence.grid
    return None if evidence.pooled is None else evidence.pooled[None]


def features_from_captions(
    splits: Mapping[str, Sequence[Pair]],
    encoder: TextEncoderModel,
    shape: Shape,
    *,
    batch_size: int = 64,
    progress: bool = True,
) -> dict[str, list[Pair]]:
    """Return the posts of every split with their captions' states as image features; posts without a caption have none.

    A ``vector`` is the mean of the states of all pieces, [CLS] and [SEP] among them, as sentence encoders
    pool; a ``grid`` has a row for each word, the mean of its pieces' states.

    Raises:
        ValueError: when no training post has a caption.
    """
    captions = {pair.caption or "" for pairs in splits.values() for pair in pairs}
    words = {caption: Pair(tuple(caption.split())) for caption in captions if caption.split()}
    rows = dict(zip(words, _encode(list(words.values()), encoder, shape, batch_size, progress), strict=True))
    if not any(pair.caption in rows for pair in splits["train"]):
        raise ValueError("no training post has a caption; give --captions, or --image none")
    return {
        name: [replace(pair, image_features=rows.get(pair.caption or "")) for pair in pairs]
        for name, pairs in splits.items()
    }


@torch.no_grad()
def _encode(
    texts: Sequence[Pair], encoder: TextEncoderModel, shape: Shape, batch_size: int, progress: bool
) -> list[Tensor]:
    """Return the states of every text, by the encoder without further training, ``[1 or words, width]``."""
    builder = GraphBuilder(Schema(), [Tokens(encoder.tokenizer, unit="pieces" if shape == "vector" else "words")])
    layer = TextEncoder(encoder, pooling="mean").eval()
    order = sorted(range(len(texts)), key=lambda index: len(texts[index].words))
    rows: dict[int, Tensor] = {}
    with tqdm(total=len(texts), desc="captions", unit="caption", disable=not progress) as bar:
        for begin in range(0, len(order), batch_size):
            batch = order[begin : begin + batch_size]
            graph = GraphState.from_batch(collate(builder.build_all(texts[index] for index in batch)), builder.schema)
            states, layout = layer(graph).x["token"], graph.layouts["token"]
            if shape == "vector":
                mean = segment_sum(states, layout.graph_index, len(batch), mean=True)
                rows |= dict(zip(batch, mean.split(1), strict=True))
            else:
                rows |= dict(zip(batch, states.split(layout.counts.tolist()), strict=True))
            bar.update(len(batch))
    return [rows[index].clone() for index in range(len(texts))]
