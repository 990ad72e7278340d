"""Word encoders: word vectors with an LSTM over them and character features, or a pretrained encoder."""

from __future__ import annotations

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.graph.context import CONTEXT, CONTEXT_PIECE
from mnergraph.graph.node_types import LABEL_PIECE, PIECE
from mnergraph.nn.encoders.characters import CHARACTER_FEATURES, CharacterCNN, CharacterEncoder, CharacterLSTM
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.layers.lstm import WordLSTM
from mnergraph.nn.state import GraphState


class WordEncoder(nn.Module):
    """Features of tokens from a table of word vectors; also of context words and of those of objects' labels, if any.

    Args:
        encoder: the table and its vocabulary.

    Raises:
        ValueError: for a pretrained encoder.
    """

    def __init__(self, encoder: WordVectors) -> None:
        super().__init__()
        if not isinstance(encoder, WordVectors):
            raise ValueError(
                f"this model needs word vectors, and {encoder.name!r} is another text encoder; give random:WIDTH "
                "or a file of vectors (random_vectors, read_vectors)"
            )
        self.model = encoder.model

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with ``token`` features, ``[tokens, word vector size]``, and those of the others."""
        # a vocabulary makes one piece of each word, so that pieces are words
        graph = graph.update(token=self.model(graph.data[PIECE].input_ids))
        if CONTEXT_PIECE in graph.layouts:
            graph = graph.update(**{CONTEXT: self.model(graph.data[CONTEXT_PIECE].input_ids)})
        if LABEL_PIECE not in graph.layouts:
            return graph
        return graph.update(**{LABEL_PIECE: self.model(graph.data[LABEL_PIECE].input_ids)})


def bilstm_encoder(
    encoder: WordVectors,
    hidden_size: int,
    *,
    character_encoder: CharacterCNN | CharacterLSTM | None = None,
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Return layers from words to LSTM states: word vectors, with character features if asked for, and an LSTM.

    Args:
        encoder: the word vectors.
        hidden_size: features of a state, of each direction; token features are twice as many.
        character_encoder: computes character features, for which the model's `Tokens` need ``characters``; None for
            word vectors only.
        dropout: dropout rate of the LSTM's inputs and states.
    """
    table = WordEncoder(encoder)
    if character_encoder is None:
        return [table, WordLSTM(encoder.hidden_size, hidden_size, dropout=dropout)]
    characters = CharacterEncoder(encoder.characters, character_encoder)
    input_size = encoder.hidden_size + characters.output_size
    lstm = WordLSTM(input_size, hidden_size, in_keys=("token", CHARACTER_FEATURES), dropout=dropout)
    return [table, characters, lstm]


def word_encoder(
    encoder: TextEncoderModel | WordVectors,
    hidden_size: int,
    *,
    character_encoder: CharacterCNN | CharacterLSTM,
    dropout: float | None = None,
) -> tuple[list[nn.Module], int]:
    """Return layers from words to token features, and the number of features.

    Args:
        encoder: word vectors, for `bilstm_encoder`; or a pretrained encoder, for which the next two are not used.
        hidden_size: features of an LSTM state, of each direction.
        character_encoder: computes character features for the LSTM.
        dropout: dropout rate of the LSTM's inputs and states, by default 0.5; or of the pretrained encoder's states,
            by default 0.1.
    """
    if isinstance(encoder, WordVectors):
        dropout = 0.5 if dropout is None else dropout
        return bilstm_encoder(
            encoder, hidden_size, character_encoder=character_encoder, dropout=dropout
        ), 2 * hidden_size
    return [TextEncoder(encoder, dropout=0.1 if dropout is None else dropout)], encoder.hidden_size
