"""Batches of posts of similar length, in an order given by a seed, from which a killed run resumes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle, islice
from math import ceil
from typing import Any

import torch.distributed
from torch.utils.data import DataLoader, Dataset, Sampler
from torch_geometric.data import HeteroData

from mnergraph.graph.batching import length_batches
from mnergraph.graph.collate import collate

#: Batches that are drawn together and sorted by length before they are cut.
SORT_POOL = 50


class LengthGroupedBatchSampler(Sampler[list[int]]):
    """Indices in batches of similar length, which keeps padding small.

    Shuffled by seed and epoch: posts are shuffled, sorted by length within pools of `SORT_POOL` batches, cut, and
    the batches shuffled. Without shuffling they are those of `length_batches`. With several devices each
    takes its share; where training batches do not divide evenly, some occur twice in an epoch, while in
    evaluation none does.

    Args:
        lengths: of every post, in pieces or words.
        batch_size: posts per batch and device.
        shuffle: whether epochs differ.
        seed: of the order.
    """

    def __init__(self, lengths: Sequence[int], batch_size: int, *, shuffle: bool, seed: int = 0) -> None:
        if batch_size < 1:
            raise ValueError(f"a batch holds at least one post, not {batch_size}")
        self.lengths, self.batch_size, self.shuffle, self.seed = list(lengths), batch_size, shuffle, seed
        self.epoch = 0
        self.skip = 0

    @property
    def sampler(self) -> LengthGroupedBatchSampler:
        """Itself: Lightning calls `set_epoch` on ``batch_sampler.sampler`` only."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch, on which the order depends; called by Lightning before each."""
        self.epoch = epoch

    def _batches(self) -> list[list[int]]:
        if not self.shuffle:
            return length_batches(self.lengths, self.batch_size)
        indices = list(range(len(self.lengths)))
        rng = random.Random(f"{self.seed}/{self.epoch}")
        rng.shuffle(indices)
        pool = self.batch_size * SORT_POOL
        batches = []
        for begin in range(0, len(indices), pool):
            pooled = sorted(indices[begin : begin + pool], key=self.lengths.__getitem__)
            batches += [pooled[i : i + self.batch_size] for i in range(0, len(pooled), self.batch_size)]
        rng.shuffle(batches)
        return batches

    def _own_share(self) -> list[list[int]]:
        batches, (rank, world) = self._batches(), rank_and_world()
        if self.shuffle and batches:
            batches += islice(cycle(batches), -len(batches) % world)
        return batches[rank::world]

    def __iter__(self) -> Iterator[list[int]]:
        skip, self.skip = self.skip, 0
        return iter(self._own_share()[skip:])

    def __len__(self) -> int:
        rank, world = rank_and_world()
        if not self.shuffle:
            return len(range(rank, len(self._batches()), world))
        # pools hold whole batches, so only the last batch of all is smaller
        return ceil(ceil(len(self.lengths) / self.batch_size) / world)


class GraphLoader(DataLoader):
    """A loader of graph batches whose position in the epoch can be saved and restored.

    Args:
        graphs: one graph per post.
        batch_size: posts per batch and device.
        shuffle: whether epochs differ; see `LengthGroupedBatchSampler`.
        seed: of the order.
        workers: processes that finish graphs and collate; 0 is best unless crops of pixels are read, as passing
            tensors between processes costs more than collating.
        finish: completes a draft graph when its batch is loaded; see `GraphBuilder.finish`.
    """

    def __init__(
        self,
        graphs: Sequence[HeteroData],
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        workers: int = 0,
        finish: Callable[[HeteroData], HeteroData] | None = None,
    ) -> None:
        if not graphs:
            raise ValueError("no posts to make batches of")
        kind = "piece" if "piece" in graphs[0].node_types else "token"
        lengths = [graph[kind].num_nodes for graph in graphs]
        self.order = LengthGroupedBatchSampler(lengths, batch_size, shuffle=shuffle, seed=seed)
        super().__init__(
            _Graphs(graphs, finish),
            batch_sampler=self.order,
            collate_fn=collate,
            num_workers=workers,
            # else every epoch would draw from torch's own random state, and a resumed one once more
            generator=torch.Generator().manual_seed(seed),
        )
        self.batches_served = 0

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # torch names its own class of iterators
        # a generator, so that the order is drawn with the first batch, when the epoch is known
        self.batches_served = self.order.skip
        for batch in super().__iter__():
            self.batches_served += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        """Return the number of batches of this epoch that were loaded."""
        return {"given": self.batches_served}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Skip the batches that were loaded before; a finished epoch is followed by a whole one."""
        self.order.skip = state["given"] if state["given"] < len(self.order) else 0


class _Graphs(Dataset[HeteroData]):
    """Graphs, or drafts that are completed when they are loaded."""

    def __init__(self, drafts: Sequence[HeteroData], finish: Callable[[HeteroData], HeteroData] | None) -> None:
        self.drafts, self.finish = drafts, finish

    def __len__(self) -> int:
        return len(self.drafts)

    def __getitem__(self, index: int) -> HeteroData:
        draft = self.drafts[index]
        return draft if self.finish is None else self.finish(draft)


def rank_and_world() -> tuple[int, int]:
    """Return the number of this process among those of a distributed run, from 0, and how many there are."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1
