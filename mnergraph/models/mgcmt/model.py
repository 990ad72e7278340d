"""MGCMT: "Multi-Granularity Cross-Modality Representation Learning for Named Entity Recognition on Social
Media".

Liu, Wang, Li, Liu, Ren, Zhu and Sun, 2022.

Graph: tokens (words), the image as a grid of image nodes, objects, and for every word its nearest words in a
table of word vectors, connected to it. Tokens, grid and objects are each connected among themselves, and tokens
to all of the grid and of the objects, in both directions.

Where the paper is silent we choose: dropout on the words' states, on attention weights and on residuals; ReLU
in the feed-forward layers, which are 4 times as wide as the nodes; tokens of a post without an image receive
nothing from it. A post without objects has one of zeros (footnote 2). Detectors of other classes than COCO's,
and labels in free text such as a caption's noun phrases, need ``label_features``.

The released code (`RELEASED`) differs in these points: tokens are word pieces, [CLS] and [SEP] among them, with
tags of their own in both CRFs; the sum of nearest words, random ones for a word that is not in the table
(``seed`` of `NearestWords.from_file`), is projected and added to the states of first pieces, dropout follows, and
span detection reads the result, not h; words are looked up in exact case (``lower=False``); each level has a linear map
of the image and self-attention of its own; transformer layers are BERT's (GELU, layer norm epsilon); the gate over
objects weights the superior level; the first five objects are kept; a post is cut at 128 pieces; initial weights are
BERT's in what the code has in common with UMT's and PyTorch's elsewhere, see `MGCMTVariant`; see
`fused_tagging_scores`, too. Its scorer counts an X that is predicted for a word as UMT's does, see
`mnergraph.models.umt`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.nearest_words import NearestWords
from mnergraph.features.vision.detectors import COCO_CLASSES
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete, NearestWordOf
from mnergraph.graph.node_types import Images, NearestWordNodes, Objects
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.mgcmt.layers import (
    LEVELS,
    TEXT_IMG,
    TEXT_OBJ,
    Level,
    ObjectClasses,
    ProjectAndAdd,
    concat_linear,
    cross_modal_path,
    fused_tagging_scores,
    level_key,
    path_relations,
    semantic_augmentation,
)
from mnergraph.models.variants import Variant, VariantName, select_variant
from mnergraph.nn.encoders.pretrained import Pooling, TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder, ObjectEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.tagging import SpanDetectionHead, TaggingHead, TaggingScores, span_detection_scores
from mnergraph.nn.layers.hetero import NodeTypeModule
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig, TransformerLayer, relations_used

TOKENS, AUGMENTS = ("token", "attends", "token"), ("similar", "augments", "token")
SCHEMA = Schema([Relation(*TOKENS, Complete()), Relation(*AUGMENTS, NearestWordOf())])
SCHEMA |= Schema(Relation(*key, Complete()) for kind in ("image", "object") for key in path_relations(kind))

#: The rows of tables 4 to 6.
NO_SEM_AUG, NO_TEXT_OBJ, NO_TEXT_IMG, NO_ESD, NO_BASIC, NO_SUPER, NO_UNI_TEXT, NO_UNI_OBJ, NO_UNI_IMG = ABLATIONS = (
    "w/o SemAug",
    "w/o TextObj",
    "w/o TextImg",
    "w/o ESD",
    "w/o basic-level",
    "w/o super-level",
    "w/o uni-text",
    "w/o uni-obj",
    "w/o uni-img",
)
_LEVEL_ABLATIONS: dict[Level, str] = {"basic": NO_BASIC, "superior": NO_SUPER}


@dataclass(frozen=True, kw_only=True)
class MGCMTVariant(Variant):
    """MGCMT as in the paper, by default, or as in the released code.

    Args:
        token_unit: see `Variant`.
        bert_layers: see `Variant`, except the initial weights: BERT's are those of the layers among tokens, between
            tokens and image, of the maps of the image, of the objects' classes and of the scores. The other layers are
            created after the authors' code has initialized these, so that they start as PyTorch's, and the map of
            ``output_projection`` uniformly within 1 / sqrt(hidden size).
        max_pieces: see `Variant`.
        max_objects: how many objects of a post are kept; None for all.
        pooling: of a word's pieces in the encoder.
        augmentation: nearest words are concatenated to the words and projected (eq. 4), or projected and added.
        dropout_after_augmentation: dropout follows the augmentation; otherwise it is on the encoder's states.
        spans_before_attention: span detection reads the states before the tokens' self-attention.
        separate_levels: each level has a linear map of the image and self-attention of its own.
        learn_placeholder: the placeholder for no object is learned; otherwise it is zeros.
        gated_level: the level that the gate over objects weights.
        fusion_activation: a ReLU after eq. 15.
        output_projection: one more linear map before the tags' scores.
        fusion_dropout: on [S_v ; S_o], where the model is not given another.
        exact_lookup: words are looked up in exact case in the table of nearest words, and one that is not there has a
            random vector; otherwise in lower case as well, and none.
    """

    max_objects: int | None = None
    pooling: Pooling = "sum"
    augmentation: Literal["concat", "add"] = "concat"
    dropout_after_augmentation: bool = False
    spans_before_attention: bool = False
    separate_levels: bool = False
    learn_placeholder: bool = False
    gated_level: Level = "basic"
    fusion_activation: bool = False
    output_projection: bool = False
    fusion_dropout: float = 0.0
    exact_lookup: bool = False


PAPER = MGCMTVariant()
RELEASED = MGCMTVariant(
    token_unit="pieces",
    bert_layers=True,
    max_pieces=128,
    max_objects=5,
    pooling="first",
    augmentation="add",
    dropout_after_augmentation=True,
    spans_before_attention=True,
    separate_levels=True,
    learn_placeholder=True,
    gated_level="superior",
    fusion_activation=True,
    output_projection=True,
    fusion_dropout=0.5,
    exact_lookup=True,
)


class MGCMT(Tagger):
    """Multi-granularity cross-modality transformer (Liu et al., 2022).

    Args:
        encoder: text encoder; all nodes have its hidden size, d.
        labels: label set; a variant over pieces adds the tags it needs.
        image_dim: dimension of the image features (2048 for a ResNet-152); None only with "w/o TextImg".
        nearest_words: of each word in a table of word vectors, saved with the model; words outside its
            vocabulary have none. None only with "w/o SemAug". `nearest_words_options` are those of the variant.
        variant: ``paper`` (equations 1 to 15), ``released`` (the authors' code), or an `MGCMTVariant`.
        ablate: rows of the paper's tables 4 to 6, any of `MGCMT.ABLATIONS`.
        label_features: objects are encoded by the embedding of their label, in free text, instead of a learned
            embedding of its COCO class.
        span_weight: weight of span detection in the loss, lambda.
        num_heads: attention heads of every layer.
        intermediate_size: of the feed-forward layers; by default 4 times the hidden size.
        dropout: on the words' states, attention weights and residuals.
        fusion_dropout: on [S_v ; S_o]; by default the variant's, 0 (paper) or 0.5 (released).
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int | None = None,
        nearest_words: NearestWords | None = None,
        variant: VariantName | MGCMTVariant = "paper",
        ablate: Collection[str] = (),
        label_features: bool = False,
        span_weight: float = 0.5,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        fusion_dropout: float | None = None,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        config, d = select_variant(variant, {"paper": PAPER, "released": RELEASED}), encoder.hidden_size
        ablate = check_ablations(ablate, self.ABLATIONS)
        levels = [level for level in LEVELS if _LEVEL_ABLATIONS[level] not in ablate]
        if not levels or {NO_TEXT_IMG, NO_TEXT_OBJ} <= ablate:
            raise ValueError("without both paths or both levels nothing of the image is left: take BERT-CRF")
        if NO_TEXT_IMG not in ablate and image_dim is None:
            raise ValueError(f"TextImg reads image features: give image_dim, or ablate {NO_TEXT_IMG!r}")
        if NO_SEM_AUG not in ablate and nearest_words is None:
            raise ValueError(f"SemAug reads nearest words: give nearest_words, or ablate {NO_SEM_AUG!r}")
        image_dim = None if NO_TEXT_IMG in ablate else image_dim
        nearest_words = None if NO_SEM_AUG in ablate else nearest_words
        labels = config.label_set(labels)
        transformers = TransformerConfig(d, num_heads, intermediate_size, dropout)
        transformers = config.transformer_config(transformers)
        # eqs. 1-4
        late = config.dropout_after_augmentation
        layers: list[nn.Module] = [TextEncoder(encoder, pooling=config.pooling, dropout=0.0 if late else dropout)]
        if nearest_words is not None:
            combine = ProjectAndAdd if config.augmentation == "add" else concat_linear
            layers += semantic_augmentation(AUGMENTS, nearest_words.vectors, d, combine)
        if late:
            layers.append(NodeTypeModule({"token": nn.Dropout(dropout)}))
        # eqs. 9-12: h; A of eq. 18, and its scores
        attention = [] if NO_UNI_TEXT in ablate else [transformers.layer(TOKENS)]
        spans = [] if NO_ESD in ablate else span_detection_scores(TOKENS, labels, transformers)
        layers += [*spans, *attention] if config.spans_before_attention else [*attention, *spans]
        path = partial(cross_modal_path, transformers=transformers, separate_levels=config.separate_levels)
        paths = []
        if image_dim is not None:
            # eq. 6
            keys = {level: level_key("image", level) if config.separate_levels else "image" for level in levels}
            layers += [ImageEncoder(d, image_dim, out_key=key) for key in dict.fromkeys(keys.values())]
            layers += path("image", keys, out_key=TEXT_IMG, self_attention=NO_UNI_IMG not in ablate)
            paths.append(TEXT_IMG)
        if NO_TEXT_OBJ not in ablate:
            # eqs. 7-8
            table = partial(ObjectClasses, d, len(COCO_CLASSES), learn_placeholder=config.learn_placeholder)
            layers.append(ObjectEncoder(d, label_dim=d) if label_features else table())
            layers += path(
                "object",
                dict.fromkeys(levels, "object"),
                out_key=TEXT_OBJ,
                self_attention=NO_UNI_OBJ not in ablate,
                gated_level=config.gated_level,
            )
            paths.append(TEXT_OBJ)
        layers += fused_tagging_scores(
            paths,
            d,
            len(labels),
            dropout=config.fusion_dropout if fusion_dropout is None else fusion_dropout,
            activation=[nn.ReLU()] if config.fusion_activation else [],
            output_projection=config.output_projection,
        )
        config.init_weights(layer for layer in layers[1:] if _starts_as_bert(layer))
        if config.bert_layers and config.output_projection:
            _init_output_projection(layers[-2], d)
        classes = None if label_features else COCO_CLASSES
        heads: list[Head] = [TaggingHead(CRF(labels.tags), labels, unit=config.token_unit)]
        if NO_ESD not in ablate:
            heads.append(SpanDetectionHead(labels, weight=span_weight))
        schema = Schema(relation for relation in SCHEMA if relation.key in relations_used(layers))
        node_types = [
            config.tokens(encoder.tokenizer, labels),
            Images(image_dim, grid=True),
            Objects(encoder.tokenizer, classes=classes, add_placeholder=True, max_objects=config.max_objects),
            NearestWordNodes(nearest_words),
        ]
        super().__init__(
            schema=schema,
            layers=layers,
            heads=heads,
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[node_type for node_type in node_types if node_type.name in schema.nodes],
            nearest_words=nearest_words,
        )

    @classmethod
    def nearest_words_options(cls, variant: VariantName | MGCMTVariant = "paper") -> dict[str, Any]:
        """Return the arguments of `NearestWords.from_file` that differ from its defaults in a variant.

        See ``exact_lookup`` of `MGCMTVariant`.
        """
        config = select_variant(variant, {"paper": PAPER, "released": RELEASED})
        return {"lower": False, "seed": 0} if config.exact_lookup else {}


def _starts_as_bert(layer: nn.Module) -> bool:
    """Return whether the released code initializes a layer as BERT's, see `MGCMTVariant`."""
    if isinstance(layer, TransformerLayer | CoAttention):
        to_image, to_tokens = ("token", "guides", "image"), ("image", "guides", "token")
        return relations_used([layer]) <= {TOKENS, to_image, to_tokens}
    return isinstance(layer, ImageEncoder | ObjectClasses | TaggingScores)


def _init_output_projection(layer: nn.Module, hidden_size: int) -> None:
    """Initialize the map before the scores in place, uniformly within 1 / sqrt(hidden size)."""
    for weight in layer.parameters():
        nn.init.uniform_(weight, -(hidden_size**-0.5), hidden_size**-0.5)
