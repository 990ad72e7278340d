"""UMGF: "Multi-modal Graph Fusion for Named Entity Recognition with Targeted Visual Guidance".

Zhang, Wei, Li, Wu, Zhu and Zhou, AAAI 2021.

Graph: tokens (words), which all meet, and objects, which all meet; the words of a noun phrase are joined with
the object that it grounds, objects found by the general words with every word. Without objects it is text.

``paper`` computes equations 1 to 8. Where the paper is silent we choose, beside what stands with
`fusion_layer`: one linear map with ReLU as each MLP; sinusoidal positions; feed-forwards 4 times as wide.

``released`` computes what the authors' code does: pieces as tokens, [CLS] and [SEP] among them, with tags of
their own (`released_labels`), which its CRF reads; every token joined to every object (the code knows exactly
four crops); no positions, one linear map on the text without ReLU, two linear maps with ReLU on the objects
behind another of the ResNet's width; what `fusion_layer` tells; emissions from the encoder's states beside
the graph's; the loss is a sum. Weights of the release fit while `ObjectEncoder.observe` was not called.
"""

from __future__ import annotations

from functools import partial

from torch import nn

from mnergraph.features.pretrained import IMAGENET
from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.vision.crops import CropPixels, RegionEncoder
from mnergraph.graph.edge_rules import Complete, Grounded
from mnergraph.graph.node_types import Images, NodeType, Objects, Tokens, Unit
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.umgf.layers import fusion_layer
from mnergraph.models.variants import Form, is_released, released_labels
from mnergraph.nn.encoders.crops import PixelEncoder
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TaggingHead, TaggingScores
from mnergraph.nn.layers.hetero import Add, AddNorm, CopyFeatures, NodeTypeModule, PositionalEncoding

TOKENS, OBJECTS = ("token", "attends", "token"), ("object", "attends", "object")


TO_TOKENS, TO_OBJECTS = ("object", "guides", "token"), ("token", "guides", "object")


INTRA = Schema([Relation(*TOKENS, Complete()), Relation(*OBJECTS, Complete())])


SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Grounded()), Relation(*TO_OBJECTS, Grounded())])


RELEASED_SCHEMA = INTRA | Schema([Relation(*TO_TOKENS, Complete()), Relation(*TO_OBJECTS, Complete())])


#: Without targeted objects: regions of the picture, each joined with every word.
IMAGES = ("image", "attends", "image"), ("image", "guides", "token"), ("token", "guides", "image")


REGION_SCHEMA = Schema([Relation(*key, Complete()) for key in (TOKENS, *IMAGES)], nodes=["image"])


class UMGF(Tagger):
    """Unified multi-modal graph fusion (Zhang et al., AAAI 2021).

    Args:
        encoder: the text encoder.
        labels: the label set; the released form adds the tags it needs.
        form: ``paper`` (equations 1 to 8) or ``released`` (what the authors' code computes).
        region_dim: width of the objects' region vectors (2048 for a ResNet-152); None when there are none.
        resnet: torchvision's name of a ResNet that learns with the model on the objects' crops, as paper and
            release have it (``resnet152``); without, region vectors are made beforehand, which is our choice.
        resnet_weights: its first weights; see `RegionEncoder`.
        label_features: whether objects speak by their label, too; paper and release have regions alone.
        width: of every node, d.
        layers: fusion layers, L; by default 2 (paper) or 6 (released).
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width (paper) or 256 (released).
        dropout: by default 0.5 (paper) or 0.4 (released).
        targeted: off, regions of the picture stand in the objects' place (the paper's "w/o Tar.").
        image_dim: width of those regions' vectors; read without targeted objects only.
        visual_correlation: off, objects do not meet each other ("w/o VCorr.").
        independent: off, both modalities share their parameters ("w/o Ind.").
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        form: Form = "paper",
        region_dim: int | None = None,
        resnet: str | None = None,
        resnet_weights: str = IMAGENET,
        label_features: bool = True,
        width: int = 512,
        layers: int | None = None,
        heads: int = 8,
        hidden: int | None = None,
        dropout: float | None = None,
        targeted: bool = True,
        image_dim: int | None = None,
        visual_correlation: bool = True,
        independent: bool = True,
    ) -> None:
        released, text = is_released(form), encoder.hidden_size
        if released and not (targeted and visual_correlation and independent):
            raise ValueError("the ablations are the paper's: take form='paper'")
        if resnet and not targeted:
            raise ValueError("resnet sees the objects' crops, and without targeted objects there are none")
        labels = released_labels(labels) if released else labels
        layers = layers or (6 if released else 2)
        hidden = hidden or (256 if released else 4 * width)
        dropout = (0.4 if released else 0.5) if dropout is None else dropout
        pixels = [PixelEncoder(RegionEncoder(resnet, resnet_weights))] if resnet else []
        region = pixels[0].out_channels if pixels else region_dim
        stack: list[nn.Module] = [TextEncoder(encoder), *pixels]
        wide = region or width if released else width
        # "Multi-modal graph", last paragraph: H^(0)
        if targeted:
            named = text if label_features else None
            seen: nn.Module = ObjectEncoder(wide, region_dim=region, label_dim=named)
            visual, schema = "object", RELEASED_SCHEMA if released else SCHEMA
        elif image_dim is None:
            raise ValueError("without targeted objects regions of the picture speak: give image_dim")
        else:
            seen = ImageEncoder(width, image_dim)
            visual, schema = "image", REGION_SCHEMA
        if released:
            steps = [nn.Linear(wide, width), nn.ReLU(), nn.Dropout(dropout)]
            steps += [nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout)]
            begin = {"token": nn.Linear(text, width), "object": nn.Sequential(*steps)}
        else:
            begin = {"token": nn.Sequential(nn.Linear(text, width), nn.ReLU()), visual: nn.ReLU()}
        stack += [
            CopyFeatures("token", "encoded") if released else PositionalEncoding(),
            seen,
            NodeTypeModule(begin),
        ]
        meets = (visual, "attends", visual)
        fusion = partial(
            fusion_layer,
            within=[TOKENS, meets] if visual_correlation else [TOKENS],
            between=((visual, "guides", "token"), ("token", "guides", visual)),
            maps=not released,
            bias=released,
            combine=partial(AddNorm, width, dropout) if released else Add,
            independent=independent,
        )
        for place in range(layers):
            stack += fusion(width, heads, hidden, dropout, last=place == layers - 1)
        states = ("encoded", "token") if released else ("token",)
        stack.append(TaggingScores("tags", text + width if released else width, len(labels), in_keys=states))
        unit: Unit = "pieces" if released else "words"
        seen_nodes: NodeType = Images(image_dim)
        if targeted:
            crops = CropPixels() if resnet else None
            seen_nodes = Objects(encoder.tokenizer, region_dim=region_dim, crop_reader=crops)
        super().__init__(
            schema=schema if visual_correlation else schema.without(meets),
            layers=stack,
            heads=[TaggingHead(CRF(labels.tags), labels, unit=unit)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, unit=unit), seen_nodes],
            reduction="sum" if released else "mean",
        )
