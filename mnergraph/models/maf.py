"""MAF: "MAF: A General Matching and Alignment Framework for Multimodal Named Entity Recognition".

Xu, Huang, Sha and Wang, WSDM 2022.

Graph: tokens (words), the image as a grid (7x7 for the paper's ResNet-152), and the sentence ([CLS]); every grid node
is connected to every token. Sentence and grid, one vector each, are what the alignment compares.

    T = dropout of the encoder's states,  V = W of the grid's vectors
    A = transformer layer with T as queries and V as keys and values
    p = sigmoid(w . mean over the words of [T_i ; A_i] + b),  A' = p A            cross-modal matching
    H_i = [T_i ; g_i * A'_i],  g_i = sigmoid(W_t T_i + W_v A'_i + b)              cross-modal fusion
    a CRF over W H
    L = tag_weight * NLL + match_weight * L_CM + contrast_weight * L_CA
        L_CM: cross entropy of p, 1 with the post's own A and 0 with another post's
        L_CA: InfoNCE of the sentence and the mean of the grid, both through a layer with ReLU    cross-modal alignment

The paper's text was not available; this is the model according to notes on its authors' code, a fork of UMT's, with
the weights of the losses lambda for the tags and 1 - lambda for each of the others. We differ where the code has
oddities. The matching score is a linear map of the mean over a post's words; the code flattens 128 positions, padding
included, so that its score depends on positions. The code exchanges the A of 16 posts of a batch of 64, which then pay
the tags' loss with the wrong image; here every post with an image has, in training mode, a negative beside its own A,
which neither tags nor gate read, so that a batch of two suffices. The negative is the mean A of the next post: A is
computed by that post's words, as in the code. Tokens are words, represented by their first piece, without the tags of
special pieces; in the code they are pieces, as in UMT's. The sentence is the encoder's state of [CLS], without BERT's
pooler, whose weights its next-sentence task has trained. The layers have PyTorch's initial weights, ReLU, and 4 times
the nodes' width in the feed-forward layer.

A post without an image has p = 0, so that A' is 0, and no loss of matching and alignment. Both of these losses compare
the posts of a batch and are computed in training mode alone; a batch with one image has neither.
"""

from __future__ import annotations

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Images
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.encoders.stored import StoredFeatures
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.heads.contrast import ContrastHead
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.matching import MatchingHead
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import VisualGate
from mnergraph.nn.layers.hetero import FeatureModule
from mnergraph.nn.layers.post_gate import ExchangeMessages, PostGate
from mnergraph.nn.layers.transformer import TransformerConfig

TO_TOKENS = ("image", "guides", "token")
SCHEMA = Schema([Relation(*TO_TOKENS, Complete())], nodes=["sentence"])

#: Name of the matching task and of its scores, ``[posts]``.
MATCH = "match"
#: Names of the words' features A, A of another post, A' and g * A', and of the grid's vectors as they are stored.
MESSAGE, EXCHANGED, MATCHED, FUSED, GRID = "message", "exchanged message", "matched message", "fused", "grid"


class MAF(Tagger):
    """Matching and alignment of text and image (Xu et al., WSDM 2022).

    Args:
        encoder: text encoder; all nodes have its hidden size, d.
        labels: label set.
        image_dim: dimension of the image features (2048 for a ResNet-152).
        num_heads: attention heads.
        intermediate_size: of the feed-forward layer; by default 4 times the hidden size.
        dropout: on the encoder's states, attention weights and residuals.
        tag_weight: weight of the tags in the loss, lambda.
        match_weight: weight of the matching.
        contrast_weight: weight of the alignment.
        temperature: of the alignment, tau.
        balance: share of the contrast of a sentence with all images in the alignment, lambda_c.
        context: which texts about a post the encoder reads beside the sentence; None for none.
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
        tag_weight: float = 0.62,
        match_weight: float = 0.38,
        contrast_weight: float = 0.38,
        temperature: float = 0.179,
        balance: float = 0.7,
        context: Context | None = None,
    ) -> None:
        width = encoder.hidden_size
        transformers = TransformerConfig(width, num_heads, intermediate_size, dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, dropout=dropout, sentence=True),
                ImageEncoder(width, image_dim),
                StoredFeatures("image", out_key=GRID),
                transformers.layer(TO_TOKENS, out_key=MESSAGE),
                ExchangeMessages(source="image", in_key=MESSAGE, out_key=EXCHANGED),
                PostGate(
                    width,
                    source="image",
                    task=MATCH,
                    in_keys=("token", MESSAGE),
                    out_key=MATCHED,
                    exchanged_key=EXCHANGED,
                ),
                FeatureModule(VisualGate(width, bias=True), in_keys=("token", MATCHED), out_key=FUSED),
                TaggingScores(TAGS, 2 * width, len(labels), in_keys=("token", FUSED)),
            ],
            heads=[
                TaggingHead(CRF(labels.tags), labels, weight=tag_weight),
                MatchingHead(source="image", name=MATCH, weight=match_weight),
                ContrastHead(
                    width,
                    image_dim,
                    width,
                    in_keys=("sentence", GRID),
                    weight=contrast_weight,
                    temperature=temperature,
                    balance=balance,
                ),
            ],
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[Images(image_dim, grid=True)],
        )
