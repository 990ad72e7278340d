"""MRC-MNER (Jia et al., ACM MM 2022)."""

from mnergraph.models.mrc_mner.model import MRCMNER as MRCMNER
