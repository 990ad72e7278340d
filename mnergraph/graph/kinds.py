"""What a relation is: two node types, a name, and a kind, which draws the edges.

A kind of your own is a frozen dataclass with one method::

    @dataclass(frozen=True)
    class SameLabel(Kind):
        sentence = "every {src} reaches the {dst}s of the same label"

        def connect(self, data, src, dst):
            labels = [thing.label for thing in data.pair.objects]
            return pairs((i, j) for i, a in enumerate(labels) for j, b in enumerate(labels) if a == b)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import Field, dataclass, is_dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.stores import EdgeType


@dataclass(frozen=True, slots=True)
class Connection:
    """Edges of one post: ``index [2, edges]``, their kind ``[edges]``, geometry ``[edges, numbers]``."""

    index: Tensor
    type: Tensor | None = None
    attr: Tensor | None = None


class Kind(ABC):
    """What is connected to what. Subclass it, as a frozen dataclass, with ``connect``."""

    #: What `dataclasses.dataclass` adds to a kind; `Relation` refuses one without.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    #: How ``print(schema)`` says it; ``{src}``, ``{dst}`` and the kind's own fields are filled in.
    sentence: ClassVar[str] = "{src}s and {dst}s are joined by a rule of its own"
    #: Whether every pair is joined, so that no edge need ever be stored.
    complete: ClassVar[bool] = False
    #: Whether the schema checks what ``connect`` returns; off for kinds that their own tests prove.
    checked: ClassVar[bool] = True
    #: Whether the edges from dst to src are those from src to dst, turned, with neither kinds nor geometry: a
    #: schema that has both draws them once.
    symmetric: ClassVar[bool] = False

    @abstractmethod
    def connect(self, data: HeteroData, src: str, dst: str) -> Connection | Tensor:
        """The edges of one post.

        Args:
            data: the post's graph, its nodes already there, ``data.pair`` the pair it was made from, and
                ``data["token"].word`` the word each token belongs to (-1 for a special token).
            src: node type of the senders.
            dst: node type of the receivers.

        Returns:
            ``[2, edges]``, sender above receiver, no pair twice; or a Connection with kinds and geometry.
        """


def pairs(found: Iterable[tuple[int, int]]) -> Tensor:
    """``(sender, receiver)`` pairs as an index ``[2, edges]``, also when there are none."""
    return torch.tensor(list(found), dtype=torch.long).reshape(-1, 2).t().contiguous()


@dataclass(frozen=True)
class Relation:
    """Nodes of type ``src`` speak to nodes of type ``dst``, along the edges that ``kind`` draws."""

    src: str
    name: str
    dst: str
    kind: Kind

    def __post_init__(self) -> None:
        if not isinstance(self.kind, Kind) or not is_dataclass(self.kind):
            raise TypeError(
                f"the kind of {self} must be an instance of a frozen dataclass under Kind, as Complete() is, "
                f"not {self.kind!r}"
            )

    @property
    def key(self) -> EdgeType:
        return (self.src, self.name, self.dst)

    def connect(self, data: HeteroData) -> Connection:
        """The relation's edges in one post.

        Raises:
            ValueError: when a user's kind returns something that is no index, leaves the post, joins a pair
                twice, or has not one kind or row of geometry per edge.
        """
        found = self.kind.connect(data, self.src, self.dst)
        found = found if isinstance(found, Connection) else Connection(found)
        if self.kind.checked:
            self._check(found, data)
        return found

    def _check(self, found: Connection, data: HeteroData) -> None:
        where = f"{type(self.kind).__name__}.connect for {self}, post {data.pair.id!r}"
        index = found.index
        if not isinstance(index, Tensor):
            raise ValueError(
                f"{where}: expected int64 [2, edges], got a {type(index).__name__}; `pairs` makes it"
            )
        if index.dim() != 2 or index.shape[0] != 2 or index.dtype != torch.long:
            raise ValueError(
                f"{where}: expected int64 [2, edges], got {index.dtype} {list(index.shape)}; `pairs` makes it"
            )
        for row, kind in zip(index, (self.src, self.dst), strict=True):
            nodes = data[kind].num_nodes
            if row.numel() and not (int(row.min()) >= 0 and int(row.max()) < nodes):
                raise ValueError(
                    f"{where}: rows {int(row.min())} to {int(row.max())}, but {nodes} {kind} nodes"
                )
        if index.unique(dim=1).shape[1] != index.shape[1]:
            raise ValueError(f"{where}: a pair is joined twice")
        for name, values in (("type", found.type), ("attr", found.attr)):
            if values is not None and len(values) != index.shape[1]:
                raise ValueError(f"{where}: {len(values)} rows of {name} for {index.shape[1]} edges")

    def __str__(self) -> str:
        return f"({self.src}, {self.name}, {self.dst})"
