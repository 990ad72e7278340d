"""HamLearning (Liu et al., 2023)."""

from mnergraph.models.hamlearning.model import HamLearning as HamLearning
