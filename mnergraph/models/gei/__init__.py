"""GEI (Zhao et al., Findings of EMNLP 2022)."""

from mnergraph.models.gei.model import GEI as GEI
