"""THE PAPERS, one file each: a schema plus a stack."""

from mnergraph.graph import Schema
from mnergraph.models import bert, hamlearning, umgf, umt
from mnergraph.models.base import Entity, Tagger
from mnergraph.models.bert import BERT, BERTCRF
from mnergraph.models.hamlearning import HamLearning
from mnergraph.models.umgf import UMGF
from mnergraph.models.umt import MTBERTCRF, UMT

#: Every model by the name its paper gives it.
MODELS: dict[str, type[Tagger]] = {
    "BERT": BERT,
    "BERT-CRF": BERTCRF,
    "MT-BERT-CRF": MTBERTCRF,
    "UMT": UMT,
    "UMGF": UMGF,
    "HamLearning": HamLearning,
}

#: Every schema that a model uses, by name.
SCHEMAS: dict[str, Schema] = {
    "text (BERT, BERT-CRF)": bert.SCHEMA,
    "UMT (and MT-BERT-CRF)": umt.SCHEMA,
    "UMGF": umgf.SCHEMA,
    "UMGF, released": umgf.RELEASED_SCHEMA,
    "HamLearning": hamlearning.SCHEMA,
}

__all__ = [
    "BERT",
    "BERTCRF",
    "MODELS",
    "MTBERTCRF",
    "SCHEMAS",
    "UMGF",
    "UMT",
    "Entity",
    "HamLearning",
    "Tagger",
]
