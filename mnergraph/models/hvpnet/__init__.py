"""HVPNeT (Chen et al., Findings of NAACL 2022)."""

from mnergraph.models.hvpnet.model import HVPNeT as HVPNeT
