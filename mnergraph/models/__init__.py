"""THE PAPERS, one file each: a schema plus a stack."""

from mnergraph.graph import Schema
from mnergraph.models import adacan, bert, gvatt, umgf
from mnergraph.models.adacan import AdaCAN
from mnergraph.models.base import Entity, Tagger
from mnergraph.models.bert import BERT, BERTCRF
from mnergraph.models.gvatt import GVATT
from mnergraph.models.lstm import BiLSTMCRF, CNNBiLSTMCRF, HBiLSTMCRF
from mnergraph.models.umgf import UMGF

#: Every model by the name its paper gives it.
MODELS: dict[str, type[Tagger]] = {
    "BiLSTM-CRF": BiLSTMCRF,
    "CNN-BiLSTM-CRF": CNNBiLSTMCRF,
    "HBiLSTM-CRF": HBiLSTMCRF,
    "BERT": BERT,
    "BERT-CRF": BERTCRF,
    "GVATT": GVATT,
    "AdaCAN": AdaCAN,
    "UMGF": UMGF,
}

#: Every schema that a model uses, by name.
SCHEMAS: dict[str, Schema] = {
    "text (BERT, BERT-CRF, BiLSTM-CRF and its kin)": bert.SCHEMA,
    "GVATT": gvatt.SCHEMA,
    "AdaCAN": adacan.SCHEMA,
    "UMGF": umgf.SCHEMA,
    "UMGF, released": umgf.RELEASED_SCHEMA,
}

__all__ = [
    "BERT",
    "BERTCRF",
    "GVATT",
    "MODELS",
    "SCHEMAS",
    "UMGF",
    "AdaCAN",
    "BiLSTMCRF",
    "CNNBiLSTMCRF",
    "Entity",
    "HBiLSTMCRF",
    "Tagger",
]
