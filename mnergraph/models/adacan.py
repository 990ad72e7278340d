"""AdaCAN: "Adaptive Co-attention Network for Named Entity Recognition in Tweets".

Zhang, Fu, Liu and Huang, AAAI 2018. UMT calls it AdaCAN-CNN-BiLSTM-CRF, and AdaCAN-BERT-CRF with BERT as the
sentence encoder (section 3.2): the text encoder that is handed over decides.

Graph: tokens, and the image as a grid; every grid node reaches every token, every token every token. A post
without a picture sees zeros; nothing else changes for it.

    v_j = tanh(W u_j + b)  of the grid's vectors u,  h_t the words' states
    seen_t = sum over regions j of alpha_tj v_j                    word-guided visual attention
    told_t = sum over words i of beta_ti h_i                       image-guided textual attention, by seen_t
    m_t = g * a + (1 - g) * b,  g = sigmoid(W [a ; b])             gated multimodal fusion of
        a = tanh(W seen_t + b),  b = tanh(W told_t + b)
    u_t = s * tanh(W m_t + b),  s = sigmoid(W h_t + W m_t + b)     filtration gate
    a CRF over [h_t ; u_t]

The paper's text was not at hand, so no equation has a number here; this is the model as notes on it and its
authors' code tell it. We differ in the scores of both attentions. Theirs take a linear map of word and
region laid one behind the other, w [tanh(W v_j) ; tanh(W h_t + b)]. The word's part is the same for all
regions and leaves the softmax: every word would see the same, and what makes that part would never learn.
Ours add inside the tanh, w . tanh(W v_j + W h_t + b), so that words do guide. Also chosen by us: both gates
act feature by feature (their code has one number per word), the filtration gate on a sum; the widths of
CNN-BiLSTM-CRF (`models.lstm`), with windows of three characters where they have several lengths; 200 units
that score; dropout of 0.5 over word vectors and 0.1 over a pretrained encoder.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
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
from mnergraph.nn.heads.tagging import TaggingHead, TaggingScores
from mnergraph.nn.layers.gates import Gate, GatedMix
from mnergraph.nn.layers.hetero import FeatureModule, NodeTypeModule, RelationModule

TO_TOKENS, TOKENS = ("image", "shows", "token"), ("token", "attends", "token")


SCHEMA = Schema([Relation(*TO_TOKENS, Complete()), Relation(*TOKENS, Complete())])


class AdaptiveFusion(nn.Module):
    """Gated multimodal fusion, and the filtration gate behind it.

    m = g * a + (1 - g) * b,  a = tanh(W seen + b), b = tanh(W' told + b'),  g = sigmoid(W_g [a ; b])
    out = s * tanh(W" m + b"),  s = sigmoid(W_h h + W_m m + b)

    Args:
        width: of all.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.seen, self.told, self.inner = (nn.Linear(width, width) for _ in range(3))
        self.fusion, self.filtration = GatedMix(width), Gate(width, bias=True)

    def forward(self, h: Tensor, seen: Tensor, told: Tensor) -> Tensor:
        """The words, what each saw and what it was told, ``[words, width]`` each -> ``[words, width]``."""
        m = self.fusion(torch.tanh(self.seen(seen)), torch.tanh(self.told(told)))
        return self.filtration(h, m) * torch.tanh(self.inner(m))


class AdaCAN(Tagger):
    """Adaptive co-attention of words and picture (Zhang et al., AAAI 2018).

    Args:
        encoder: word vectors (AdaCAN-CNN-BiLSTM-CRF) or a pretrained encoder (AdaCAN-BERT-CRF).
        labels: the label set.
        image_dim: of the grid's vectors; 2048 for a ResNet-152, 512 for the paper's VGG-16.
        hidden: states of each direction, of the LSTM.
        char_dim: of a character's embedding.
        filters: of the convolution over characters.
        attention: units of the layers that score regions and words.
        dropout: on characters, on what the LSTM reads and on the words' states; by default 0.5, or 0.1 over a
            pretrained encoder.
    """

    def __init__(
        self,
        encoder: TextEncoderModel | WordVectors,
        labels: LabelSet,
        *,
        image_dim: int = 2048,
        hidden: int = 200,
        char_dim: int = 30,
        filters: int = 30,
        attention: int = 200,
        dropout: float | None = None,
    ) -> None:
        reader = CharacterCNN(char_dim, filters, dropout=0.5 if dropout is None else dropout)
        words, width = word_encoder(encoder, hidden, character_encoder=reader, dropout=dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *words,
                ImageEncoder(width, image_dim),
                NodeTypeModule({"image": nn.Tanh()}),
                RelationModule(TO_TOKENS, AdditiveAttention(width, attention), out_key="seen"),
                RelationModule(TOKENS, AdditiveAttention(width, attention), dst_key="seen", out_key="told"),
                FeatureModule(AdaptiveFusion(width), in_keys=("token", "seen", "told"), out_key="filtered"),
                TaggingScores("tags", 2 * width, len(labels), in_keys=("token", "filtered")),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters), Images(image_dim)],
        )
