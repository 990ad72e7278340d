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

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import EdgeType, set_store, store_values
from mnergraph.graph.edge_rules import EdgeRule, EdgeSet


@dataclass(frozen=True)
class Relation:
    """Nodes of type ``src`` speak to nodes of type ``dst``, along the edges that ``kind`` draws."""

    src: str
    name: str
    dst: str
    rule: EdgeRule

    def __post_init__(self) -> None:
        if not isinstance(self.rule, EdgeRule) or not is_dataclass(self.rule):
            raise TypeError(
                f"the kind of {self} must be an instance of a frozen dataclass under Kind, as Complete() is, "
                f"not {self.rule!r}"
            )

    @property
    def key(self) -> EdgeType:
        return (self.src, self.name, self.dst)

    def connect(self, data: HeteroData) -> EdgeSet:
        """The relation's edges in one post.

        Raises:
            ValueError: when a user's kind returns something that is no index, leaves the post, joins a pair
                twice, or has not one kind or row of geometry per edge.
        """
        found = self.rule.connect(data, self.src, self.dst)
        found = found if isinstance(found, EdgeSet) else EdgeSet(found)
        if self.rule.validate:
            self._check(found, data)
        return found

    def _check(self, found: EdgeSet, data: HeteroData) -> None:
        where = f"{type(self.rule).__name__}.connect for {self}, post {data.pair.id!r}"
        index = found.edge_index
        if not isinstance(index, Tensor):
            raise ValueError(f"{where}: expected int64 [2, edges], got a {type(index).__name__}; `pairs` makes it")
        if index.dim() != 2 or index.shape[0] != 2 or index.dtype != torch.long:
            raise ValueError(
                f"{where}: expected int64 [2, edges], got {index.dtype} {list(index.shape)}; `pairs` makes it"
            )
        for row, kind in zip(index, (self.src, self.dst), strict=True):
            nodes = data[kind].num_nodes
            if row.numel() and not (int(row.min()) >= 0 and int(row.max()) < nodes):
                raise ValueError(f"{where}: rows {int(row.min())} to {int(row.max())}, but {nodes} {kind} nodes")
        if index.unique(dim=1).shape[1] != index.shape[1]:
            raise ValueError(f"{where}: a pair is joined twice")
        for name, values in (("type", found.edge_type), ("attr", found.edge_attr)):
            if values is not None and len(values) != index.shape[1]:
                raise ValueError(f"{where}: {len(values)} rows of {name} for {index.shape[1]} edges")

    def __str__(self) -> str:
        return f"({self.src}, {self.name}, {self.dst})"


class Schema:
    """Node types and the relations among them.

    >>> from mnergraph.graph import Complete, Grounded, Relation, Schema
    >>> text = Schema([Relation("token", "attends", "token", Complete())])
    >>> print(text | Schema([Relation("object", "grounds", "token", Grounded())]))
    Nodes: token, object.
    (token, attends, token): every token reaches every token.
    (object, grounds, token): objects and tokens are joined where a phrase grounds the object, ...

    Args:
        relations: the relations, no name of (src, name, dst) twice.
        nodes: node types that no relation names.
        tags: the node type whose nodes carry the tags.
    """

    def __init__(self, relations: Iterable[Relation] = (), *, nodes: Iterable[str] = (), tags: str = "token") -> None:
        relations = list(relations)
        self.relations = {relation.key: relation for relation in relations}
        if len(self.relations) != len(relations):
            raise ValueError(f"a relation stands twice among {', '.join(map(str, relations))}")
        named = (kind for relation in relations for kind in (relation.src, relation.dst))
        self.nodes = tuple(dict.fromkeys([tags, *named, *nodes]))
        self.tags = tags
        self._mirrored: dict[EdgeType, EdgeType] = {}
        for place, relation in enumerate(relations):
            for earlier in relations[:place]:
                turned = (earlier.dst, earlier.src, earlier.rule) == (
                    relation.src,
                    relation.dst,
                    relation.rule,
                )
                if turned and relation.src != relation.dst and relation.rule.symmetric:
                    self._mirrored[relation.key] = earlier.key

    def __iter__(self) -> Iterator[Relation]:
        return iter(self.relations.values())

    def __getitem__(self, key: EdgeType) -> Relation:
        try:
            return self.relations[key]
        except KeyError:
            raise KeyError(f"{key} is not in the schema, which has {', '.join(map(str, self))}") from None

    def __or__(self, other: Schema) -> Schema:
        """Both schemas together; a relation of the same name must be of the same kind in both."""
        for relation in other:
            mine = self.relations.get(relation.key)
            if mine is not None and mine.rule != relation.rule:
                raise ValueError(f"{relation} is {mine.rule} in one schema and {relation.rule} in the other")
        if self.tags != other.tags:
            raise ValueError(f"one schema tags {self.tags}, the other {other.tags}")
        merged = self.relations | other.relations
        return Schema(merged.values(), nodes=(*self.nodes, *other.nodes), tags=self.tags)

    def without(self, *keys: EdgeType) -> Schema:
        """The schema less these relations: what an ablation needs."""
        dropped = {self[key].key for key in keys}
        return Schema([r for r in self if r.key not in dropped], nodes=self.nodes, tags=self.tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.to_dict() == other.to_dict()

    def metadata(self) -> tuple[list[str], list[EdgeType]]:
        """Node types and edge types, as PyG's layers want them, without any data."""
        return list(self.nodes), list(self.relations)

    def connect(self, data: HeteroData, *, every: bool = False) -> None:
        """Writes the relations' edge stores into one post's graph: complete ones only if ``every``."""
        for relation in self:
            if relation.rule.fully_connected and not every:
                continue
            mirror = self._mirrored.get(relation.key)
            if mirror is None:
                found = relation.connect(data)
            else:
                found = EdgeSet(store_values(data, mirror)["edge_index"].flip(0))
            held = {"edge_index": found.edge_index, "edge_type": found.edge_type, "edge_attr": found.edge_attr}
            set_store(data, relation.key, {name: value for name, value in held.items() if value is not None})

    def materialize(self, data: HeteroData) -> HeteroData:
        """A copy of one post's graph with every edge of every relation written out.

        For networkx, for PyG's own layers, and for proofs; training never needs it.
        """
        copied = data.clone()
        self.connect(copied, every=True)
        return copied

    def unreachable_relations(self, rounds: int = 0) -> list[Relation]:
        """The relations that can't reach the tags.

        A message that is sent while ``rounds`` more rounds of message passing are to come needs a path of at
        most that many relations from its receiver to a tagged node. With 0 it is the last round: only what
        tagged nodes receive counts, and parameters on any other relation would never learn.
        """
        distance = self._distance_to_tags()
        return [r for r in self if distance.get(r.dst, rounds + 1) > rounds]

    def _distance_to_tags(self) -> dict[str, int]:
        """Relations on the shortest way from each node type to the tagged one."""
        distance, waiting = {self.tags: 0}, deque([self.tags])
        while waiting:
            here = waiting.popleft()
            for relation in self:
                if relation.dst == here and relation.src not in distance:
                    distance[relation.src] = distance[here] + 1
                    waiting.append(relation.src)
        return distance

    def __str__(self) -> str:
        lines = [f"Nodes: {', '.join(self.nodes)}."]
        deaf = {relation.key for relation in self.unreachable_relations(len(self.nodes))}
        for relation in self:
            words = {"src": relation.src, "dst": relation.dst, **asdict(relation.rule)}
            note = " It cannot reach the tags." if relation.key in deaf else ""
            lines.append(f"{relation}: {relation.rule.description.format(**words)}.{note}")
        return "\n".join(lines)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """The schema as plain JSON data."""
        relations = [
            {
                "src": r.src,
                "name": r.name,
                "dst": r.dst,
                "kind": type(r.rule).__name__,
                "settings": asdict(r.rule),
            }
            for r in self
        ]
        return {"tags": self.tags, "nodes": list(self.nodes), "relations": relations}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Schema:
        """The schema of `to_dict`; a kind of your own must be imported before."""
        known = _kinds()
        relations = []
        for entry in saved["relations"]:
            kind = entry["kind"]
            if kind not in known:
                raise ValueError(f"relation kind {kind!r} is not known; imported: {', '.join(sorted(known))}")
            made = known[kind](**entry["settings"])
            relations.append(Relation(entry["src"], entry["name"], entry["dst"], made))
        return cls(relations, nodes=saved["nodes"], tags=saved["tags"])


def _kinds() -> dict[str, type[EdgeRule]]:
    """Every kind that has been imported, by name."""
    found, waiting = {}, EdgeRule.__subclasses__()
    while waiting:
        kind = waiting.pop()
        found[kind.__name__] = kind
        waiting += kind.__subclasses__()
    return found
