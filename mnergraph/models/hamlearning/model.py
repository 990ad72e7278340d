"""HamLearning: "A Novel Framework for Multimodal Named Entity Recognition with Multi-level Alignments".

Liu, Li, Ren, Liu, Si, Zhu and Sun, 2023. No code was released; this is equations 1 to 16.

Graph: the sentence ([CLS]) and its tokens are connected to one another, as are the image (one node) and its
objects; image and objects whose boxes are in one of eleven labeled spatial relations are connected by it; the
sentence is connected to the image, and the image to every object; objects and tokens are all connected.

Where the paper is silent or can be read in two ways we choose, in addition to the choices of the layers: every
Transformer, the ViT too, is a `TransformerLayer` of the text encoder's hidden size; the textual one has one
layer, objects have no positions. A grid of image vectors enters as its mean; the number of objects (the paper:
15) is up to the detector. The L iterations of the interaction use the same layers; the last one updates the
words alone, as updates of V^1 and V^2 cannot reach the tags any more. Words receive from objects only: a post
without any is its text alone.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import ClassVar

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete, Spatial
from mnergraph.graph.evidence_kinds import REGION_FEATURES
from mnergraph.graph.node_types import Images, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.hamlearning.layers import BoxFeatures, GatedResidual, Relevance
from mnergraph.nn.conv.rgcn import RelationalConvolution
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import LinearMix
from mnergraph.nn.layers.hetero import CopyFeatures, FeatureModule, HeteroLayer, NodeTypeModule
from mnergraph.nn.layers.node_types import MergeNodeTypes, SplitNodeTypes
from mnergraph.nn.layers.transformer import TransformerConfig, TransformerLayer

TEXT, PICTURE = ("sentence", "token"), ("image", "object")
TEXT_MEETS = [(src, "attends", dst) for src in TEXT for dst in TEXT]
PICTURE_MEETS = [(src, "attends", dst) for src in PICTURE for dst in PICTURE]
NEAR = [("image", "near", "object"), ("object", "near", "image"), ("object", "near", "object")]
GATES, JOINS = ("sentence", "gates", "image"), ("image", "joins", "object")
TO_TOKENS, TO_OBJECTS = ("object", "guides", "token"), ("token", "guides", "object")
#: Among the merged nodes of sentence and tokens, and of image and objects.
TEXT_SELF, SEMANTIC_SELF = ("text", "attends", "text"), ("semantic", "attends", "semantic")
AROUND = ("spatial", "near", "spatial")

COMPLETE = [*TEXT_MEETS, *PICTURE_MEETS, GATES, JOINS, TO_TOKENS, TO_OBJECTS]
SCHEMA = Schema(Relation(*key, Complete()) for key in COMPLETE)
SCHEMA |= Schema(Relation(*key, Spatial()) for key in NEAR)
PIXEL_NEAR = Schema(Relation(*key, Spatial(normalized=False)) for key in NEAR)

#: The two views of the image, and for each the names of the features of image and objects in it.
VIEW_KEYS = {
    "semantic": {"image": "semantic image", "object": "semantic object"},
    "spatial": {"image": "spatial image", "object": "spatial object"},
}

#: The rows of the paper's ablation table.
NO_RGCN, NO_VIT, NO_RELEVANCE = ABLATIONS = "w/o RGCN", "w/o ViT", "w/o RM"


class HamLearning(Tagger):
    """Hierarchical alignments of a text with its image and objects (Liu et al., 2023).

    Args:
        encoder: text encoder; all nodes have its hidden size.
        labels: label set.
        ablate: rows of the paper's ablation table, any of `HamLearning.ABLATIONS`: without the R-GCN there is no
            spatial view, without the ViT no semantic view, without relevance the unchanged image joins objects.
        image_dim: dimension of the image features (2048 for a ResNet-152's last map).
        region_dim: dimension of the objects' region vectors; None without any.
        label_features: the labels' embeddings are features of the objects, too.
        normalized_centers: whether the spatial relations' distances and angles are those of centers divided by the
            image's width and height, as in the paper, or of centers in pixels.
        num_iterations: of the interaction, L.
        num_vit_layers: layers of the ViT.
        num_rgcn_layers: layers of the R-GCN.
        num_heads: attention heads of every layer.
        dropout: in every Transformer, and between the layers of eq. 12.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        ablate: Collection[str] = (),
        image_dim: int = 2048,
        region_dim: int | None = None,
        label_features: bool = True,
        normalized_centers: bool = True,
        num_iterations: int = 3,
        num_vit_layers: int = 4,
        num_rgcn_layers: int = 2,
        num_heads: int = 12,
        dropout: float = 0.1,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        ablate = check_ablations(ablate, self.ABLATIONS)
        if num_iterations < 1:
            raise ValueError(f"num_iterations is at least 1, not {num_iterations}")
        if {NO_RGCN, NO_VIT} <= ablate:
            raise ValueError("without R-GCN and without ViT no view of the image is left; keep one of them")
        width, wide = encoder.hidden_size, BoxFeatures.DIM + encoder.hidden_size
        block = TransformerConfig(width, num_heads, dropout=dropout).layer
        stack: list[nn.Module] = [
            # eq. 1 and the textual Transformer
            TextEncoder(encoder, pooling="sum", sentence=True),
            MergeNodeTypes("text", TEXT, relation_names=["attends"]),
            block(TEXT_SELF),
            SplitNodeTypes("text", {node_type: node_type for node_type in TEXT}),
            # eqs. 2 and 3
            ImageEncoder(width, image_dim),
            ObjectEncoder(width, region_dim=region_dim, label_dim=width if label_features else None),
        ]
        views: dict[str, int] = {}
        if NO_VIT not in ablate:
            # eq. 4
            views["semantic"] = width
            stack.append(MergeNodeTypes("semantic", PICTURE, relation_names=["attends"]))
            stack += [block(SEMANTIC_SELF) for _ in range(num_vit_layers)]
        if NO_RGCN not in ablate:
            # eqs. 5-7; 4 features more than the other nodes have, until eq. 10
            views["spatial"] = wide
            stack += [BoxFeatures(), MergeNodeTypes("spatial", PICTURE, relation_names=["near"])]
            for _ in range(num_rgcn_layers):
                convolution = RelationalConvolution(wide, len(SPATIAL_LABELS))
                stack.append(HeteroLayer({AROUND: convolution}, residual=partial(GatedResidual, wide)))
        for view, view_dim in views.items():
            keys, measured = VIEW_KEYS[view], NO_RELEVANCE not in ablate
            stack.append(SplitNodeTypes(view, keys))
            stack.append(Relevance(keys["image"], keys["object"], view_dim, width, measured=measured))
        # eq. 12
        ffnn = (nn.Linear(width, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, width))
        stack.append(NodeTypeModule({"token": nn.Sequential(*ffnn)}))
        stack += interaction([VIEW_KEYS[view]["object"] for view in views], num_iterations, width, block)
        unused = {NO_VIT: PICTURE_MEETS, NO_RGCN: NEAR, NO_RELEVANCE: [GATES]}
        schema = SCHEMA if normalized_centers else SCHEMA.without(*NEAR) | PIXEL_NEAR
        super().__init__(
            schema=schema.without(*(key for name in ABLATIONS if name in ablate for key in unused[name])),
            layers=[*stack, TaggingScores(TAGS, width, len(labels))],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[Images(image_dim, pool=True), Objects(encoder.tokenizer, region_dim=region_dim)],
            evidence=[REGION_FEATURES],
        )


def interaction(
    object_keys: Sequence[str], num_iterations: int, hidden_size: int, block: Callable[..., TransformerLayer]
) -> list[nn.Module]:
    """Return the layers of eqs. 13-15, the same ones in each iteration; the last leaves the objects as they are.

    All read what the last iteration left: V is computed before the views are updated, and they before the words.

    Args:
        object_keys: names of the objects' features in each view, one or two.
        num_iterations: L, at least 1.
        hidden_size: of all nodes.
        block: makes a transformer layer.
    """
    first, *second = object_keys
    mix: nn.Module = CopyFeatures(first, "object")
    if second:
        mix = FeatureModule(LinearMix(hidden_size), in_keys=object_keys, out_key="object")
    words = block(TO_TOKENS)
    updates = [block(TO_OBJECTS, dst_key=key) for key in object_keys] if num_iterations > 1 else []
    return [*(mix, *updates, words) * (num_iterations - 1), mix, words]
