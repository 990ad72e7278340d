"""UMGF: "Multi-modal Graph Fusion for Named Entity Recognition with Targeted Visual Guidance".

Zhang, Wei, Li, Wu, Zhu and Zhou, AAAI 2021.

Graph: tokens (words) and objects. Tokens all meet, objects all meet; a noun phrase's words and the object
that it grounds are joined, and objects found by the general words with every word. A post without objects
degenerates to text.

``paper`` computes equations 1 to 8. Where the paper is silent we choose: one linear map with ReLU as each
MLP; sinusoidal positions; attention followed by residual and norm, as is the feed-forward, ReLU inside, 4
times as wide as the nodes; nothing but the sum after the gates (eqs. 3, 5); dropout on attention weights
and residuals.

``released`` computes what the authors' code does: pieces as tokens, [CLS] and [SEP] among them, with tags
of their own; every token joined to every object (the code knows exactly four crops); no positions, one
linear map on the text without ReLU, two linear maps with ReLU on the objects behind another of the ResNet's
width; no value and no output map in the objects' attention; gates with bias, their sums with residual and
norm; emissions from the encoder's states beside the graph's. Its CRF reads all pieces and its loss is a
sum. Its 13 tags are the nine of the data and those that stand for no word (`released_labels`).

Both fine-tune their ResNet: ``resnet`` does so. Without it region vectors are computed beforehand, and `fit`
standardises them by the training posts' (`ObjectEncoder.observe`). Weights of the release fit where that has
not been done.

In the last layer nothing that objects receive after the words have heard them can reach a tag; those
parameters, which would never learn, do not exist here (`Schema.idle`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from torch import nn

from mnergraph.features.backbone import Backbone
from mnergraph.features.cuts import Cuts
from mnergraph.features.regions import Crops
from mnergraph.features.weights import IMAGENET
from mnergraph.graph import Complete, Grounded, Relation, Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.models.released import Form, is_released, released_labels
from mnergraph.nn.attention import Attention
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, ObjectEncoder, Positions, Remember, TextEncoder
from mnergraph.nn.fusion import Add, AddNorm, EachNode, FeedForward, RelationalLayer
from mnergraph.nn.gates import GatedSum
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.pixels import PixelEncoder

TOKENS, OBJECTS = ("token", "attends", "token"), ("object", "attends", "object")
TO_TOKENS, TO_OBJECTS = ("object", "guides", "token"), ("token", "guides", "object")

IMAGES, IMAGE_TO_TOKENS = ("image", "attends", "image"), ("image", "guides", "token")
TO_IMAGE = ("token", "guides", "image")

INTRA = Schema([Relation(*TOKENS, Complete()), Relation(*OBJECTS, Complete())])
SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Grounded()), Relation(*TO_OBJECTS, Grounded())])
RELEASED_SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Complete()), Relation(*TO_OBJECTS, Complete())])

#: Without targeted objects: regions of the picture, each joined with every word.
REGION_SCHEMA = Schema(
    [Relation(*key, Complete()) for key in (TOKENS, IMAGES, IMAGE_TO_TOKENS, TO_IMAGE)], nodes=["image"]
)


class UMGF(Tagger):
    """Unified multi-modal graph fusion (Zhang et al., AAAI 2021).

    Args:
        encoder: the text encoder.
        labels: the label set; the released form adds the tags it needs.
        form: ``paper`` (equations 1 to 8) or ``released`` (what the authors' code computes).
        region_width: width of the objects' region vectors (2048 for a ResNet-152); None when there are none.
        resnet: torchvision's name of a ResNet that learns with the model on the objects' crops
            (``resnet152``), in place of region vectors.
        resnet_weights: its first weights; see `Crops`.
        label_features: whether objects also speak by their label's embedding, added to the region (the
            released form knows regions alone).
        width: of every node, d.
        layers: fusion layers, L; by default 2 (paper) or 6 (released).
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width (paper) or 256 (released).
        dropout: by default 0.5 (paper) or 0.4 (released).
        targeted: off, regions of the picture stand in the objects' place (the paper's "w/o Tar.").
        image_width: width of those regions' vectors; read without targeted objects only.
        visual_correlation: off, objects do not meet each other ("w/o VCorr.").
        independent: off, both modalities share their parameters ("w/o Ind.").
    """

    def __init__(
        self,
        encoder: Backbone,
        labels: Labels,
        *,
        form: Form = "paper",
        region_width: int | None = None,
        resnet: str | None = None,
        resnet_weights: str = IMAGENET,
        label_features: bool = True,
        width: int = 512,
        layers: int | None = None,
        heads: int = 8,
        hidden: int | None = None,
        dropout: float | None = None,
        targeted: bool = True,
        image_width: int | None = None,
        visual_correlation: bool = True,
        independent: bool = True,
    ) -> None:
        paper = not is_released(form)
        if not (paper or (targeted and visual_correlation and independent)):
            raise ValueError("the ablations are the paper's: take form='paper'")
        if not targeted and image_width is None:
            raise ValueError("without targeted objects regions of the picture speak: give image_width")
        layers = layers or (2 if paper else 6)
        hidden = hidden or (4 * width if paper else 256)
        dropout = (0.5 if paper else 0.4) if dropout is None else dropout
        if not paper:
            labels = released_labels(labels)
        begin = self._paper_start if paper else self._released_start
        pixels = [PixelEncoder(Crops(resnet, resnet_weights))] if resnet else []
        region = pixels[0].width if pixels else region_width
        visual, schema = "object", SCHEMA if paper else RELEASED_SCHEMA
        if not targeted and image_width is not None:
            visual, schema = "image", REGION_SCHEMA
            begin = partial(self._region_start, image_width)
        if not visual_correlation:
            schema = schema.without((visual, "attends", visual))
        stack = [
            TextEncoder(encoder),
            *pixels,
            *begin(encoder.width, width, region, label_features, dropout),
            *(
                part
                for place in range(layers)
                for part in fusion_layer(
                    width,
                    heads,
                    hidden,
                    dropout,
                    released=not paper,
                    last=place == layers - 1,
                    visual=visual,
                    correlated=visual_correlation,
                    independent=independent,
                )
            ),
            Emit("tags", width, len(labels))
            if paper
            else Emit("tags", encoder.width + width, len(labels), read=("encoded", "token")),
        ]
        super().__init__(
            schema=schema,
            layers=stack,
            tasks=[Task("tags", CRF(labels.tags))],
            encoder=encoder,
            labels=labels,
            tokens="words" if paper else "pieces",
            region_width=region_width if targeted else None,
            image_width=None if targeted else image_width,
            cuts=Cuts() if resnet else None,
            reduction="mean" if paper else "sum",
        )

    @staticmethod
    def _paper_start(
        text: int, width: int, region: int | None, label_features: bool, dropout: float
    ) -> Iterator[nn.Module]:
        """Multi-modal graph, last paragraph: H^(0) of words and objects."""
        yield Positions()
        yield ObjectEncoder(width, region_width=region, label_width=text if label_features else None)
        yield EachNode({"token": nn.Sequential(nn.Linear(text, width), nn.ReLU()), "object": nn.ReLU()})

    @staticmethod
    def _region_start(
        image: int, text: int, width: int, region: int | None, label_features: bool, dropout: float
    ) -> Iterator[nn.Module]:
        """H^(0) of words and of the picture's regions."""
        yield Positions()
        yield ImageEncoder(width, image)
        yield EachNode({"token": nn.Sequential(nn.Linear(text, width), nn.ReLU()), "image": nn.ReLU()})

    @staticmethod
    def _released_start(
        text: int, width: int, region: int | None, label_features: bool, dropout: float
    ) -> Iterator[nn.Module]:
        yield Remember("token", "encoded")
        yield ObjectEncoder(
            region or width, region_width=region, label_width=text if label_features else None
        )
        steps = [nn.Linear(region or width, width), nn.ReLU(), nn.Dropout(dropout)]
        steps += [nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)]
        yield EachNode({"token": nn.Linear(text, width), "object": nn.Sequential(*steps)})


def fusion_layer(
    width: int,
    heads: int,
    hidden: int,
    dropout: float,
    *,
    released: bool,
    last: bool,
    visual: str = "object",
    correlated: bool = True,
    independent: bool = True,
) -> Iterator[nn.Module]:
    """One fusion layer: within each modality, then between them, then node by node."""
    norm = partial(AddNorm, width, dropout)
    bare = not released
    # eqs. 1-2
    within = {TOKENS: Attention(width, heads, dropout=dropout)}
    if correlated:
        within[visual, "attends", visual] = (
            Attention(width, heads, dropout=dropout, value=bare, output=bare)
            if independent
            else within[TOKENS]
        )
    yield RelationalLayer(within, combine=norm)
    # eqs. 3-4 and, unless nobody will hear it, 5-6
    to_tokens = GatedSum(width, bias=released)
    gates = {(visual, "guides", "token"): to_tokens}
    if not last:
        gates["token", "guides", visual] = GatedSum(width, bias=released) if independent else to_tokens
    yield RelationalLayer(gates, combine=norm if released else Add)
    # eqs. 7-8
    words = FeedForward(width, hidden, dropout)
    alone = {"token": words}
    if not last:
        alone[visual] = FeedForward(width, hidden, dropout) if independent else words
    yield EachNode(alone)
