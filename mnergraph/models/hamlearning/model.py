"""HamLearning: "A Novel Framework for Multimodal Named Entity Recognition with Multi-level Alignments".

Liu, Li, Ren, Liu, Si, Zhu and Sun, 2023. No code was released; this is equations 1 to 16.

Graph: the sentence ([CLS]) and its tokens all meet, as do the image (one node) and its objects; where their
boxes lie in one of eleven labelled relations, image and objects are joined; the sentence weighs the image,
and so weighed it joins every object; objects and tokens all meet.

Where the paper is silent or can be read in two ways we choose, as stands with the operators, and here: every
Transformer, the ViT too, is a `TransformerLayer` as wide as the text encoder; the textual one has one layer,
objects have no positions. A grid of image vectors enters as its mean; how many objects there are (the paper:
15) is up to the evidence. The L rounds are iterations of the same layers, the last of which updates the words
alone, for nobody would hear V^1 and V^2 again. Words hear objects only: a post without any is its text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.graph.edge_rules import Complete, Spatial
from mnergraph.graph.node_types import Images, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.hamlearning.layers import BoxFeatures, GatedResidual, Relevance
from mnergraph.nn.conv.rgcn import RelationalConvolution
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import LinearMix
from mnergraph.nn.layers.hetero import CopyFeatures, FeatureModule, HeteroLayer, NodeTypeModule
from mnergraph.nn.layers.node_types import MergeNodeTypes, SplitNodeTypes
from mnergraph.nn.layers.transformer import TransformerConfig, TransformerLayer

TEXT, PICTURE = ("sentence", "token"), ("image", "object")


TEXT_MEETS = [(src, "attends", dst) for src in TEXT for dst in TEXT]


PICTURE_MEETS = [(src, "attends", dst) for src in PICTURE for dst in PICTURE]


NEAR = [("image", "near", "object"), ("object", "near", "image"), ("object", "near", "object")]


WEIGHS, JOINS = ("sentence", "weighs", "image"), ("image", "joins", "object")


TO_TOKENS, TO_OBJECTS = ("object", "tells", "token"), ("token", "tells", "object")


#: Among the nodes that sentence and tokens, or image and objects, become together.
TEXT_SELF, SEMANTIC_SELF = ("text", "attends", "text"), ("semantic", "attends", "semantic")


AROUND = ("spatial", "near", "spatial")


COMPLETE = [*TEXT_MEETS, *PICTURE_MEETS, WEIGHS, JOINS, TO_TOKENS, TO_OBJECTS]


SCHEMA = Schema(Relation(*key, Complete()) for key in COMPLETE)


SCHEMA |= Schema(Relation(*key, Spatial()) for key in NEAR)


class HamLearning(Tagger):
    """Hierarchical alignments of a text with its image and objects (Liu et al., 2023).

    Args:
        encoder: the text encoder; all nodes are as wide as its states.
        labels: the label set.
        image_dim: width of the picture's features (2048 for a ResNet-152's last map).
        region_dim: width of the objects' region vectors; None when there are none.
        label_features: whether objects also speak by their label's embedding.
        rounds: iterations of the interaction, L.
        semantic_layers: of the ViT.
        spatial_layers: of the R-GCN.
        rgcn: off, the spatial view is left out (the paper's "w/o RGCN").
        vit: off, the semantic view is left out ("w/o ViT").
        relevance: off, the image joins the objects unweighed ("w/o RM").
        heads: of every attention.
        dropout: in every Transformer, and between the layers of eq. 12.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        region_dim: int | None = None,
        label_features: bool = True,
        rounds: int = 3,
        semantic_layers: int = 4,
        spatial_layers: int = 2,
        rgcn: bool = True,
        vit: bool = True,
        relevance: bool = True,
        heads: int = 12,
        dropout: float = 0.1,
    ) -> None:
        if rounds < 1:
            raise ValueError(f"words meet objects in one round at least, not in {rounds}")
        if not (rgcn or vit):
            raise ValueError("without R-GCN and without ViT no view of the picture is left; keep one of them")
        width, wide = encoder.hidden_size, BoxFeatures.WIDTH + encoder.hidden_size
        block = TransformerConfig(width, heads, dropout=dropout).layer
        stack: list[nn.Module] = [
            # eq. 1 and the textual Transformer
            TextEncoder(encoder, pooling="sum", sentence=True),
            MergeNodeTypes("text", TEXT, relation_names=["attends"]),
            block(TEXT_SELF),
            SplitNodeTypes("text", {kind: kind for kind in TEXT}),
            # eqs. 2 and 3
            ImageEncoder(width, image_dim),
            ObjectEncoder(width, region_dim=region_dim, label_dim=width if label_features else None),
        ]
        views: dict[str, int] = {}
        if vit:
            # eq. 4
            views["semantic"] = width
            stack.append(MergeNodeTypes("semantic", PICTURE, relation_names=["attends"]))
            stack += [block(SEMANTIC_SELF) for _ in range(semantic_layers)]
        if rgcn:
            # eqs. 5-7; 4 wider than the other nodes, until eq. 10
            views["spatial"] = wide
            stack += [BoxFeatures(), MergeNodeTypes("spatial", PICTURE, relation_names=["near"])]
            for _ in range(spatial_layers):
                convolution = RelationalConvolution(wide, len(SPATIAL_LABELS))
                stack.append(HeteroLayer({AROUND: convolution}, residual=partial(GatedResidual, wide)))
        for view, size in views.items():
            stack.append(SplitNodeTypes(view, {kind: f"{view} {kind}" for kind in PICTURE}))
            stack.append(Relevance(view, size, width, measured=relevance))
        # eq. 12
        ffnn = (nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
        stack.append(NodeTypeModule({"token": nn.Sequential(*ffnn)}))
        stack += interaction(list(views), rounds, width, block)
        idle = [*(() if vit else PICTURE_MEETS), *(() if rgcn else NEAR), *(() if relevance else (WEIGHS,))]
        super().__init__(
            schema=SCHEMA.without(*idle),
            layers=[*stack, TaggingScores("tags", width, len(labels))],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Images(image_dim, pool=True), Objects(encoder.tokenizer, region_dim=region_dim)],
        )


def interaction(
    views: Sequence[str], rounds: int, width: int, block: Callable[..., TransformerLayer]
) -> list[nn.Module]:
    """The rounds of eqs. 13-15, the same layers in each; the last leaves the objects as they are.

    All read what the last round left: V is made before the views change, and they before the words.
    """
    first, *second = objects = [f"{view} object" for view in views]
    seen = (
        FeatureModule(LinearMix(width), in_keys=objects, out_key="object") if second else CopyFeatures(first, "object")
    )
    words = block(TO_TOKENS)
    updates = [block(TO_OBJECTS, dst_key=view) for view in objects] if rounds > 1 else []
    return [*(seen, *updates, words) * (rounds - 1), seen, words]
