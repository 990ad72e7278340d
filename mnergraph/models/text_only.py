"""The papers' text baselines, over a pretrained encoder or over word vectors.

Graph: tokens without edges; the encoder contextualizes them.

Over a pretrained encoder. BERT: Devlin et al., 2019, a softmax for each word. BERT-CRF: the same states and a
linear-chain CRF. Where the papers are silent we choose: a word is represented by its first piece, dropout 0.1
on its state.

Over word vectors. BiLSTM-CRF: Huang, Xu and Yu, 2015, "Bidirectional LSTM-CRF Models for Sequence Tagging",
without hand-made features, as UMT describes its baseline (section 3.2). CNN-BiLSTM-CRF: Ma and Hovy, ACL 2016,
"End-to-end Sequence Labeling via Bi-directional LSTM-CNNs-CRF". HBiLSTM-CRF: Lample et al., NAACL 2016, "Neural
Architectures for Named Entity Recognition", its LSTM-CRF.

The papers specify: characters encoded by a convolution and max pooling (Ma and Hovy, section 2.1), or by the
last states of a bidirectional LSTM (Lample et al., section 4.1); dropout on characters, on the input of the
words' LSTM and on its states (Ma and Hovy, section 3.2), or on its input (Lample et al.); a hidden layer with
tanh before the CRF in Lample et al. alone.

Where the papers are silent or disagree we choose:

- words are looked up in lower case with digits as 0, or as the file of vectors has them
  (`mnergraph.features.text.word_embeddings`); characters keep their case;
- words without a vector that occur once in the training posts share the unknown word's row (Lample et al.
  replace such words by it at random);
- the convolution has a window of three characters, with zeros around the word, and ends in a tanh;
- dropout of 0.5 on the input of the words' LSTM and on its states, for all three;
- forget gates are initialized open, other biases at 0;
- states of each direction: 200 for Huang et al. and for Ma and Hovy, 100 for Lample et al.

The papers train by plain gradient descent; here every model is trained by the same optimizer.
"""

from __future__ import annotations

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import Context
from mnergraph.graph.node_types import Tokens
from mnergraph.graph.schema import Schema
from mnergraph.labels import LabelSet
from mnergraph.models.base import Tagger
from mnergraph.nn.encoders.characters import CharacterCNN, CharacterLSTM
from mnergraph.nn.encoders.pretrained import Pooling, TextEncoder
from mnergraph.nn.encoders.word_vectors import bilstm_encoder
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.grounding import Grounding
from mnergraph.nn.heads.independent import IndependentTags
from mnergraph.nn.heads.tagging import TAGS, TaggingHead, TaggingScores
from mnergraph.nn.layers.hetero import NodeTypeModule

SCHEMA = Schema()


class BERT(Tagger):
    """A text encoder and a softmax over every word's labels (Devlin et al., 2019).

    Args:
        encoder: text encoder.
        labels: label set.
        dropout: on the words' states.
        pooling: of a word's pieces.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        dropout: float = 0.1,
        pooling: Pooling = "first",
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                TaggingScores(TAGS, encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(IndependentTags(labels.tags), labels)],
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
        )


class BERTCRF(Tagger):
    """A text encoder and a linear-chain CRF over the words (the papers' BERT-CRF).

    Args:
        encoder: text encoder.
        labels: label set.
        dropout: on the words' states.
        pooling: of a word's pieces.
        constrain: forbid transitions that are invalid in BIO2.
        context: which texts about a post the encoder reads beside the sentence; None for none.
        grounding: how entities are grounded in the image; None where they are not.
    """

    def __init__(
        self,
        encoder: TextEncoderModel,
        labels: LabelSet,
        *,
        dropout: float = 0.1,
        pooling: Pooling = "first",
        constrain: bool = False,
        context: Context | None = None,
        grounding: Grounding | None = None,
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                TaggingScores(TAGS, encoder.hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags, constrain=constrain), labels)],
            encoder=encoder,
            context=context,
            grounding=grounding,
            labels=labels,
        )


class BiLSTMCRF(Tagger):
    """Word vectors, a bidirectional LSTM and a linear-chain CRF (Huang et al., 2015).

    Args:
        encoder: word vectors.
        labels: label set.
        hidden_size: of the LSTM, for each direction.
        dropout: on the LSTM's input and on its states.
    """

    def __init__(self, encoder: WordVectors, labels: LabelSet, *, hidden_size: int = 200, dropout: float = 0.5) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden_size, dropout=dropout),
                TaggingScores(TAGS, 2 * hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
        )


class CNNBiLSTMCRF(Tagger):
    """BiLSTM-CRF over word vectors and a convolution over characters (Ma and Hovy, ACL 2016).

    Args:
        encoder: word vectors.
        labels: label set.
        hidden_size: of the LSTM, for each direction.
        char_dim: dimension of a character's embedding.
        filters: of the convolution.
        dropout: on characters, on the LSTM's input and on its states.
    """

    def __init__(
        self,
        encoder: WordVectors,
        labels: LabelSet,
        *,
        hidden_size: int = 200,
        char_dim: int = 30,
        filters: int = 30,
        dropout: float = 0.5,
    ) -> None:
        reader = CharacterCNN(char_dim, filters, dropout=dropout)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden_size, character_encoder=reader, dropout=dropout),
                TaggingScores(TAGS, 2 * hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters)],
        )


class HBiLSTMCRF(Tagger):
    """BiLSTM-CRF over word vectors and an LSTM over characters (Lample et al., 2016).

    Args:
        encoder: word vectors.
        labels: label set.
        hidden_size: of the LSTM over words, for each direction, and of the layer before the CRF.
        char_dim: dimension of a character's embedding.
        char_hidden_size: of the LSTM over characters, for each direction.
        dropout: on the input of the LSTM over words and on its states.
    """

    def __init__(
        self,
        encoder: WordVectors,
        labels: LabelSet,
        *,
        hidden_size: int = 100,
        char_dim: int = 25,
        char_hidden_size: int = 25,
        dropout: float = 0.5,
    ) -> None:
        reader = CharacterLSTM(char_dim, char_hidden_size)
        super().__init__(
            schema=SCHEMA,
            layers=[
                *bilstm_encoder(encoder, hidden_size, character_encoder=reader, dropout=dropout),
                NodeTypeModule({"token": nn.Sequential(nn.Linear(2 * hidden_size, hidden_size), nn.Tanh())}),
                TaggingScores(TAGS, hidden_size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[Tokens(encoder.tokenizer, labels, characters=encoder.characters)],
        )
