"""The text baselines that the papers are measured against.

BERT: Devlin et al., 2019, a softmax per word. BERT-CRF: the same states read by a linear-chain CRF. Where
the papers are silent we choose: a word is its first piece, dropout 0.1 on its state.

Graph: tokens, nothing among them; the encoder has already let the words meet.
"""

from __future__ import annotations

from mnergraph.features.backbone import Backbone
from mnergraph.graph import Schema
from mnergraph.labels import Labels
from mnergraph.models.base import Tagger
from mnergraph.nn.crf import CRF
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.softmax import Softmax
from mnergraph.nn.text import Pooling, TextEncoder

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
        self, encoder: Backbone, labels: Labels, *, dropout: float = 0.1, pooling: Pooling = "first"
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                Emit("tags", encoder.width, len(labels)),
            ],
            tasks=[Task("tags", Softmax(labels.tags))],
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
        encoder: Backbone,
        labels: Labels,
        *,
        dropout: float = 0.1,
        pooling: Pooling = "first",
        constrain: bool = False,
    ) -> None:
        super().__init__(
            schema=SCHEMA,
            layers=[
                TextEncoder(encoder, pooling=pooling, dropout=dropout),
                Emit("tags", encoder.width, len(labels)),
            ],
            tasks=[Task("tags", CRF(labels.tags, constrain=constrain))],
            encoder=encoder,
            labels=labels,
        )
