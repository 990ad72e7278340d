"""Object-AGBAN: "Object-aware Multimodal Named Entity Recognition in Social Media Posts with Adversarial Learning".

Zheng, Wu, Wang, Cai and Li, IEEE Transactions on Multimedia, 2020. AGBAN is its adversarial gated bilinear attention
network.

Graph: tokens, and objects, at most three, each connected to every token; no other relations.

    x_i = BiLSTM([word vector ; BiLSTM over characters])                          words
    v_j = W relu(BN(W relu(BN(W r_j))))  of the objects' region vectors r_j       objects, 512, 256 and d wide
    u_i = sum over objects j of A_ij relu(W v_j)                                  bilinear attention
        A = softmax over all pairs (i, j) of the post of  (h * relu(U v_j)) . relu(W x_i)
    x_i <- x_i + sigmoid(W_x x_i + W_u u_i + b) * u_i                             gate; then the next glimpse
    a CRF over W BatchNorm(x_i)
    L = NLL + weight * L_D,  a classifier D of words x_i and objects v_j behind gradient reversal

The softmax is one for the whole post: a word that no object concerns receives almost nothing.

The paper's text was not available; this is the model according to notes on its authors' code. We differ in these
points. Every glimpse computes its attention from the words as the glimpse before left them (with one glimpse, the
default, there is no difference). A bias of the scores cancels in the softmax and is left out. The two maps of the gate
that follow one another are one. D's loss is the mean over a post's words plus that over its objects, for posts that
have objects, where the code weights the two classes by the inverse of their counts in the corpus; D reads both classes
together, so that its batch norm cannot remove what tells them apart, and its score is one number instead of two.
Dropout on the objects' hidden features in the attention is that of the words, 0.5 in both. Adam in the settings is our
choice; the code has plain gradient descent. Objects' labels can be features, too (`ObjectEncoder`); the paper has
regions alone. Over a pretrained encoder, which the paper does not have, its states take the place of the LSTM's.

Without objects A is empty, and the model is text. In training mode batch norm reads the statistics of the batch; see
`AddBatchNorm`, also for batches of one word or object.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.evidence_kinds import REGION_FEATURES
from mnergraph.graph.node_types import Objects, Tokens
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.conv.bilinear_attention import BilinearAttention
from mnergraph.nn.encoders.characters import CharacterLSTM
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.encoders.word_vectors import word_encoder
from mnergraph.nn.heads.base import Head
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.domain_adversary import DomainAdversaryHead
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.batch_norm import node_batch_norm
from mnergraph.nn.layers.gates import GatedAdd
from mnergraph.nn.layers.hetero import CopyFeatures, HeteroLayer, NodeTypeModule

TO_TOKENS = ("object", "guides", "token")
SCHEMA = Schema([Relation(*TO_TOKENS, Complete())])

#: Widths of the hidden layers of the objects' map.
OBJECT_SIZES = (512, 256)
#: Name of the words' features x_i before the attention, which D reads.
WORDS = "words"


class ObjectAGBAN(Tagger):
    """Adversarial gated bilinear attention of words and objects (Zheng et al., IEEE TMM 2020).

    Args:
        encoder: word vectors, as in the paper, or a pretrained encoder.
        labels: label set.
        region_dim: dimension of the objects' region vectors (1024 for the paper's Mask R-CNN); None without any.
        label_features: the labels' embeddings are features of the objects, too; the paper has regions alone.
        max_objects: how many objects of a post are kept, best first.
        hidden_size: of the LSTM, for each direction; all nodes have twice as many features, d.
        char_dim: dimension of a character's embedding.
        char_hidden_size: of the LSTM over characters, for each direction.
        num_glimpses: how often words attend to objects.
        adversary_weight: weight of D's loss; without D for 0.
        dropout: on the LSTM's input, on the words' states and on the objects' hidden features in the attention; by
            default 0.5, or 0.1 over a pretrained encoder.
        attention_dropout: on the inputs of the attention's maps.
        context: which texts about a post the encoder reads beside the sentence; None for none.
    """

    label_words: ClassVar[bool] = True

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        region_dim: int | None = None,
        label_features: bool = True,
        max_objects: int = 3,
        hidden_size: int = 100,
        char_dim: int = 30,
        char_hidden_size: int = 25,
        num_glimpses: int = 1,
        adversary_weight: float = 1.0,
        dropout: float | None = None,
        attention_dropout: float = 0.2,
        context: Context | None = None,
    ) -> None:
        characters = CharacterLSTM(char_dim, char_hidden_size)
        words, width = word_encoder(encoder, hidden_size, character_encoder=characters, dropout=dropout)
        if dropout is None:
            dropout = 0.5 if isinstance(encoder, WordVectors) else 0.1
        first, second = OBJECT_SIZES
        object_map = nn.Sequential(
            node_batch_norm(first),
            nn.ReLU(),
            nn.Linear(first, second, bias=False),
            node_batch_norm(second),
            nn.ReLU(),
            nn.Linear(second, width),
        )
        glimpses = [
            HeteroLayer(
                {TO_TOKENS: BilinearAttention(width, input_dropout=attention_dropout, dropout=dropout)},
                residual=partial(GatedAdd, width, bias=True),
            )
            for _ in range(num_glimpses)
        ]
        heads: list[Head] = [TaggingHead(CRF(labels.tags), labels)]
        if adversary_weight:
            heads.append(DomainAdversaryHead(width, in_keys=(WORDS, "object"), weight=adversary_weight))
        super().__init__(
            schema=SCHEMA,
            layers=[
                *words,
                CopyFeatures("token", WORDS),
                ObjectEncoder(first, region_dim=region_dim, label_dim=encoder.hidden_size if label_features else None),
                NodeTypeModule({"object": object_map}),
                *glimpses,
                NodeTypeModule({"token": node_batch_norm(width)}),
                TaggingScores(TAGS, width, len(labels)),
            ],
            heads=heads,
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[
                Tokens(encoder.tokenizer, labels, characters=encoder.characters),
                Objects(encoder.tokenizer, region_dim=region_dim, max_objects=max_objects),
            ],
            evidence=[REGION_FEATURES],
        )
