"""The order of posts: complete, of like length, decided by seed and epoch, and resumed."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
import torch

from mnergraph.models import Tagger
from mnergraph.pair import Pair
from mnergraph.training import GraphLoader, LengthGroupedBatchSampler, loader

Posts = Callable[[int, int], list[Pair]]
Build = Callable[..., Tagger]


def lengths(many: int = 1003) -> list[int]:
    chance = random.Random(3)
    return [chance.randint(1, 60) for _ in range(many)]


def padding(batches: list[list[int]], sizes: list[int]) -> float:
    """The share of padding."""
    slots = sum(len(batch) * max(sizes[index] for index in batch) for batch in batches)
    return 1 - sum(sizes) / slots


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize(("many", "batch_size"), [(1003, 16), (5, 16), (16, 16), (17, 1)])
def test_every_post_once(many: int, batch_size: int, shuffle: bool) -> None:
    order = LengthGroupedBatchSampler(lengths(many), batch_size, shuffle=shuffle)
    for epoch in range(3):
        order.set_epoch(epoch)
        batches = list(order)
        assert sorted(index for batch in batches for index in batch) == list(range(many))
        assert len(batches) == len(order) == -(-many // batch_size)
        assert all(1 <= len(batch) <= batch_size for batch in batches)


def test_batches_have_similar_lengths() -> None:
    sizes = lengths()
    indices = list(range(len(sizes)))
    random.Random(0).shuffle(indices)
    at_random = padding([indices[i : i + 16] for i in range(0, len(indices), 16)], sizes)
    shuffled = padding(list(LengthGroupedBatchSampler(sizes, 16, shuffle=True)), sizes)
    by_length = padding(list(LengthGroupedBatchSampler(sizes, 16, shuffle=False)), sizes)
    assert by_length < shuffled < 0.1 < 0.4 < at_random


def test_seed_and_epoch_decide_the_order() -> None:
    def order(seed: int, epoch: int) -> list[list[int]]:
        found = LengthGroupedBatchSampler(lengths(), 16, shuffle=True, seed=seed)
        found.set_epoch(epoch)
        return list(found)

    assert order(1, 2) == order(1, 2)
    assert len({str(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    # no batch comes back in another epoch, and batches are not in the order of their lengths
    assert not {tuple(batch) for batch in order(1, 0)} & {tuple(batch) for batch in order(1, 1)}
    sizes = [lengths()[batch[0]] for batch in order(1, 0)]
    assert sizes not in (sorted(sizes), sorted(sizes, reverse=True))
    still = LengthGroupedBatchSampler(lengths(), 16, shuffle=False)
    first = list(still)
    still.set_epoch(1)
    assert list(still) == first


def test_lightning_finds_the_epoch(build: Build, posts: Posts) -> None:
    from lightning.fabric.utilities.data import _set_sampler_epoch

    batches = GraphLoader(build().builder.build_all(posts(20, 0)), 4, shuffle=True)
    _set_sampler_epoch(batches, 7)
    assert batches.order.epoch == 7


def test_epoch_can_be_set_after_iter(build: Build, posts: Posts) -> None:
    def ids(batches: GraphLoader) -> list[str]:
        return [pair.id for batch in batches for pair in batch.pair]

    graphs = build().builder.build_all(posts(20, 0))
    late, early = GraphLoader(graphs, 4, shuffle=True), GraphLoader(graphs, 4, shuffle=True)
    begun = iter(late)
    late.order.set_epoch(3)
    early.order.set_epoch(3)
    assert [pair.id for batch in begun for pair in batch.pair] == ids(early)


@pytest.mark.parametrize(("given", "workers"), [(0, 0), (1, 0), (3, 0), (4, 0), (5, 0), (1, 1), (5, 1)])
def test_resumes_after_the_last_batch(build: Build, posts: Posts, given: int, workers: int) -> None:
    graphs = build().builder.build_all(posts(18, 0))
    whole = GraphLoader(graphs, 4, shuffle=True, seed=2)
    whole.order.set_epoch(1)
    expected = [[pair.id for pair in batch.pair] for batch in whole]
    interrupted = GraphLoader(graphs, 4, shuffle=True, seed=2, workers=workers)
    interrupted.order.set_epoch(1)
    ids = []
    for index, batch in enumerate(interrupted):
        if index == given:
            break
        ids.append([pair.id for pair in batch.pair])
        if index + 1 == given:
            break
    assert ids == expected[:given]
    state = interrupted.state_dict() if given else {"given": 0}
    assert state == {"given": given}
    resumed = GraphLoader(graphs, 4, shuffle=True, seed=2)
    resumed.load_state_dict(state)
    resumed.order.set_epoch(1)
    rest = []
    for batch in resumed:
        rest.append([pair.id for pair in batch.pair])
        # counted from the epoch's beginning, so that the second resume is right as well
        assert resumed.state_dict() == {"given": (given if given < 5 else 0) + len(rest)}
    assert rest == (expected[given:] if given < 5 else expected)
    assert len(resumed) == 5
    # the next epoch is whole
    assert [[pair.id for pair in batch.pair] for batch in resumed] == expected


def test_batches_leave_torch_s_random_state_alone(build: Build, posts: Posts) -> None:
    batches = GraphLoader(build().builder.build_all(posts(8, 0)), 4, shuffle=True)
    before = torch.get_rng_state()
    list(batches)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("many", [1003, 1000, 15, 3])
@pytest.mark.parametrize("world_size", [2, 3])
def test_several_devices_share(monkeypatch: pytest.MonkeyPatch, world_size: int, many: int) -> None:
    def share(rank: int, shuffle: bool) -> list[list[int]]:
        monkeypatch.setattr(loader, "rank_and_world", lambda: (rank, world_size))
        order = LengthGroupedBatchSampler(lengths(many), 4, shuffle=shuffle, seed=1)
        order.set_epoch(2)
        batches = list(order)
        assert len(batches) == len(order)
        return batches

    trained = [share(rank, True) for rank in range(world_size)]
    assert len({len(batches) for batches in trained}) == 1, "each device makes the same number of steps"
    counts = Counter(index for batches in trained for batch in batches for index in batch)
    assert set(counts) == set(range(many))
    assert sum(counts.values()) - many < 4 * world_size
    scored = Counter(index for rank in range(world_size) for batch in share(rank, False) for index in batch)
    assert scored == Counter(range(many)), "in evaluation each post counts once"


def test_evaluation_reads_each_post_once(build: Build, posts: Posts) -> None:
    some = posts(21, 0)
    batches = GraphLoader(build().builder.build_all(some), 4, shuffle=False)
    for _ in range(2):
        assert sorted(pair.id for batch in batches for pair in batch.pair) == sorted(post.id for post in some)


def test_lengths_are_counted_in_pieces(build: Build) -> None:
    graphs = build().builder.build_all([Pair(("unknownword",), id="a"), Pair(("bob", "saw"), id="b")])
    assert GraphLoader(graphs, 1, shuffle=False).order.lengths == [13, 4]


def test_refusals() -> None:
    with pytest.raises(ValueError, match="a batch holds at least one post, not 0"):
        LengthGroupedBatchSampler([1], 0, shuffle=True)
    with pytest.raises(ValueError, match="no posts to make batches of"):
        GraphLoader([], 4, shuffle=True)
