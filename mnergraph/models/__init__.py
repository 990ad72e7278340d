"""THE PAPERS, one file each: a schema plus a stack."""

from mnergraph.graph import Schema
from mnergraph.models import adacan, bert, gei, gvatt, hamlearning, mgcmt, mtbert, umgf
from mnergraph.models.adacan import AdaCAN
from mnergraph.models.base import Entity, Tagger
from mnergraph.models.bert import BERT, BERTCRF
from mnergraph.models.gei import GEI
from mnergraph.models.gvatt import GVATT
from mnergraph.models.hamlearning import HamLearning
from mnergraph.models.lstm import BiLSTMCRF, CNNBiLSTMCRF, HBiLSTMCRF
from mnergraph.models.mgcmt import MGCMT
from mnergraph.models.mtbert import MTBERTCRF
from mnergraph.models.umgf import UMGF
from mnergraph.models.umt import UMT

#: Every model by the name its paper gives it.
MODELS: dict[str, type[Tagger]] = {
    "BiLSTM-CRF": BiLSTMCRF,
    "CNN-BiLSTM-CRF": CNNBiLSTMCRF,
    "HBiLSTM-CRF": HBiLSTMCRF,
    "BERT": BERT,
    "BERT-CRF": BERTCRF,
    "GVATT": GVATT,
    "AdaCAN": AdaCAN,
    "MT-BERT-CRF": MTBERTCRF,
    "UMT": UMT,
    "UMGF": UMGF,
    "MGCMT": MGCMT,
    "GEI": GEI,
    "HamLearning": HamLearning,
}

#: Every schema that a model uses, by name.
SCHEMAS: dict[str, Schema] = {
    "text (BERT, BERT-CRF, BiLSTM-CRF and its kin)": bert.SCHEMA,
    "GVATT": gvatt.SCHEMA,
    "AdaCAN": adacan.SCHEMA,
    "UMT (and MT-BERT-CRF)": mtbert.SCHEMA,
    "UMGF": umgf.SCHEMA,
    "UMGF, released": umgf.RELEASED_SCHEMA,
    "MGCMT": mgcmt.SCHEMA,
    "GEI": gei.SCHEMA,
    "HamLearning": hamlearning.SCHEMA,
}

__all__ = [
    "BERT",
    "BERTCRF",
    "GEI",
    "GVATT",
    "MGCMT",
    "MODELS",
    "MTBERTCRF",
    "SCHEMAS",
    "UMGF",
    "UMT",
    "AdaCAN",
    "BiLSTMCRF",
    "CNNBiLSTMCRF",
    "Entity",
    "HBiLSTMCRF",
    "HamLearning",
    "Tagger",
]
