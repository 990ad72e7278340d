"""Edge rules: which nodes of a post a relation connects.

A rule of your own is a frozen dataclass with one method::

    @dataclass(frozen=True)
    class SameLabel(EdgeRule):
        description = "every {src} reaches the {dst}s of the same label"

        def connect(self, data, src, dst):
            labels = [obj.label for obj in data.pair.objects]
            return edge_index_from((i, j) for i, a in enumerate(labels) for j, b in enumerate(labels) if a == b)
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

from mnergraph.graph.box_geometry import image_edges, spatial_edges
from mnergraph.graph.collate import num_nodes, pair_of, store_values
from mnergraph.graph.evidence_kinds import GROUNDED_OBJECTS, OBJECT_BOXES, lacking
from mnergraph.pair import Pair


@dataclass(frozen=True, slots=True)
class EdgeSet:
    """The edges of one relation in one post.

    Args:
        edge_index: ``[2, edges]``, int64; source row above target row.
        edge_type: ``[edges]``, int64, the type of every edge; None for edges without types.
        edge_attr: ``[edges, features]``, such as distance and angle; None for edges without features.
    """

    edge_index: Tensor
    edge_type: Tensor | None = None
    edge_attr: Tensor | None = None


class EdgeRule(ABC):
    """Base class of edge rules. Subclass it, as a frozen dataclass, with `connect`."""

    #: Added by `dataclasses.dataclass`; `Relation` refuses a rule without it.
    __dataclass_fields__: ClassVar[dict[str, Field[Any]]]
    #: The text of ``print(schema)``; ``{src}``, ``{dst}`` and the rule's own fields are filled in.
    description: ClassVar[str] = "{src}s and {dst}s are joined by a custom rule"
    #: Whether every source node is connected to every target node, so that no edge needs to be stored.
    fully_connected: ClassVar[bool] = False
    #: Whether `Relation.connect` checks what `connect` returns; off for the rules of this module, which are tested.
    validate: ClassVar[bool] = True
    #: Whether the edges from dst to src are those from src to dst reversed, without edge types and features. A
    #: schema with both relations then computes them once.
    symmetric: ClassVar[bool] = False

    @abstractmethod
    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet | Tensor:
        """Return the edges of one post.

        Args:
            data: the post's graph with all its nodes; ``data.pair`` is the pair it was made from, and
                ``data["token"].word`` the index of each token's word (-1 for a special token).
            src: source node type.
            dst: target node type.

        Returns:
            ``[2, edges]``, int64, source row above target row, no edge twice; or an `EdgeSet` with edge types and
            features.
        """

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return the kinds of evidence that the rule needs and the pair lacks, such as ``("grounded objects",)``."""
        return ()


def edge_index_from(edges: Iterable[tuple[int, int]]) -> Tensor:
    """Return ``(source, target)`` pairs as an edge index ``[2, edges]``, int64; ``[2, 0]`` for none."""
    return torch.tensor(list(edges), dtype=torch.long).reshape(-1, 2).t().contiguous()


@lru_cache(maxsize=4096)
def _all_edges(num_src: int, num_dst: int) -> Tensor:
    """Return every edge of a fully connected relation, ``[2, num_src * num_dst]``; cached, so callers copy it."""
    return torch.cartesian_prod(torch.arange(num_src), torch.arange(num_dst)).t().contiguous()


@dataclass(frozen=True)
class Complete(EdgeRule):
    """Every source node reaches every target node of its post. Its edges are not stored."""

    description = "every {src} reaches every {dst}"
    fully_connected = True
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        """Return all ``[2, src nodes * dst nodes]`` edges."""
        return _all_edges(data[src].num_nodes, data[dst].num_nodes).clone()


@dataclass(frozen=True)
class Windowed(EdgeRule):
    """Source nodes reach target nodes at most ``reach`` positions away in the post's order, themselves included.

    Args:
        reach: the largest distance, 0 or more.

    Raises:
        ValueError: for a negative reach.
    """

    reach: int
    description = "every {src} reaches the {dst}s at most {reach} places away"
    validate = False

    def __post_init__(self) -> None:
        if self.reach < 0:
            raise ValueError(f"reach is a number of positions, 0 or more, not {self.reach}")

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        """Return the edges within the window, ``[2, edges]``."""
        distance = torch.arange(data[src].num_nodes)[:, None] - torch.arange(data[dst].num_nodes)
        return (distance.abs() <= self.reach).nonzero().t().contiguous()


@dataclass(frozen=True)
class Grounded(EdgeRule):
    """Connects the words of a noun phrase to the objects detected for it (UMGF, "Edge Construction").

    Objects without a phrase are connected to all tokens. Special tokens ([CLS], [SEP]) belong to no phrase. Joins
    ``token`` and ``object``, in either direction.
    """

    description = "{src}s and {dst}s are joined where a phrase grounds the object, general objects with all"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        """Return the edges between phrases and their objects, ``[2, edges]``.

        Raises:
            ValueError: for other node types.
        """
        if {src, dst} != {"token", "object"}:
            raise ValueError(f"Grounded joins token and object, not {src} and {dst}")
        pair = pair_of(data)
        spans = [obj.span for obj in pair.objects]
        if not any(spans):
            return _all_edges(num_nodes(data, src), num_nodes(data, dst)).clone()
        word = data["token"].word
        starts = torch.tensor([-1 if span is None else span[0] for span in spans])
        ends = torch.tensor([len(pair.words) if span is None else span[1] for span in spans])
        index = ((word[:, None] >= starts) & (word[:, None] < ends)).nonzero().t()
        return index if src == "token" else index.flip(0)

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return ``("grounded objects",)`` if no object has a span."""
        return lacking(pair, GROUNDED_OBJECTS)


@dataclass(frozen=True)
class Spatial(EdgeRule):
    """Eleven directed, typed relations between boxes (HamLearning, section 3.1 and A.1).

    Joins objects with boxes, and the image with every object that has a box. The image contains every object: its edges
    are "inside", those to it "cover", also for a box as large as the image; parts of boxes outside it are cut off.
    ``edge_type`` is an index into
    `mnergraph.graph.box_geometry.SPATIAL_LABELS`; ``edge_attr`` ``[edges, 2]`` is the distance of the centers as a
    share of the image's diagonal, and the angle in radians.

    Args:
        normalized: whether distance and angle are those of centers divided by the image's width and height, as in the
            paper, or of centers in pixels.
    """

    normalized: bool = True

    description = "every {src} reaches the {dst}s around it, labelled by how their boxes lie"
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet:
        """Return the edges with types and features.

        Raises:
            ValueError: for other node types, or more than one image node.
        """
        if not {src, dst} <= {"object", "image"}:
            raise ValueError(f"Spatial joins object and image, not {src} and {dst}")
        pair, num_images = pair_of(data), num_nodes(data, "image") if "image" in (src, dst) else 1
        if num_images > 1:
            raise ValueError(f"Spatial takes one image node, post {pair.id!r} has a grid of {num_images}")
        boxes = store_values(data, "object")["box"] if "object" in (src, dst) else torch.empty(0, 4)
        # a post without an image has no edges to it, nor has the image to itself
        boxes = boxes if num_images else boxes[:0]
        if src == dst:
            return EdgeSet(*spatial_edges(boxes, boxes, pair.size, same=True, normalized=self.normalized))
        return EdgeSet(*image_edges(boxes, pair.size, from_image=src == "image", normalized=self.normalized))

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return ``("object boxes",)`` if no object has a box or the image's size is unknown."""
        return lacking(pair, OBJECT_BOXES)


@dataclass(frozen=True)
class Member(EdgeRule):
    """Connects entities and the tokens of their spans, in either direction (GEI, "entity-token")."""

    description = "{src}s and {dst}s are joined where the word lies in the entity's span"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        """Return the edges between entities and their tokens, ``[2, edges]``.

        Raises:
            ValueError: for other node types.
        """
        if {src, dst} != {"entity", "token"}:
            raise ValueError(f"Member joins entity and token, not {src} and {dst}")
        index = _tokens_in_entities(data).nonzero().t()
        return index if src == "entity" else index.flip(0)


@dataclass(frozen=True)
class NearestWordOf(EdgeRule):
    """Connects similar words to the first token of the word that they are neighbors of (MGCMT, eq. 2).

    ``edge_attr`` ``[edges, 1]`` is the cosine similarity of the two.
    """

    description = "every {src} word reaches the {dst} that it resembles"
    validate = False

    def connect(self, data: HeteroData, src: str, dst: str) -> EdgeSet:
        """Return the edges from similar words to tokens, with cosines.

        Raises:
            ValueError: for other node types.
        """
        if (src, dst) != ("similar", "token"):
            raise ValueError(f"NearestWordOf joins similar to token, not {src} to {dst}")
        similar = data["similar"]
        first_tokens = data["token"].starts_word.nonzero()[:, 0]
        # words that are cut off (`Tokens.max_pieces`) have no token
        senders = (similar.word < len(first_tokens)).nonzero()[:, 0]
        index = torch.stack([senders, first_tokens[similar.word[senders]]])
        return EdgeSet(index, edge_attr=similar.cosine[senders, None])


@dataclass(frozen=True)
class InEntity(EdgeRule):
    """Connects all nodes of a type and the tokens that lie in an entity (GEI without entity nodes)."""

    description = "{src}s and {dst}s are joined where the word lies in an entity"
    validate = False
    symmetric = True

    def connect(self, data: HeteroData, src: str, dst: str) -> Tensor:
        """Return the edges between tokens in entities and all nodes of the other type, ``[2, edges]``.

        Raises:
            ValueError: unless exactly one of the node types is ``token``.
        """
        if (src == "token") == (dst == "token"):
            raise ValueError(f"InEntity joins token and another node type, not {src} and {dst}")
        in_entity = _tokens_in_entities(data).any(0)
        index = _all_edges(num_nodes(data, src if dst == "token" else dst), len(in_entity))
        index = index[:, in_entity[index[1]]]
        return index if dst == "token" else index.flip(0)


def _tokens_in_entities(data: HeteroData) -> Tensor:
    """Return which token lies in which entity of its post, ``[entities, tokens]``, bool."""
    spans = torch.tensor(pair_of(data).entities, dtype=torch.long).reshape(-1, 2)
    word = data["token"].word
    return (word >= spans[:, :1]) & (word < spans[:, 1:])
