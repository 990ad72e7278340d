"""UMT: "Improving Multimodal Named Entity Recognition via Entity Span Detection with Unified Multimodal
Transformer".

Yu, Jiang, Yang and Xia, ACL 2020.

MT-BERT-CRF is the multimodal transformer of its sections 2.2 and 2.3, UMT without span detection; it is a row
of tables 2 and 3. UMT adds span detection as an auxiliary task, whose scores are converted to scores of tags.

Graph: tokens (words) and the image as a grid of image nodes (7x7 for the paper's ResNet-152). All tokens are
connected to one another, and every token to every image node in both directions. A post without an image has
no image nodes, so its tokens receive nothing from them.

Where the paper is silent we choose: words without [CLS] and [SEP]; a word is represented by its first piece;
dropout on the encoder's states, on attention weights and on residuals; ReLU in the feed-forward layers, which
are 4 times as wide as the nodes; a bias in the gate, as in all linear layers (footnote 1); W_c is learned. The
ResNet is not trained: image features are computed beforehand.

The released code (`RELEASED`) differs in these points: tokens are word pieces, [CLS] and [SEP] among them, with
tags of their own in both CRFs; the image features have two linear maps, one for each use; transformer layers
are BERT's (GELU, layer norm epsilon, initial weights); W_c is fixed; the tags' own scores and the converted
scores of spans count half each; a post is cut at 128 pieces. That code gives a post without an image the image of a
training post; here it has none. Its scorer counts an X that is predicted for a word as an entity, which is wrong;
here and in UMGF's it counts as outside, unless ``special_tags="entities"`` of
`mnergraph.training.evaluate.evaluate` (``mnergraph evaluate --special_tags entities``).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Images
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.ablations import check_ablations
from mnergraph.models.base import Tagger
from mnergraph.models.variants import Variant, VariantName, select_variant
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.tagging import (
    SPANS,
    TAGS,
    LabelTransfer,
    SpanDetectionHead,
    TaggingHead,
    TaggingScores,
    span_detection_scores,
)
from mnergraph.nn.heads.tagging import conversion_matrix as initial_conversion_matrix
from mnergraph.nn.layers.gates import VisualGate
from mnergraph.nn.layers.hetero import FeatureModule
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig

TOKENS = ("token", "attends", "token")
TO_TOKENS, TO_IMAGE = ("image", "guides", "token"), ("token", "guides", "image")
SCHEMA = Schema(Relation(*key, Complete()) for key in (TOKENS, TO_TOKENS, TO_IMAGE))

#: Names of features: A, B (and Q before the gate), and the image nodes as queries where they have their own map.
IMAGE_AWARE_WORDS, WORD_AWARE_IMAGE, QUERY_IMAGE = "image-aware words", "word-aware image", "query image"

#: The rows of table 3.
NO_SPAN_DETECTION, NO_CONVERSION, NO_IMAGE_AWARE_WORDS, NO_VISUAL_GATE = ABLATIONS = (
    "w/o ESD Module",
    "w/o Conversion Matrix",
    "w/o Image-Aware WR",
    "w/o Visual Gate",
)


@dataclass(frozen=True, kw_only=True)
class UMTVariant(Variant):
    """UMT as in the paper, by default, or as in the released code.

    Args:
        token_unit: see `Variant`.
        bert_layers: see `Variant`.
        max_pieces: see `Variant`.
        separate_image_maps: one linear map of the image features for each of their two uses.
        conversion_matrix: W_c, ``learned`` or ``fixed``.
        tag_weight: factor of the tags' own scores in eq. 7.
        span_score_weight: factor of the converted scores of spans in eq. 7.
    """

    separate_image_maps: bool = False
    conversion_matrix: Literal["learned", "fixed"] = "learned"
    tag_weight: float = 1.0
    span_score_weight: float = 1.0

    def __post_init__(self) -> None:
        if self.conversion_matrix not in ("learned", "fixed"):
            raise ValueError(f"conversion_matrix is learned or fixed, not {self.conversion_matrix!r}")


PAPER = UMTVariant()
RELEASED = UMTVariant(
    token_unit="pieces",
    bert_layers=True,
    max_pieces=128,
    separate_image_maps=True,
    conversion_matrix="fixed",
    tag_weight=0.5,
    span_score_weight=0.5,
)


class MTBERTCRF(Tagger):
    """Multimodal transformer (Yu et al., ACL 2020, section 2.3); with span detection it is `UMT`.

    Args:
        encoder: text encoder; all nodes have its hidden size, d.
        labels: label set.
        image_dim: dimension of the image features (2048 for a ResNet-152).
        num_heads: attention heads of every layer.
        intermediate_size: of the feed-forward layers; by default 4 times the hidden size.
        dropout: on the encoder's states, attention weights and residuals.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        num_heads: int = 12,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        transformers = TransformerConfig(encoder.hidden_size, num_heads, intermediate_size, dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[TextEncoder(encoder, dropout=dropout), *multimodal_layers(transformers, image_dim, labels)],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[Images(image_dim, grid=True)],
        )


def multimodal_layers(
    transformers: TransformerConfig,
    image_dim: int,
    labels: LabelSet,
    *,
    separate_image_maps: bool = False,
    ablate: Collection[str] = (),
) -> Iterator[nn.Module]:
    """Layers from the encoder's states C and the image features U to the tags' scores (section 2.3).

    Args:
        transformers: settings of the transformer layers.
        image_dim: dimension of the image features.
        labels: label set.
        separate_image_maps: one linear map of the image features for each of their two uses.
        ablate: those of `UMT`; without A, R takes its place; without the gate, B is Q.
    """
    width = transformers.hidden_size
    # V = W_u U
    yield ImageEncoder(width, image_dim)
    # R
    yield transformers.layer(TOKENS)
    # Q: tokens attend to the image
    yield transformers.layer(TO_TOKENS, out_key=WORD_AWARE_IMAGE)
    words = "token"
    if NO_IMAGE_AWARE_WORDS not in ablate:
        # eqs. 1-2, then A: the image attends to the tokens, and the tokens to the result
        words, image = IMAGE_AWARE_WORDS, "image"
        if separate_image_maps:
            image = QUERY_IMAGE
            yield ImageEncoder(width, image_dim, out_key=image)
        yield CoAttention(TO_IMAGE, TO_TOKENS, transformers, other_key=image, out_key=words)
    if NO_VISUAL_GATE not in ablate:
        # eq. 3, B
        gate = VisualGate(width, bias=True)
        yield FeatureModule(gate, in_keys=(words, WORD_AWARE_IMAGE), out_key=WORD_AWARE_IMAGE)
    # eq. 6: H = [A ; B]
    yield TaggingScores(TAGS, 2 * width, len(labels), in_keys=(words, WORD_AWARE_IMAGE))


class UMT(Tagger):
    """Unified multimodal transformer (Yu et al., ACL 2020). Without span detection it is `MTBERTCRF`.

    With ``ablate={"w/o ESD Module"}`` it computes what `MTBERTCRF` does, from parameters of the same names.

    Args:
        encoder: text encoder; all nodes have its hidden size, d.
        labels: label set; a variant over pieces adds the tags it needs.
        image_dim: dimension of the image features (2048 for a ResNet-152).
        variant: ``paper`` (equations 1 to 7), ``released`` (the authors' code), or a `UMTVariant`.
        ablate: rows of the paper's table 3, any of `UMT.ABLATIONS`.
        num_heads: attention heads of every layer.
        intermediate_size: of the feed-forward layers; by default 4 times the hidden size.
        dropout: on the encoder's states, attention weights and residuals.
        span_weight: weight of span detection in the loss, lambda.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    ABLATIONS: ClassVar[tuple[str, ...]] = ABLATIONS

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        variant: VariantName | UMTVariant = "paper",
        ablate: Collection[str] = (),
        num_heads: int = 12,
        intermediate_size: int | None = None,
        dropout: float = 0.1,
        span_weight: float = 0.5,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        config = select_variant(variant, {"paper": PAPER, "released": RELEASED})
        ablate = check_ablations(ablate, self.ABLATIONS)
        labels = config.label_set(labels)
        transformers = TransformerConfig(encoder.hidden_size, num_heads, intermediate_size, dropout)
        transformers = config.transformer_config(transformers)
        span_detection = NO_SPAN_DETECTION not in ablate
        # section 2.4: T = another transformer layer over C, and its scores
        layers = span_detection_scores(TOKENS, labels, transformers) if span_detection else []
        layers += multimodal_layers(
            transformers, image_dim, labels, separate_image_maps=config.separate_image_maps, ablate=ablate
        )
        if span_detection and NO_CONVERSION not in ablate:
            # eq. 7
            transfer = LabelTransfer(
                SPANS,
                TAGS,
                initial_conversion_matrix(labels),
                learned=config.conversion_matrix == "learned",
                target_weight=config.tag_weight,
                source_weight=config.span_score_weight,
            )
            layers.append(transfer)
        config.init_weights(layers)
        heads: list[Head] = [TaggingHead(CRF(labels.tags), labels, unit=config.token_unit)]
        if span_detection:
            heads.append(SpanDetectionHead(labels, weight=span_weight))
        super().__init__(
            schema=SCHEMA.without(TO_IMAGE) if NO_IMAGE_AWARE_WORDS in ablate else SCHEMA,
            layers=[TextEncoder(encoder, dropout=dropout), *layers],
            heads=heads,
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
            node_types=[config.tokens(encoder.tokenizer, labels), Images(image_dim, grid=True)],
        )
