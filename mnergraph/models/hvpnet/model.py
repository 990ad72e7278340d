"""HVPNeT: "Good Visual Guidance Makes A Better Extractor: Hierarchical Visual Prefix for Multimodal Entity and Relation
Extraction".

Chen, Zhang, Li, Yao, Deng, Tan, Huang, Si and Chen, Findings of NAACL 2022.

Graph: tokens (words), the image, and at most three objects with region vectors; image and objects are connected to
every token. These relations lie inside the text encoder: in each of its layers the nodes are further keys and values of
the self-attention.

    [s_1 .. s_4] = W_2 tanh(W_1 v)                                   scales of an image's or object's features v
    g^l = softmax(LeakyReLU(W_l mean over k of s_k))                 gate of layer l
    P^l = sum over k of g^l_k s_k = [K_P ; V_P]
    softmax(Q [K_P ; K_T]^T / sqrt(d)) [V_P ; V_T]                   self-attention of layer l
    a CRF over W h,  h the encoder's last states

v is a pyramid: the four stages of a ResNet-50, each averaged to 2 x 2 places
(`mnergraph.features.vision.pyramid`), so that a node has four vectors of 3840 features and gives four keys and
values. Features of another width are one vector, which gives one; see ``num_places``. Image and objects share W_1,
W_2 and W_l where their features have the same width. A grid of image features is represented by its mean.

The paper's text was not available, so no equation has a number here; this is the model according to the authors'
code and a summary, by which the paper maps every stage for itself. The code, and we, map the channels of all
stages together and split the result, so that a scale is not a stage. Chosen by us: words without [CLS] and [SEP],
represented by their first piece; a post with fewer objects has fewer prefixes, and one without image none, so that
it is its text alone; features are standardized by those of the training posts (`Standardize`), as those of a
frozen network are nearly parallel.

The released code (`RELEASED`) differs in these points: tokens are word pieces, [CLS] and [SEP] among them, with
tags of their own in the CRF; a post is cut at 128 pieces; the pyramid ``[3840, 2, 2]`` is read as four blocks of
960 channels, not as four places; keys and values are split into heads by a change of shape, so that a head reads
all of a few places (`ReshapeHeads`). With three objects and an image its weights give the same scores, before
`Standardize.fit`. What it does besides, and we do not: missing objects are black images, which have prefixes, too;
the ResNet stays in training mode, so that its batch norms depend on the batch and drift; weight decay on biases
and norms; CRF and emission map get a learning rate of 0.05, in a group of parameters that the optimizer is not
given (in both commits that we could read; in copies of the code by others it is), so that they are not trained.
Our settings train them at that rate (``optimizer.head_lr``).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.evidence_kinds import IMAGE_FEATURES, REGION_FEATURES
from mnergraph.graph.node_types import Images, NodeType, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.hvpnet.layers import Aggregation, ReshapeHeads, prefix_key, prefix_layers
from mnergraph.models.variants import Variant, VariantName, select_variant
from mnergraph.nn.encoders.prefix_encoder import PrefixTextEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores

IMAGE_PREFIX, OBJECT_PREFIX = ("image", "prefixes", "token"), ("object", "prefixes", "token")
SCHEMA = Schema([Relation(*IMAGE_PREFIX, Complete()), Relation(*OBJECT_PREFIX, Complete())])

#: The rows of the paper's ablation table: the last stage alone (one scale, without gates), each scale for a quarter of
#: the layers instead of gates, objects without the whole image.
FLAT, ONE_TO_THREE, ONLY_OBJECTS = ABLATIONS = "Flat", "1T3", "OnlyObj"


@dataclass(frozen=True, kw_only=True)
class HVPNeTVariant(Variant):
    """HVPNeT as described, by default, or as in the released code.

    Args:
        token_unit: see `Variant`.
        bert_layers: see `Variant`; there are no transformer layers but the encoder's.
        max_pieces: see `Variant`.
        channel_blocks: a pyramid is read as blocks of channels, not as places.
        reshaped_heads: prefixes are split into heads as `ReshapeHeads` does.
    """

    channel_blocks: bool = False
    reshaped_heads: bool = False


PAPER = HVPNeTVariant()
RELEASED = HVPNeTVariant(token_unit="pieces", max_pieces=128, channel_blocks=True, reshaped_heads=True)


class HVPNeT(Tagger):
    """Hierarchical visual prefixes in every layer of the text encoder (Chen et al., Findings of NAACL 2022).

    Args:
        encoder: text encoder, whose self-attention prefixes can be added to; see `PrefixTextEncoder`.
        labels: label set; a variant over pieces adds the tags it needs.
        variant: ``paper``, ``released`` (the authors' code), or a `HVPNeTVariant`.
        ablate: rows of the paper's ablation table, any of `HVPNeT.ABLATIONS`. For the last stage alone ("Flat") the
            features, too, are to be those of that stage.
        image_dim: dimension of the image features (15360 for the pyramid of a ResNet-50); None without any.
        region_dim: dimension of the objects' region vectors (the same); None without any.
        num_places: how many vectors the features of a node hold, each of which gives one prefix position; by default
            4 where the width is that of a pyramid, else 1.
        num_objects: objects of a post that are read, those of the best scores, m; None for all.
        bottleneck_size: rows of W_1.
        dropout: on the encoder's last states.
        context: which texts about a post the encoder reads beside the sentence; None for none.

    Raises:
        ValueError: without image features and region vectors, and for an encoder that takes no prefixes.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        variant: VariantName | HVPNeTVariant = "paper",
        ablate: Collection[str] = (),
        image_dim: int | None = None,
        region_dim: int | None = None,
        num_places: int | None = None,
        num_objects: int | None = 3,
        bottleneck_size: int = 800,
        dropout: float = 0.1,
        context: Context | None = None,
    ) -> None:
        config = select_variant(variant, {"paper": PAPER, "released": RELEASED})
        ablate = check_ablations(ablate, self.ABLATIONS)
        if {FLAT, ONE_TO_THREE} <= ablate:
            raise ValueError(
                f"{FLAT!r} has one scale and {ONE_TO_THREE!r} one for each quarter of the layers: give one"
            )
        if ONLY_OBJECTS in ablate:
            if region_dim is None:
                raise ValueError(f"{ONLY_OBJECTS!r} leaves the objects' region vectors alone: give region_dim")
            image_dim = None
        widths = {"image": image_dim, "object": region_dim}
        known = {node_type: width for node_type, width in widths.items() if width is not None}
        if not known:
            raise ValueError(
                "HVPNeT reads features of the image and of objects: give image_dim or region_dim, or posts with them"
            )
        relations = [relation for relation in SCHEMA if relation.src in known]
        labels = config.label_set(labels)
        keys = {relation.key: prefix_key(relation.src) for relation in relations}
        text = PrefixTextEncoder(encoder, keys, dropout=dropout)
        aggregation: Aggregation = "single" if FLAT in ablate else "split" if ONE_TO_THREE in ablate else "gate"
        layers: list[nn.Module] = [
            *prefix_layers(
                known,
                num_places,
                num_layers=text.num_layers,
                prefix_size=text.prefix_size,
                interleaved=not config.channel_blocks,
                bottleneck_size=bottleneck_size,
                aggregation=aggregation,
            )
        ]
        if config.reshaped_heads:
            layers.append(ReshapeHeads(list(known), text.num_key_heads))
        node_types: list[NodeType] = [config.tokens(encoder.tokenizer, labels)]
        if "image" in known:
            node_types.append(Images(image_dim, pool=True))
        if "object" in known:
            node_types.append(Objects(region_dim=region_dim, max_objects=num_objects, require_region=True))
        super().__init__(
            schema=Schema(relations),
            layers=[*layers, text, TaggingScores(TAGS, encoder.hidden_size, len(labels))],
            heads=[TaggingHead(CRF(labels.tags), labels, unit=config.token_unit)],
            encoder=encoder,
            labels=labels,
            node_types=node_types,
            context=context,
            evidence=[IMAGE_FEATURES] * (ONLY_OBJECTS not in ablate) + [REGION_FEATURES],
        )
