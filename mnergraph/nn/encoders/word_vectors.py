"""The words' states: by LSTM over word vectors and spelling, or by a pretrained encoder."""

from __future__ import annotations

from torch import nn

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.features.text.word_embeddings import WordVectors
from mnergraph.nn.encoders.characters import CharacterCNN, CharacterEncoder, CharacterLSTM
from mnergraph.nn.encoders.pretrained import TextEncoder
from mnergraph.nn.layers.lstm import WordLSTM
from mnergraph.nn.state import GraphState


class WordEncoder(nn.Module):
    """Words by a table of word vectors.

    Where the batch holds objects' labels in pieces, their words get vectors of the same table.

    Args:
        encoder: the table and its vocabulary.

    Raises:
        ValueError: for an encoder of another kind.
    """

    def __init__(self, encoder: WordVectors) -> None:
        super().__init__()
        if not isinstance(encoder, WordVectors):
            raise ValueError(
                f"this model reads word vectors, which {encoder.name!r} does not give; right is random:WIDTH "
                "or a file of vectors (random_vectors, read_vectors)"
            )
        self.model = encoder.model

    def forward(self, graph: GraphState) -> GraphState:
        # a vocabulary gives each word one piece, so the pieces are the words
        found = graph.update(token=self.model(graph.data["piece"].input_ids))
        if "label_piece" not in graph.layouts:
            return found
        return found.update(label_piece=self.model(graph.data["label_piece"].input_ids))


def bilstm_encoder(
    encoder: WordVectors,
    hidden_size: int,
    *,
    character_encoder: CharacterCNN | CharacterLSTM | None = None,
    dropout: float = 0.0,
) -> list[nn.Module]:
    """Layers to the words' states: word vectors, each joined by its spelling if asked, and an LSTM over them.

    Args:
        encoder: the word vectors.
        hidden_size: of the states, of each direction; they are twice as wide.
        character_encoder: reads the words' characters; the model hands the encoder's to its builder.
        dropout: on what the LSTM reads and on its states.
    """
    table = WordEncoder(encoder)
    if character_encoder is None:
        return [table, WordLSTM(encoder.hidden_size, hidden_size, dropout=dropout)]
    spelling = CharacterEncoder(encoder.characters, character_encoder)
    read, width = ("token", "spelling"), encoder.hidden_size + spelling.output_size
    return [table, spelling, WordLSTM(width, hidden_size, in_keys=read, dropout=dropout)]


def word_encoder(
    encoder: TextEncoderModel | WordVectors,
    hidden_size: int,
    *,
    character_encoder: CharacterCNN | CharacterLSTM,
    dropout: float | None = None,
) -> tuple[list[nn.Module], int]:
    """Layers to the words' states and how wide these are: `bilstm_encoder`, or a pretrained encoder instead.

    Args:
        encoder: word vectors, or the pretrained encoder, which has no use for ``hidden`` and ``reader``.
        hidden_size: of the LSTM's states, of each direction.
        character_encoder: reads the words' characters for the LSTM.
        dropout: on what the LSTM reads and on the states; by default 0.5, or 0.1 over a pretrained encoder.
    """
    if isinstance(encoder, WordVectors):
        dropout = 0.5 if dropout is None else dropout
        return bilstm_encoder(
            encoder, hidden_size, character_encoder=character_encoder, dropout=dropout
        ), 2 * hidden_size
    return [TextEncoder(encoder, dropout=0.1 if dropout is None else dropout)], encoder.hidden_size
