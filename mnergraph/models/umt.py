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
"""

from __future__ import annotations

from typing import Literal

from mnergraph.features.backbone import Backbone
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.models.mtbert import SCHEMA, TO_IMAGE, TOKENS, multimodal
from mnergraph.models.released import Form, as_bert, begin_as_bert, is_released, released_labels
from mnergraph.nn.blocks import Transformers
from mnergraph.nn.crf import CRF
from mnergraph.nn.heads import Hint, Task
from mnergraph.nn.heads import conversion_matrix as initial_matrix
from mnergraph.nn.spans import span_scores, span_task
from mnergraph.nn.text import TextEncoder


class UMT(Tagger):
    """Unified multimodal transformer (Yu et al., ACL 2020). Without span detection it is `MTBERTCRF`.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set; the released form adds the tags it needs.
        image_width: width of the picture's vectors (2048 for a ResNet-152).
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
        encoder: Backbone,
        labels: Labels,
        *,
        image_width: int = 2048,
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
        transformers = Transformers(encoder.width, heads, hidden, dropout)
        transformers = as_bert(transformers) if released else transformers
        layers = [
            # section 2.4: T = another transformer layer over C, and its scores
            *span_scores(TOKENS, labels, transformers),
            *multimodal(
                transformers,
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
            begin_as_bert(layers)
        super().__init__(
            schema=SCHEMA if image_aware_words else SCHEMA.without(TO_IMAGE),
            layers=[TextEncoder(encoder, dropout=dropout), *layers],
            tasks=[Task("tags", CRF(labels.tags)), span_task(labels, span_weight)],
            encoder=encoder,
            labels=labels,
            tokens="pieces" if released else "words",
            image_width=image_width,
        )
