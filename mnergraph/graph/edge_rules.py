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
from dataclasses import Field, dataclass
from functools import lru_cache
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.box_geometry import spatial_edges
from mnergraph.graph.collate import num_nodes, pair_of


@dataclass(frozen=True, slots=True)
class EdgeSet:
    """Edges of one post: ``index [2, edges]``, their kind ``[edges]``, geometry ``[edges, numbers]``."""

    edge_index: Tensor
    edge_type: Tensor | None = None
    edge_attr: Tensor | None = None


class EdgeRule(ABC):
    """What is connected to what. Subclass it, as a frozen dataclass, with ``connect``."""

    #: What `dataclasses.dataclass` adds to a kind; `Relation` refuses one without.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    #: How ``print(schema)`` says it; ``{src}``, ``{dst}`` and the kind's own fields are filled in.
    description: ClassVar[str] = "{src}s and {dst}s are joined by a rule of its own"
    #: Whether every pair is joined, so that no edge need ever be stored.
    fully_connected: ClassVar[bool] = False
    #: Whether the schema checks what ``connect`` returns; off for kinds that their own tests prove.
    validate: ClassVar[bool] = True
    #: Whether the edges from dst to src are those from src to dst, turned, with neither kinds nor geometry: a
    #: schema that has both draws them once.
    symmetric: ClassVar[bool] = False

    @abstractmethod
    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet | Tensor:
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


@lru_cache(maxsize=4096)
def _everything(senders: int, receivers: int) -> Tensor:
    """Every sender joined to every receiver, ``[2, senders * receivers]``; shared, so callers copy it."""
    return torch.cartesian_prod(torch.arange(senders), torch.arange(receivers)).t().contiguous()


@dataclass(frozen=True)
class Complete(EdgeRule):
    """Every sender reaches every receiver of its post. Never stored: layouts alone say it."""

    description = "every {src} reaches every {dst}"
    fully_connected = True
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        return _everything(data[src].num_nodes, data[dst].num_nodes).clone()


@dataclass(frozen=True)
class Windowed(EdgeRule):
    """Senders reach receivers at most ``reach`` places away in the post's order, themselves included."""

    reach: int
    description = "every {src} reaches the {dst}s at most {reach} places away"
    validate = False

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise ValueError(f"reach is a number of places, 0 or more, not {self.reach}")

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        distance = torch.arange(data[src].num_nodes)[:, None] - torch.arange(data[dst].num_nodes)
        return (distance.abs() <= self.reach).nonzero().t().contiguous()


@dataclass(frozen=True)
class Grounded(EdgeRule):
    """A noun phrase's words and the objects it grounds; general objects and every word.

    Joins tokens and objects, in either direction (UMGF, "Edge Construction"). Special tokens ([CLS], [SEP])
    count as words of no phrase.
    """

    description = "{src}s and {dst}s are joined where a phrase grounds the object, general objects with all"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        if {src, dst} != {"token", "object"}:
            raise ValueError(f"Grounded joins token and object, not {src} and {dst}")
        pair = pair_of(data)
        spans = [thing.span for thing in pair.objects]
        if not any(spans):
            return _everything(num_nodes(data, src), num_nodes(data, dst)).clone()
        word = data["token"].word
        lows = torch.tensor([-1 if span is None else span[0] for span in spans])
        highs = torch.tensor([len(pair.words) if span is None else span[1] for span in spans])
        index = ((word[:, None] >= lows) & (word[:, None] < highs)).nonzero().t()
        return index if src == "token" else index.flip(0)


@dataclass(frozen=True)
class Spatial(EdgeRule):
    """Eleven labelled, directed relations of boxes (HamLearning, section 3.1 and A.1).

    Joins objects with boxes, and the picture with every object that has a box: the picture contains them all,
    so that what lies outside it is cut off. ``edge_type`` is the label's place in
    `mnergraph.graph.box_geometry.SPATIAL_LABELS`; ``edge_attr`` is the distance of the centres as a share of the
    picture's diagonal and the angle in radians, ``[edges, 2]``.
    """

    description = "every {src} reaches the {dst}s around it, labelled by how their boxes lie"
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet:
        if not {src, dst} <= {"object", "image"}:
            raise ValueError(f"Spatial joins object and image, not {src} and {dst}")
        boxes = {kind: self._boxes(data, kind) for kind in {src, dst}}
        if len(boxes) == 2 and len(boxes["image"]):
            corner = boxes["image"][:, 2:].repeat(1, 2)
            boxes["object"] = boxes["object"].clamp(min=0).minimum(corner)
        return EdgeSet(*spatial_edges(boxes[src], boxes[dst], data.pair.size, same=src == dst))

    @staticmethod
    def _boxes(data: HeteroData, kind: str) -> Tensor:
        if kind == "object":
            return data["object"].box
        grid = data["image"].num_nodes
        if grid > 1:
            raise ValueError(f"Spatial takes one image node, post {data.pair.id!r} has a grid of {grid}")
        width, height = data.pair.size or (float("nan"), float("nan"))
        return torch.tensor([[0.0, 0.0, width, height]])[:grid]


@dataclass(frozen=True)
class Member(EdgeRule):
    """An entity and the words of its span, in either direction (GEI, "entity-token")."""

    description = "{src}s and {dst}s are joined where the word lies in the entity's span"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        if {src, dst} != {"entity", "token"}:
            raise ValueError(f"Member joins entity and token, not {src} and {dst}")
        index = _inside(data).nonzero().t()
        return index if src == "entity" else index.flip(0)


@dataclass(frozen=True)
class NearestWordOf(EdgeRule):
    """A similar word and the token with which the word it resembles begins (MGCMT, eq. 2).

    ``edge_attr`` is the cosine of the two, ``[edges, 1]``.
    """

    description = "every {src} word reaches the {dst} that it resembles"
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet:
        if (src, dst) != ("similar", "token"):
            raise ValueError(f"NearestWordOf joins similar to token, not {src} to {dst}")
        similar = data["similar"]
        begins = data["token"].starts_word.nonzero()[:, 0]
        index = torch.stack([torch.arange(num_nodes(data, "similar")), begins[similar.word]])
        return EdgeSet(index, edge_attr=similar.cosine[:, None])


@dataclass(frozen=True)
class InEntity(EdgeRule):
    """Everything and the words that lie in an entity (GEI without entity nodes), in either direction."""

    description = "{src}s and {dst}s are joined where the word lies in an entity"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        if (src == "token") == (dst == "token"):
            raise ValueError(f"InEntity joins token and another node type, not {src} and {dst}")
        words = _inside(data).any(0)
        index = _everything(num_nodes(data, src if dst == "token" else dst), len(words))
        index = index[:, words[index[1]]]
        return index if dst == "token" else index.flip(0)


def _inside(data: HeteroData) -> Tensor:
    """Which token lies in which entity of its post, ``[entities, tokens]``, bool."""
    spans = torch.tensor(data.pair.entities, dtype=torch.long).reshape(-1, 2)
    word = data["token"].word
    return (word >= spans[:, :1]) & (word < spans[:, 1:])
