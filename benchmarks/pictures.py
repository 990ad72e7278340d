"""What stands for the whole picture: one vector or a grid of them, computed once before training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Literal

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as pixels
from tqdm.auto import tqdm

from mnergraph.features.backbone import Backbone
from mnergraph.features.regions import Crops, open_picture
from mnergraph.graph import GraphBuilder, Pair, Schema, collate
from mnergraph.nn.encoders import TextEncoder, sum_to
from mnergraph.nn.state import Graph

Shape = Literal["vector", "grid"]
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


@dataclass(frozen=True)
class Map:
    """The map of one of a ResNet's four stages over the whole picture, resized to a square.

    The papers take stage 4 at 224 pixels, 7x7 cells. Of a *random* ResNet an early stage says more: deep ones
    wash the picture out.

    Args:
        resnet: the network, its weights, and the side of the square in pixels.
        stage: 1 to 4.
        cells: along each side of the grid, to which the map is averaged.
        standardise: centre and scale every feature by the training pictures' mean and deviation; those of a
            frozen network are nearly parallel, and a linear map learns slowly from them.
    """

    resnet: Crops = field(default_factory=lambda: Crops("resnet152", "imagenet"))
    stage: int = 4
    cells: int = 7
    standardise: bool = False

    def __post_init__(self) -> None:
        if self.stage not in (1, 2, 3, 4):
            raise ValueError(f"a ResNet has stages 1 to 4, not {self.stage}")

    @cached_property
    def network(self) -> nn.Module:
        """Pixels to the stage's map."""
        return nn.Sequential(*list(self.resnet.model.children())[: 4 + self.stage])

    @torch.inference_mode()
    def __call__(self, pictures: Sequence[Image.Image], shape: Shape) -> Tensor:
        """``[pictures, 1 or cells x cells, width]``, row by row from the top left."""
        side = (self.resnet.size, self.resnet.size)
        squares = [
            pixels.pil_to_tensor(picture.resize(side, Image.Resampling.BILINEAR)) for picture in pictures
        ]
        found = self.network(pixels.normalize(torch.stack(squares).float() / 255, _MEAN, _STD))
        cells = 1 if shape == "vector" else self.cells
        return nn.functional.adaptive_avg_pool2d(found, cells).flatten(2).transpose(1, 2).clone()


def seen_by_backbone(
    splits: Mapping[str, Sequence[Pair]], by: Map, shape: Shape, *, progress: bool = True
) -> dict[str, list[Pair]]:
    """The posts of every split with the vectors of their pictures; posts without a picture have none.

    Raises:
        ValueError: when no post to learn from has a picture.
        OSError: when a picture can't be read.
    """
    splits = {
        name: _look(pairs, by, shape, f"pictures of {name}", progress) for name, pairs in splits.items()
    }
    known = [pair.image for pair in splits["train"] if pair.image is not None]
    if not known:
        raise ValueError(
            "no post to learn from has a picture; give the folder of the pictures, or take "
            "image_features caption, or image none"
        )
    if not by.standardise:
        return splits
    deviation, mean = torch.std_mean(torch.cat(known), dim=0)
    deviation = deviation.where(deviation > 1e-6, torch.ones_like(deviation))
    return {
        name: [
            pair if pair.image is None else replace(pair, image=(pair.image - mean) / deviation)
            for pair in pairs
        ]
        for name, pairs in splits.items()
    }


def _look(pairs: Sequence[Pair], by: Map, shape: Shape, what: str, progress: bool) -> list[Pair]:
    found = [replace(pair, image=None) for pair in pairs]
    seen = [place for place, pair in enumerate(pairs) if pair.picture is not None]
    size = by.resnet.batch_size
    with tqdm(total=len(seen), desc=what, unit="picture", disable=not progress) as bar:
        for begin in range(0, len(seen), size):
            some = seen[begin : begin + size]
            rows = by([open_picture(found[place].picture or "") for place in some], shape)
            for place, image in zip(some, rows, strict=True):
                found[place] = replace(found[place], image=image)
            bar.update(len(some))
    return found


def seen_by_caption(
    splits: Mapping[str, Sequence[Pair]],
    reader: Backbone,
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
        name: [replace(pair, image=rows.get(pair.caption or "")) for pair in pairs]
        for name, pairs in splits.items()
    }


@torch.no_grad()
def _read(
    texts: Sequence[Pair], reader: Backbone, shape: Shape, batch_size: int, progress: bool
) -> list[Tensor]:
    """The states of every text, by the encoder as it is, ``[1 or words, width]``."""
    builder = GraphBuilder(
        Schema(), tokenizer=reader.pieces, tokens="pieces" if shape == "vector" else "words"
    )
    encoder = TextEncoder(reader, pooling="mean").eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place].words))
    rows: dict[int, Tensor] = {}
    with tqdm(total=len(texts), desc="captions", unit="caption", disable=not progress) as bar:
        for begin in range(0, len(order), batch_size):
            some = order[begin : begin + batch_size]
            graph = Graph.of(collate(builder.build(texts[place] for place in some)), builder.schema)
            states, layout = encoder(graph).x["token"], graph.layouts["token"]
            if shape == "vector":
                mean = sum_to(states, layout.sentence, len(some), mean=True)
                rows |= dict(zip(some, mean.split(1), strict=True))
            else:
                rows |= dict(zip(some, states.split(layout.counts.tolist()), strict=True))
            bar.update(len(some))
    return [rows[place].clone() for place in range(len(texts))]
