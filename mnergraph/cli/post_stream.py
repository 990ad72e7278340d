"""The posts of a command as a stream, which is read anew each time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mnergraph.data.formats.jsonl import UnreadablePost
    from mnergraph.graph.node_types import NodeType
    from mnergraph.pair import Pair


class PostStream:
    """Posts that are read anew, one by one, each time they are gone through.

    Args:
        read: returns an iterable of them.
        count: returns their number, which is counted when it is first asked for.
    """

    def __init__(self, read: Callable[[], Iterable[Pair | UnreadablePost]], count: Callable[[], int]) -> None:
        self._read, self._count = read, cache(count)

    @classmethod
    def of(cls, posts: Sequence[Pair | UnreadablePost]) -> PostStream:
        """Return posts that are in memory."""
        return cls(lambda: posts, lambda: len(posts))

    def __iter__(self) -> Iterator[Pair | UnreadablePost]:
        return iter(self._read())

    def __len__(self) -> int:
        return self._count()

    def load(self, max_posts: int | None = None) -> list[Pair]:
        """Return the posts.

        Args:
            max_posts: how many at most, the first ones; None for all.

        Raises:
            ValueError: for a line that holds no post.
        """
        from mnergraph.data.formats.jsonl import UnreadablePost

        posts = []
        for post in islice(self, max_posts):
            if isinstance(post, UnreadablePost):
                raise ValueError(post.error)
            posts.append(post)
        return posts

    def with_node_evidence(self, node_types: Iterable[NodeType], folders: Sequence[Path]) -> PostStream:
        """Return the posts with what node types of one's own read from their files; they are kept in memory then.

        Args:
            node_types: of the model.
            folders: where the files may be.
        """
        from mnergraph.data.evidence import attach_node_evidence
        from mnergraph.pair import Pair

        node_types = [node_type for node_type in node_types if node_type.evidence_file is not None]
        if not node_types:
            return self
        posts = list(self)
        pairs = [post for post in posts if isinstance(post, Pair)]
        attached = iter(attach_node_evidence(pairs, node_types, *folders, required=False))
        return PostStream.of([next(attached) if isinstance(post, Pair) else post for post in posts])
