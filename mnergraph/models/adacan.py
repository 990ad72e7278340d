"""AdaCAN: "Adaptive Co-attention Network for Named Entity Recognition in Tweets".

Zhang, Fu, Liu and Huang, AAAI 2018. UMT calls it AdaCAN-CNN-BiLSTM-CRF, and AdaCAN-BERT-CRF with BERT as the
sentence encoder (section 3.2): the text encoder given to the model decides.

Graph: tokens, and the image as a grid; every grid node is connected to every token, every token to every token.
Without an image the visual attention is zeros; nothing else changes.

    v_j = tanh(W u_j + b)  of the grid's vectors u,  h_t the words' states
    c_t = sum over regions j of alpha_tj v_j                       word-guided visual attention
    d_t = sum over words i of beta_ti h_i                          image-guided textual attention, by c_t
    m_t = g * a + (1 - g) * b,  g = sigmoid(W [a ; b])             gated multimodal fusion of
        a = tanh(W c_t + b),  b = tanh(W d_t + b)
    u_t = s * tanh(W m_t + b),  s = sigmoid(W h_t + W m_t + b)     filtration gate
    a CRF over [h_t ; u_t]

The paper's text was not available, so no equation has a number here; this is the model according to notes on
it and its authors' code. We differ in the scores of both attentions. Theirs are a linear map of word and region
concatenated, w [tanh(W v_j) ; tanh(W h_t + b)]. The word's part is the same for all regions and cancels in the
softmax: all words would get the same result, and the parameters of that part would never be updated. Ours add
inside the tanh, w . tanh(W v_j + W h_t + b), so that words do guide. Also chosen by us: both gates act feature
by feature (their code has one number for each word), the filtration gate on a sum; the sizes of CNN-BiLSTM-CRF
(`mnergraph.models.text_only`), with windows of three characters where they have several lengths; 200 units in
the scores; dropout of 0.5 over word vectors and 0.1 over a pretrained encoder.
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
from mnergraph.nn.encoders.characters import CharacterCNN
from mnergraph.nn.encoders.visual import ImageEncoder
from mnergraph.nn.encoders.word_vectors import word_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import Gate, GatedMix
from mnergraph.nn.layers.hetero import FeatureModule, NodeTypeModule, RelationModule

TO_TOKENS, TOKENS = ("image", "shows", "token"), ("token", "attends", "token")


SCHEMA = Schema([Relation(*TO_TOKENS, Complete()), Relation(*TOKENS, Complete())])

#: Names of the words' features c, d and u.
VISUAL, TEXTUAL, FUSED = "visual attention", "textual attention", "fused"


class AdaptiveFusion(nn.Module):
    """Gated multimodal fusion, followed by the filtration gate.

    m = g * a + (1 - g) * b,  a = tanh(W c + b), b = tanh(W' d + b'),  g = sigmoid(W_g [a ; b])
    out = s * tanh(W" m + b"),  s = sigmoid(W_h h + W_m m + b)

    Args:
        hidden_size: of all.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.visual, self.textual, self.inner = (nn.Linear(hidden_size, hidden_size) for _ in range(3))
        self.fusion, self.filtration = GatedMix(hidden_size), Gate(hidden_size, bias=True)

    def forward(self, h: Tensor, visual: Tensor, textual: Tensor) -> Tensor:
        """Words, their visual and textual attention, ``[words, hidden size]`` each -> the same shape."""
        m = self.fusion(torch.tanh(self.visual(visual)), torch.tanh(self.textual(textual)))
        return self.filtration(h, m) * torch.tanh(self.inner(m))


class AdaCAN(Tagger):
    """Adaptive co-attention of words and image (Zhang et al., AAAI 2018).

    Args:
        encoder: word vectors (AdaCAN-CNN-BiLSTM-CRF) or a pretrained encoder (AdaCAN-BERT-CRF).
        labels: label set.
        image_dim: dimension of the image features (2048 for a ResNet-152, 512 for the paper's VGG-16).
        hidden_size: of the LSTM, for each direction.
        char_dim: dimension of a character's embedding.
        filters: of the convolution over characters.
        attention_size: of the hidden layers that score regions and words.
        dropout: on characters, on the LSTM's input and on the words' states; by default 0.5, or 0.1 over a
            pretrained encoder.
        context: which texts about a post the encoder reads beside the sentence; None for none.
    """

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        hidden_size: int = 200,
        char_dim: int = 30,
        filters: int = 30,
        attention_size: int = 200,
        dropout: float | None = None,
        context: Context | None = None,
    ) -> None:
        reader = CharacterCNN(char_dim, filters, dropout=0.5 if dropout is None else dropout)
        words, width = word_encoder(encoder, hidden_size, character_encoder=reader, dropout=dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *words,
                ImageEncoder(width, image_dim),
                NodeTypeModule({"image": nn.Tanh()}),
                RelationModule(TO_TOKENS, AdditiveAttention(width, attention_size), out_key=VISUAL),
                RelationModule(TOKENS, AdditiveAttention(width, attention_size), dst_key=VISUAL, out_key=TEXTUAL),
                FeatureModule(AdaptiveFusion(width), in_keys=("token", VISUAL, TEXTUAL), out_key=FUSED),
                TaggingScores(TAGS, 2 * width, len(labels), in_keys=("token", FUSED)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            context=context,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters), Images(image_dim, grid=True)],
        )
