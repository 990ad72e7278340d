"""GVATT: "Visual Attention Model for Name Tagging in Multimodal Social Media".

Lu, Neves, Carvalho, Zhang and Ji, ACL 2018. UMT calls it GVATT-HBiLSTM-CRF, and GVATT-BERT-CRF with BERT as
the sentence encoder (section 3.2): depending on the text encoder.

Graph: tokens, one sentence node, the image as a grid. The sentence attends to the grid's nodes, and the result
reaches every word of the sentence through gates. Without an image the result is zeros.

    q = LSTM(h_1, ..., h_n), the last state, of the words' states h              text query
    c = sum over regions j of alpha_j v_j                                        visual attention
        alpha_j = softmax_j w . tanh(W q + W v_j + b),  v_j = W u_j + b  of the grid's vectors u
    x_i = beta_w * h_i + beta_v * tanh(W h_i + W c + b)                          gates
        beta_w, beta_v = sigmoid(W h_i + W c + b) each
    a CRF over the x_i

The paper's text was not available, so equations have no numbers here; the model follows its descriptions. Chosen
by us: the query's LSTM, with 100 states, reads the words' states; the grid's vectors are projected to the words'
dimension first; query and region are added inside the tanh of the scores (added after it, the query's part is
the same for all regions and cancels in the softmax); 100 units in the scores; the sizes of HBiLSTM-CRF
(`mnergraph.models.text_only`), without its layer before the CRF; dropout of 0.5 over word vectors and 0.1 over a
pretrained encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import Context
from mnergraph.graph.edge_rules import Complete
from mnergraph.graph.node_types import Images, Tokens
from mnergraph.graph.schema import Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.conv.additive_attention import AdditiveAttention
from mnergraph.nn.encoders.characters import CharacterLSTM
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.encoders.word_vectors import word_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import Gate
from mnergraph.nn.layers.hetero import FeatureModule, RelationModule
from mnergraph.nn.layers.lstm import BroadcastToTokens, SentenceLSTM

TO_SENTENCE, TO_TOKENS = ("image", "guides", "sentence"), ("sentence", "broadcasts", "token")


SCHEMA = Schema([Relation(*TO_SENTENCE, Complete()), Relation(*TO_TOKENS, Complete())])

#: Name of the words' feature that holds c, the image as their sentence attends to it.
ATTENDED_IMAGE = "attended image"


class ModulationGate(nn.Module):
    """Sum of a word and the image, each through a gate of both.

    out = beta_w * h + beta_v * m,  m = tanh(W h + U c + b),  beta = sigmoid(W h + U c + b), two of them

    Args:
        hidden_size: of both.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.word, self.visual = Gate(hidden_size, bias=True), Gate(hidden_size, bias=True)
        self.both = nn.Linear(2 * hidden_size, hidden_size)

    def forward(self, h: Tensor, c: Tensor) -> Tensor:
        """``[words, hidden size]`` twice -> ``[words, hidden size]``."""
        m = torch.tanh(self.both(torch.cat([h, c], -1)))
        return self.word(h, c) * h + self.visual(h, c) * m


class GVATT(Tagger):
    """Visual attention by a text query, then gates (Lu et al., ACL 2018).

    Args:
        encoder: word vectors (GVATT-HBiLSTM-CRF) or a pretrained encoder (GVATT-BERT-CRF).
        labels: label set.
        image_dim: dimension of the image features (2048 for a ResNet-152).
        hidden_size: of the LSTM over words, for each direction.
        char_dim: dimension of a character's embedding.
        char_hidden_size: of the LSTM over characters, for each direction.
        query_size: of the LSTM whose last state is the query.
        attention_size: of the hidden layer that scores the regions.
        dropout: on the LSTM's input and on the words' states; by default 0.5, or 0.1 over a pretrained encoder.
        context: which texts about a post the encoder reads beside the sentence; None for none.
    """

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        hidden_size: int = 100,
        char_dim: int = 25,
        char_hidden_size: int = 25,
        query_size: int = 100,
        attention_size: int = 100,
        dropout: float | None = None,
        context: Context | None = None,
    ) -> None:
        characters = CharacterLSTM(char_dim, char_hidden_size)
        words, width = word_encoder(encoder, hidden_size, character_encoder=characters, dropout=dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *words,
                ImageEncoder(width, image_dim),
                SentenceLSTM(width, query_size),
                RelationModule(TO_SENTENCE, AdditiveAttention(width, attention_size, query_size=query_size)),
                BroadcastToTokens(out_key=ATTENDED_IMAGE),
                FeatureModule(ModulationGate(width), in_keys=("token", ATTENDED_IMAGE), out_key="token"),
                TaggingScores(TAGS, width, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters), Images(image_dim, grid=True)],
        )
