"""UMT: "Improving Multimodal Named Entity Recognition via Entity Span Detection with Unified Multimodal
Transformer".

Yu, Jiang, Yang and Xia, ACL 2020.

Graph: tokens (words) and the picture as a grid of image nodes (7x7 for the paper's ResNet-152). Tokens all
meet, and every token meets every image node, in both directions. A post without a picture has no image nodes,
and its words hear nothing from them.

``paper`` computes equations 1 to 7. Where the paper is silent we choose: words without [CLS] and [SEP], a
word is its first piece; dropout on the encoder's states, on attention weights and on residuals; a ReLU in the
feed-forwards, 4 times as wide as the nodes; a bias in the gate, as everywhere (footnote 1); W_c is learned.
Without image-aware words their place is taken by R, without the visual gate B is Q.

``released`` computes what the authors' code does: pieces as tokens, [CLS] and [SEP] among them, with tags of
their own (`released_labels`), which both CRFs read; two linear maps of the picture, one for each use; BERT's
layers, with their GELU, norms and initial weights; W_c is fixed, and tags' scores and hint count half each.
That code gives a post without a picture the picture of another, a training post; here it has none.

Neither form trains its ResNet: the picture's vectors are computed beforehand.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from torch import nn

from mnergraph.features.backbone import Backbone
from mnergraph.graph import Complete, Relation, Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.models.released import BERT_LAYER, Form, bert_init, is_released, released_labels
from mnergraph.nn.blocks import ThereAndBack, TransformerBlock
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, TextEncoder
from mnergraph.nn.fusion import Apply
from mnergraph.nn.gates import VisualGate
from mnergraph.nn.heads import Emit, Hint, Task, span_detection
from mnergraph.nn.heads import conversion_matrix as initial_matrix

TOKENS = ("token", "attends", "token")
TO_TOKENS, TO_IMAGE = ("image", "guides", "token"), ("token", "guides", "image")

SCHEMA = Schema(Relation(*key, Complete()) for key in (TOKENS, TO_TOKENS, TO_IMAGE))


class UMT(Tagger):
    """Unified multimodal transformer (Yu et al., ACL 2020). Without span detection it is `MTBERTCRF`.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set; the released form adds the tags it needs.
        image_width: width of the picture's vectors (2048 for a ResNet-152).
        form: ``paper`` (equations 1 to 7) or ``released`` (what the authors' code computes).
        conversion_matrix: W_c, ``learned`` or ``fixed``, by default learned (paper) or fixed (released);
            ``none`` is the ablation: span detection is a side task alone.
        image_aware_words: whether there are any, A; an ablation.
        visual_gate: whether the word-aware picture passes it (eq. 3); an ablation.
        span_weight: of span detection in the loss, lambda.
        heads: of every attention.
        hidden: inside the feed-forwards; by default 4 times the width.
        dropout: of the encoder's states, attention weights and residuals.
    """

    def __init__(
        self,
        encoder: Backbone,
        labels: Labels,
        *,
        image_width: int = 2048,
        form: Form = "paper",
        conversion_matrix: Literal["learned", "fixed", "none"] | None = None,
        image_aware_words: bool = True,
        visual_gate: bool = True,
        span_weight: float = 0.5,
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        released = is_released(form)
        conversion_matrix = conversion_matrix or ("fixed" if released else "learned")
        if conversion_matrix not in ("learned", "fixed", "none"):
            raise ValueError(f"conversion_matrix is learned, fixed or none, not {conversion_matrix!r}")
        labels = released_labels(labels) if released else labels
        how = _how(encoder, heads, hidden, dropout) | (BERT_LAYER if released else {})
        layers = [
            # section 2.4: T = another transformer layer over C, and its scores
            TransformerBlock(TOKENS, **how, out="spans"),
            Emit("spans", encoder.width, len(labels.boundaries), read=("spans",)),
            *_multimodal(
                how,
                image_width,
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
            layers.append(Hint("spans", "tags", start, learned=learned, own=share, share=share))
        if released:
            for layer in layers:
                layer.apply(bert_init)
        super().__init__(
            schema=SCHEMA if image_aware_words else SCHEMA.without(TO_IMAGE),
            layers=[TextEncoder(encoder, dropout=dropout), *layers],
            tasks=[Task("tags", CRF(labels.tags)), span_detection(labels, span_weight)],
            encoder=encoder,
            labels=labels,
            tokens="pieces" if released else "words",
            image_width=image_width,
        )


class MTBERTCRF(Tagger):
    """Multimodal transformer: UMT without span detection (Yu et al., ACL 2020, section 2.3: MT-BERT-CRF).

    Args:
        encoder, labels, image_width, heads, hidden, dropout: as for `UMT`.
    """

    def __init__(
        self,
        encoder: Backbone,
        labels: Labels,
        *,
        image_width: int = 2048,
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        how = _how(encoder, heads, hidden, dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[TextEncoder(encoder, dropout=dropout), *_multimodal(how, image_width, labels)],
            tasks=[Task("tags", CRF(labels.tags))],
            encoder=encoder,
            labels=labels,
            image_width=image_width,
        )


def _how(encoder: Backbone, heads: int, hidden: int | None, dropout: float) -> dict[str, Any]:
    """What all transformer layers have in common."""
    return {"width": encoder.width, "heads": heads, "hidden": hidden, "dropout": dropout}


def _multimodal(
    how: dict[str, Any],
    image_width: int,
    labels: Labels,
    *,
    two_maps: bool = False,
    image_aware_words: bool = True,
    visual_gate: bool = True,
) -> Iterator[nn.Module]:
    """Section 2.3: from the encoder's words C and the picture's vectors U to the tags' scores."""
    width = how["width"]
    # V = W_u U
    yield ImageEncoder(width, image_width)
    # R
    yield TransformerBlock(TOKENS, **how)
    # Q: words query the picture
    yield TransformerBlock(TO_TOKENS, **how, out="visual")
    words = "token"
    if image_aware_words:
        # eqs. 1-2, then A: the picture queries the words, and the words what it heard
        words, picture = "aware", "image"
        if two_maps:
            picture = "querying image"
            yield ImageEncoder(width, image_width, out=picture)
        yield ThereAndBack(TO_IMAGE, TO_TOKENS, **how, other=picture, out=words)
    if visual_gate:
        # eq. 3, B
        yield Apply(VisualGate(width, bias=True), read=(words, "visual"), write="visual")
    # eq. 6: H = [A ; B]
    yield Emit("tags", 2 * width, len(labels), read=(words, "visual"))
