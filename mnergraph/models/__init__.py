"""THE PAPERS, one file each: a schema plus a stack."""

from mnergraph.graph import Schema
from mnergraph.models import bert, gei, umgf
from mnergraph.models.base import Entity, Tagger
from mnergraph.models.bert import BERT, BERTCRF
from mnergraph.models.gei import GEI
from mnergraph.models.umgf import UMGF

#: Every model by the name its paper gives it.
MODELS: dict[str, type[Tagger]] = {"BERT": BERT, "BERT-CRF": BERTCRF, "GEI": GEI, "UMGF": UMGF}

#: Every schema that a model uses, by name.
SCHEMAS: dict[str, Schema] = {
    "text (BERT, BERT-CRF)": bert.SCHEMA,
    "GEI": gei.SCHEMA,
    "UMGF": umgf.SCHEMA,
    "UMGF, released": umgf.RELEASED_SCHEMA,
}

__all__ = ["BERT", "BERTCRF", "GEI", "MODELS", "SCHEMAS", "UMGF", "Entity", "Tagger"]
