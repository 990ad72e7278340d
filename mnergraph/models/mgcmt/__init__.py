"""MGCMT (Liu et al., 2022)."""

from mnergraph.models.mgcmt.model import MGCMT as MGCMT
