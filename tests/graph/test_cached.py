"""Kept properties: computed once, and by several threads at once without one waiting for the other."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from mnergraph.graph.cached import cached_property


class Node:
    def __init__(self, other: Node | None = None, meeting: Barrier | None = None) -> None:
        self.other, self.meeting, self.computed = other, meeting, 0

    @cached_property
    def one(self) -> int:
        """The first value."""
        self.computed += 1
        if self.meeting:
            self.meeting.wait()
        return 1 if self.other is None else self.other.two + 1

    @cached_property
    def two(self) -> int:
        if self.meeting:
            self.meeting.wait()
        return 2 if self.other is None else self.other.one + 1


def test_computed_once() -> None:
    node = Node()
    assert (node.one, node.one, node.computed) == (1, 1, 1)
    assert Node.one.__doc__ == "The first value."


def test_two_threads_that_need_each_other_s_properties() -> None:
    """With `functools.cached_property` of Python 3.11 each would hold the lock that the other waits for."""
    meeting = Barrier(2, timeout=10)
    first, second = Node(Node(), meeting), Node(Node(), meeting)
    with ThreadPoolExecutor(2) as pool:
        values = [pool.submit(lambda: first.one), pool.submit(lambda: second.two)]
        assert [value.result(timeout=10) for value in values] == [3, 2]
