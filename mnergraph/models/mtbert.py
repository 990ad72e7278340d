"""MT-BERT-CRF: the multimodal transformer, which is UMT without span detection.

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

from torch import nn

from mnergraph.features.backbone import Backbone
from mnergraph.graph import Complete, Relation, Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.nn.blocks import ThereAndBack, Transformers
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder
from mnergraph.nn.fusion import Apply
from mnergraph.nn.gates import VisualGate
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.text import TextEncoder

TOKENS = ("token", "attends", "token")
TO_TOKENS, TO_IMAGE = ("image", "guides", "token"), ("token", "guides", "image")

SCHEMA = Schema(Relation(*key, Complete()) for key in (TOKENS, TO_TOKENS, TO_IMAGE))


class MTBERTCRF(Tagger):
    """Multimodal transformer (Yu et al., ACL 2020, section 2.3); with span detection it is `UMT`.

    Args:
        encoder: the text encoder; every node is as wide as its states, d.
        labels: the label set.
        image_width: of the picture's vectors (2048 for a ResNet-152).
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
        heads: int = 12,
        hidden: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        transformers = Transformers(encoder.width, heads, hidden, dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[TextEncoder(encoder, dropout=dropout), *multimodal(transformers, image_width, labels)],
            tasks=[Task("tags", CRF(labels.tags))],
            encoder=encoder,
            labels=labels,
            image_width=image_width,
        )


def multimodal(
    transformers: Transformers,
    image_width: int,
    labels: Labels,
    *,
    two_maps: bool = False,
    image_aware_words: bool = True,
    visual_gate: bool = True,
) -> Iterator[nn.Module]:
    """Section 2.3: from the encoder's words C and the picture's vectors U to the tags' scores.

    Args:
        transformers: makes the layers.
        image_width: width of the picture's vectors.
        labels: the label set.
        two_maps: whether the picture has a linear map for each of its two uses (UMT's released code).
        image_aware_words: whether there are any, A; without, R takes their place.
        visual_gate: whether Q passes it; without, B is Q.
    """
    width = transformers.width
    # V = W_u U
    yield ImageEncoder(width, image_width)
    # R
    yield transformers.block(TOKENS)
    # Q: words query the picture
    yield transformers.block(TO_TOKENS, out="visual")
    words = "token"
    if image_aware_words:
        # eqs. 1-2, then A: the picture queries the words, and the words what it heard
        words, picture = "aware", "image"
        if two_maps:
            picture = "querying image"
            yield ImageEncoder(width, image_width, out=picture)
        yield ThereAndBack(TO_IMAGE, TO_TOKENS, transformers, other=picture, out=words)
    if visual_gate:
        # eq. 3, B
        yield Apply(VisualGate(width, bias=True), read=(words, "visual"), write="visual")
    # eq. 6: H = [A ; B]
    yield Emit("tags", 2 * width, len(labels), read=(words, "visual"))
