"""Training with Lightning: batches of like length, checkpoints chosen on dev alone, runs that resume."""

from mnergraph.training.loader import Batches, LengthBuckets
from mnergraph.training.loop import Loop
from mnergraph.training.memory import keep_memory
from mnergraph.training.module import Optimisation, Training
from mnergraph.training.run import evaluate, fit

__all__ = ["Batches", "LengthBuckets", "Loop", "Optimisation", "Training", "evaluate", "fit", "keep_memory"]
