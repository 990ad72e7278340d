"""UMGF (Zhang et al., AAAI 2021)."""

from mnergraph.models.umgf.model import UMGF as UMGF
