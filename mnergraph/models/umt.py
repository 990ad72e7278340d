"""UMT: "Improving Multimodal Named Entity Recognition via Entity Span Detection with Unified Multimodal
Transformer".

Yu, Jiang, Yang and Xia, ACL 2020.

Graph: that of MT-BERT-CRF (`mtbert`), whose layers and choices these are; span detection beside them finds
where entities begin and end, and hints at their types.

``paper`` computes equations 1 to 7. Where the paper is silent we choose: W_c is learned.

``released`` computes what the authors' code does: pieces as tokens, [CLS] and [SEP] among them, with tags of
their own (`released_labels`), which both CRFs read; two linear maps of the picture, one for each use; BERT's
layers, with their GELU, norms and initial weights; W_c is fixed, and tags' scores and hint count half each.
That code gives a post without a picture the picture of another, a training post; here it has none.

MT-BERT-CRF: the multimodal transformer, which is UMT without span detection.

Yu, Jiang, Yang and Xia, ACL 2020, sections 2.2 and 2.3; a row of its tables 2 and 3.

Graph: tokens (words) and the picture as a grid of image nodes (7x7 for the paper's ResNet-152). Tokens all
meet, and every token meets every image node, in both directions. A post without a picture has no image nodes,
and its words hear nothing from them.

Where the paper is silent we choose: words without [CLS] and [SEP], a word is its first piece; dropout on the
encoder's states, on attention weights and on residuals; a ReLU in the feed-forwards, 4 times as wide as the
nodes; a bias in the gate, as everywhere (footnote 1). The ResNet is not trained: the picture's vectors are
computed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Images, Tokens, Unit
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.models.variants import Form, as_bert, begin_as_bert, is_released, released_labels
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import (
    LabelTransfer,
    SpanDetectionHead,
    TaggingHead,
    TaggingScores,
    span_detection_scores,
)
from mnergraph.nn.heads.tagging import conversion_matrix as initial_matrix
from mnergraph.nn.layers.gates import VisualGate
from mnergraph.nn.layers.hetero import FeatureModule
from mnergraph.nn.layers.transformer import CoAttention, TransformerConfig

TOKENS = ("token", "attends", "token")


TO_TOKENS, TO_IMAGE = ("image", "guides", "token"), ("token", "guides", "image")


SCHEMA = Schema(Relation(*key, Complete()) for key in (TOKENS, TO_TOKENS, TO_IMAGE))


class MTBERTCRF(Tagger):
    """Multimodal transformer (Yu et al., ACL 2020, section 2.3); with span detection it is `UMT`.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set.
        image_dim: of the picture's vectors (2048 for a ResNet-152).
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width.
        dropout: of the encoder's states, attention weights and residuals.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        transformers = TransformerConfig(encoder.hidden_size, heads, hidden, dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[TextEncoder(encoder, dropout=dropout), *multimodal(transformers, image_dim, labels)],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Images(image_dim)],
        )


def multimodal(
    transformers: TransformerConfig,
    image_dim: int,
    labels: LabelSet,
    *,
    two_maps: bool = False,
    image_aware_words: bool = True,
    visual_gate: bool = True,
) -> Iterator[nn.Module]:
    """Section 2.3: from the encoder's words C and the picture's vectors U to the tags' scores.

    Args:
        transformers: makes the layers.
        image_dim: width of the picture's vectors.
        labels: the label set.
        two_maps: whether the picture has a linear map for each of its two uses (UMT's released code).
        image_aware_words: whether there are any, A; without, R takes their place.
        visual_gate: whether Q passes it; without, B is Q.
    """
    width = transformers.hidden_size
    # V = W_u U
    yield ImageEncoder(width, image_dim)
    # R
    yield transformers.layer(TOKENS)
    # Q: words query the picture
    yield transformers.layer(TO_TOKENS, out_key="visual")
    words = "token"
    if image_aware_words:
        # eqs. 1-2, then A: the picture queries the words, and the words what it heard
        words, picture = "aware", "image"
        if two_maps:
            picture = "querying image"
            yield ImageEncoder(width, image_dim, out_key=picture)
        yield CoAttention(TO_IMAGE, TO_TOKENS, transformers, other_key=picture, out_key=words)
    if visual_gate:
        # eq. 3, B
        yield FeatureModule(VisualGate(width, bias=True), in_keys=(words, "visual"), out_key="visual")
    # eq. 6: H = [A ; B]
    yield TaggingScores("tags", 2 * width, len(labels), in_keys=(words, "visual"))


class UMT(Tagger):
    """Unified multimodal transformer (Yu et al., ACL 2020). Without span detection it is `MTBERTCRF`.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set; the released form adds the tags it needs.
        image_dim: width of the picture's vectors (2048 for a ResNet-152).
        form: ``paper`` (equations 1 to 7) or ``released`` (what the authors' code computes).
        conversion_matrix: W_c, ``learned`` or ``fixed``, by default learned (paper) or fixed (released);
            ``none`` is the ablation: span detection is a side task alone.
        image_aware_words: whether there are any, A; an ablation: R takes their place.
        visual_gate: whether the word-aware picture passes it (eq. 3); an ablation: B is Q.
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width.
        dropout: of the encoder's states, attention weights and residuals.
        span_weight: of span detection in the loss, lambda.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        form: Form = "paper",
        conversion_matrix: Literal["learned", "fixed", "none"] | None = None,
        image_aware_words: bool = True,
        visual_gate: bool = True,
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
        span_weight: float = 0.5,
    ) -> None:
        released = is_released(form)
        conversion_matrix = conversion_matrix or ("fixed" if released else "learned")
        if conversion_matrix not in ("learned", "fixed", "none"):
            raise ValueError(f"conversion_matrix is learned, fixed or none, not {conversion_matrix!r}")
        labels = released_labels(labels) if released else labels
        transformers = TransformerConfig(encoder.hidden_size, heads, hidden, dropout)
        transformers = as_bert(transformers) if released else transformers
        layers = [
            # section 2.4: T = another transformer layer over C, and its scores
            *span_detection_scores(TOKENS, labels, transformers),
            *multimodal(
                transformers,
                image_dim,
                labels,
                two_maps=released,
                image_aware_words=image_aware_words,
                visual_gate=visual_gate,
            ),
        ]
        if conversion_matrix != "none":
            # eq. 7
            learned, share = conversion_matrix == "learned", 0.5 if released else 1.0
            start = initial_matrix(labels)
            layers.append(
                LabelTransfer("spans", "tags", start, learned=learned, target_weight=share, source_weight=share)
            )
        if released:
            begin_as_bert(layers)
        unit: Unit = "pieces" if released else "words"
        super().__init__(
            schema=SCHEMA if image_aware_words else SCHEMA.without(TO_IMAGE),
            layers=[TextEncoder(encoder, dropout=dropout), *layers],
            heads=[TaggingHead(CRF(labels.tags), labels, unit=unit), SpanDetectionHead(labels, weight=span_weight)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, unit=unit), Images(image_dim)],
        )
