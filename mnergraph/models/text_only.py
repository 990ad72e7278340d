"""The text baselines that the papers are measured against.

BERT: Devlin et al., 2019, a softmax per word. BERT-CRF: the same states read by a linear-chain CRF. Where
the papers are silent we choose: a word is its first piece, dropout 0.1 on its state.

Graph: tokens, nothing among them; the encoder has already let the words meet.

The text baselines over word vectors that the papers are measured against.

BiLSTM-CRF: Huang, Xu and Yu, 2015, "Bidirectional LSTM-CRF Models for Sequence Tagging", without hand-made
features, as UMT describes its baseline (section 3.2). CNN-BiLSTM-CRF: Ma and Hovy, ACL 2016, "End-to-end
Sequence Labeling via Bi-directional LSTM-CNNs-CRF". HBiLSTM-CRF: Lample et al., NAACL 2016, "Neural
Architectures for Named Entity Recognition", its LSTM-CRF.

Graph: tokens, nothing among them; the LSTM lets the words meet in their order. The latter two also read the
characters that are part of each.

What the papers say of it: characters read by a convolution and the maximum over its places (Ma and Hovy,
section 2.1), or by the last states of an LSTM in both directions (Lample et al., section 4.1); dropout on
characters, on what the words' LSTM reads and on its states (Ma and Hovy, section 3.2), or on what it reads
(Lample et al.); a hidden layer with tanh before the CRF in Lample et al. alone.

What we choose, where the papers are silent or each says something else:

- words are told apart in lower case with digits as 0, or as the file of vectors has them
  (`features.wordvectors.forms`); characters keep their case;
- words that no vector knows and the training posts hold but once share the unknown word's row (Lample et al.
  replace such words by it at random);
- the convolution sees three characters, with zeros around the word, and ends in a tanh;
- dropout of 0.5 on what the words' LSTM reads and on its states, for all three;
- forget gates begin open, other biases at 0;
- states of each direction: 200 for Huang et al. and for Ma and Hovy, 100 for Lample et al.

The papers train by plain gradient descent; here every model is trained by the same optimiser.
"""

from __future__ import annotations

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.node_types import Tokens
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.characters import CharacterCNN, CharacterLSTM
from mnergraph.nn.encoders.pretrained import Pooling, TextEncoder
from mnergraph.nn.encoders.word_vectors import bilstm_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.heads.tagging import TaggingHead, TaggingScores
from mnergraph.nn.layers.hetero import NodeTypeModule

SCHEMA = Schema()


class BERT(Tagger):
    """A text encoder and a softmax over every word's labels (Devlin et al., 2019).

    Args:
        encoder: the text encoder.
        labels: the label set.
        dropout: on the words' states.
        pooling: which of a word's pieces speak for it.
    """

    def __init__(
        self, encoder: TextEncoderModel, labels: LabelSet, *, dropout: float = 0.1, pooling: Pooling = "first"
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                TaggingScores("tags", encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(IndependentTags(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
        )


class BERTCRF(Tagger):
    """A text encoder and a linear-chain CRF over the words (the papers' BERT-CRF).

    Args:
        encoder: the text encoder.
        labels: the label set.
        dropout: on the words' states.
        pooling: which of a word's pieces speak for it.
        constrain: forbid transitions that BIO2 does not know.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        dropout: float = 0.1,
        pooling: Pooling = "first",
        constrain: bool = False,
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                TaggingScores("tags", encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags, constrain=constrain), labels)],
            encoder=encoder,
            labels=labels,
        )


class BiLSTMCRF(Tagger):
    """Word vectors, an LSTM in both directions and a linear-chain CRF (Huang et al., 2015).

    Args:
        encoder: the word vectors.
        labels: the label set.
        hidden: states of each direction.
        dropout: on what the LSTM reads and on its states.
    """

    def __init__(self, encoder: WordVectors, labels: LabelSet, *, hidden: int = 200, dropout: float = 0.5) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden, dropout=dropout),
                TaggingScores("tags", 2 * hidden, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
        )


class CNNBiLSTMCRF(Tagger):
    """BiLSTM-CRF whose word vectors are joined by a convolution over characters (Ma and Hovy, ACL 2016).

    Args:
        encoder: the word vectors.
        labels: the label set.
        hidden: states of each direction.
        char_dim: of a character's embedding.
        filters: of the convolution.
        dropout: on characters, on what the LSTM reads and on its states.
    """

    def __init__(
        self,
        encoder: WordVectors,
        labels: LabelSet,
        *,
        hidden: int = 200,
        char_dim: int = 30,
        filters: int = 30,
        dropout: float = 0.5,
    ) -> None:
        reader = CharacterCNN(char_dim, filters, dropout=dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden, character_encoder=reader, dropout=dropout),
                TaggingScores("tags", 2 * hidden, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters)],
        )


class HBiLSTMCRF(Tagger):
    """BiLSTM-CRF whose word vectors are joined by an LSTM's reading of characters (Lample et al., 2016).

    Args:
        encoder: the word vectors.
        labels: the label set.
        hidden: states of each direction, of the LSTM over words, and the width of the layer before the CRF.
        char_dim: of a character's embedding.
        char_hidden_size: states of each direction, of the LSTM over characters.
        dropout: on what the LSTM over words reads and on its states.
    """

    def __init__(
        self,
        encoder: WordVectors,
        labels: LabelSet,
        *,
        hidden: int = 100,
        char_dim: int = 25,
        char_hidden_size: int = 25,
        dropout: float = 0.5,
    ) -> None:
        reader = CharacterLSTM(char_dim, char_hidden_size)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden, character_encoder=reader, dropout=dropout),
                NodeTypeModule({"token": nn.Sequential(nn.Linear(2 * hidden, hidden), nn.Tanh())}),
                TaggingScores("tags", hidden, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters)],
        )
