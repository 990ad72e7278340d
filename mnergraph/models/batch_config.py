"""How posts are taken into batches where nothing is trained. Imports no torch, as the command line's help reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

#: Precisions of the matrix products in prediction.
Precision = Literal["fp32", "bf16", "auto"]
#: Pieces of a batch where none are given: a CPU gains nothing by more, a GPU does.
CPU_PIECES, GPU_PIECES = 1024, 16384


@dataclass(frozen=True)
class BatchConfig:
    """How posts are taken into batches where nothing is trained.

    Args:
        batch_pieces: pieces of a batch, padding included; a longer post is a batch of its own. None for 1,024 on a
            CPU and 16,384 on a GPU.
        workers: threads that build graphs and open images while the model computes; beside them one decodes results.
            0 for none.
        precision: fp32; bf16, in which a pretrained text encoder computes in bfloat16 and elsewhere matrix products
            do (autocast); or auto: bf16 on a GPU that has it and on a processor with AMX, where it is two to three
            times as fast, fp32 on others.
    """

    batch_pieces: int | None = None
    workers: int = 2
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.batch_pieces is not None and self.batch_pieces < 1:
            raise ValueError(f"batch_pieces is 1 or more, not {self.batch_pieces}")
        if self.workers < 0:
            raise ValueError(f"workers is 0 or more, not {self.workers}")
        if self.precision not in get_args(Precision):
            raise ValueError(f"precision {self.precision!r} is not among {', '.join(get_args(Precision))}")

    def pieces_on(self, device_type: str) -> int:
        """Return the pieces of a batch on a type of devices, such as ``"cpu"``."""
        if self.batch_pieces is not None:
            return self.batch_pieces
        return CPU_PIECES if device_type == "cpu" else GPU_PIECES
