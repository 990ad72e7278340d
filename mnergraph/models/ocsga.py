"""OCSGA: "Multimodal Representation with Embedded Visual Guiding Objects for Named Entity Recognition in Social Media
Posts".

Wu, Zheng, Cai, Chen, Leung and Li, ACM MM 2020. OCSGA is its object-aware bidirectional LSTM with a dense co-attention
of self-attention and guided attention.

Graph: tokens, all connected to one another; objects, at most four, all connected to one another and each to every
token. An object is the name of its class alone ("person"), without a region or a box.

    x_i = BiLSTM([word vector ; BiLSTM over characters])                          words
    o_j = W LN(mean of the word vectors of the class name) + b                    objects
    X' = transformer layer over X,  O' = LN(O + MHA(O, O, O))                     self-attention
    V = LN(dropout(MHA(X', O', O'))),  V' = LN(dropout(FFN(V)))                   guided attention, without residuals
    a CRF over W BatchNorm(x_i + v'_i)

The words of the sum are those of the LSTM, X, not X': self-attention shapes the queries alone, and as the guided
attention has no residuals, what is added is purely visual.

The paper's text was not available; this is the model according to notes on its authors' code (which is based on
NCRF++), with one layer of co-attention. We differ where the code has oddities: a post without objects has V' = 0 and is
its text alone, where the code attends uniformly to padding; objects read the same table of word vectors as words, which
is trained, where theirs is frozen for objects; a class name of several words is their layer-normalized mean; the
vocabulary is that of the training posts, not of dev and test too. Dropout on attention weights, too, is our choice, as
is the Adam of the settings in the place of plain gradient descent. Over a pretrained encoder, which the paper does not
have, its states take the place of the LSTM's, and its input embeddings those of the word vectors.

In training mode batch norm reads the statistics of the batch; see `AddBatchNorm`, also for batches of one word.
"""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Objects, Tokens
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.conv.attention import RelationAttention
from mnergraph.nn.conv.attention_message import AttentionMessage
from mnergraph.nn.encoders.characters import CharacterLSTM
from mnergraph.nn.encoders.visual import ObjectEncoder
from mnergraph.nn.encoders.word_vectors import word_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.batch_norm import AddBatchNorm
from mnergraph.nn.layers.hetero import AddNorm, FeatureModule, HeteroLayer, RelationModule
from mnergraph.nn.layers.transformer import TransformerConfig

TOKENS, OBJECTS = ("token", "attends", "token"), ("object", "attends", "object")
TO_TOKENS = ("object", "guides", "token")
SCHEMA = Schema(Relation(*key, Complete()) for key in (TOKENS, OBJECTS, TO_TOKENS))

#: Names of the words' features X' and V'.
QUERIES, VISUAL = "queries", "visual"


class OCSGA(Tagger):
    """Co-attention of words and the class names of objects (Wu et al., ACM MM 2020).

    Args:
        encoder: word vectors, as in the paper, or a pretrained encoder.
        labels: label set.
        max_objects: how many objects of a post are kept, best first.
        hidden_size: of the LSTM, for each direction; all nodes have twice as many features.
        char_dim: dimension of a character's embedding.
        char_hidden_size: of the LSTM over characters, for each direction.
        num_heads: attention heads of every layer.
        intermediate_size: of the feed-forward layers; by default 4 times the nodes' features.
        dropout: on the LSTM's input and on the words' states; by default 0.5, or 0.1 over a pretrained encoder.
        attention_dropout: in the layers of self-attention and guided attention.
        context: which texts about a post the encoder reads beside the sentence; None for none.
    """

    label_words: ClassVar[bool] = True

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        max_objects: int = 4,
        hidden_size: int = 100,
        char_dim: int = 30,
        char_hidden_size: int = 25,
        num_heads: int = 2,
        intermediate_size: int | None = None,
        dropout: float | None = None,
        attention_dropout: float = 0.6,
        context: Context | None = None,
    ) -> None:
        characters = CharacterLSTM(char_dim, char_hidden_size)
        words, width = word_encoder(encoder, hidden_size, character_encoder=characters, dropout=dropout)
        transformers = TransformerConfig(width, num_heads, intermediate_size, attention_dropout)
        objects = RelationAttention(width, num_heads, dropout=attention_dropout)
        guided = AttentionMessage(width, num_heads, intermediate_size=intermediate_size, dropout=attention_dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *words,
                ObjectEncoder(width, label_dim=encoder.hidden_size),
                transformers.layer(TOKENS, out_key=QUERIES),
                HeteroLayer({OBJECTS: objects}, residual=partial(AddNorm, width, attention_dropout)),
                RelationModule(TO_TOKENS, guided, dst_key=QUERIES, out_key=VISUAL),
                FeatureModule(AddBatchNorm(width), in_keys=("token", VISUAL), out_key="token"),
                TaggingScores(TAGS, width, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[
                Tokens(encoder.tokenizer, labels, characters=encoder.characters),
                Objects(encoder.tokenizer, max_objects=max_objects),
            ],
        )
