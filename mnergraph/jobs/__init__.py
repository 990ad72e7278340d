"""The jobs of the command line as functions; each reads from top to bottom."""

from mnergraph.jobs.applying import evaluate, predict
from mnergraph.jobs.learning import train

__all__ = ["evaluate", "predict", "train"]
