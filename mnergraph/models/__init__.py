"""THE PAPERS, one file each: a schema plus a stack."""

from mnergraph.models.base import Entity, Tagger
from mnergraph.models.bert import BERT, BERTCRF
from mnergraph.models.umgf import UMGF

#: Every model by the name its paper gives it.
MODELS: dict[str, type[Tagger]] = {"BERT": BERT, "BERT-CRF": BERTCRF, "UMGF": UMGF}

__all__ = ["BERT", "BERTCRF", "MODELS", "UMGF", "Entity", "Tagger"]
