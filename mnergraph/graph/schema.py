"""Schemas: the node types of a graph and the relations among them."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, is_dataclass
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph.collate import EdgeType, pair_of, set_store, store_values
from mnergraph.graph.edge_rules import EdgeRule, EdgeSet


@dataclass(frozen=True)
class Relation:
    """An edge type: nodes of type ``src`` send messages to nodes of type ``dst``.

    Args:
        src: source node type.
        name: the relation's name; ``(src, name, dst)`` identifies it.
        dst: target node type.
        rule: which nodes of a post it connects.

    Raises:
        TypeError: for a rule that is not an instance of a frozen dataclass under `EdgeRule`.
    """

    src: str
    name: str
    dst: str
    rule: EdgeRule

    def __post_init__(self) -> None:
        if not isinstance(self.rule, EdgeRule) or not is_dataclass(self.rule):
            raise TypeError(
                f"the rule of {self} must be an instance of a frozen dataclass under EdgeRule, as Complete() is, "
                f"not {self.rule!r}"
            )

    @property
    def key(self) -> EdgeType:
        """The edge type as PyG writes it, ``(src, name, dst)``."""
        return (self.src, self.name, self.dst)

    def connect(self, data: HeteroData) -> EdgeSet:
        """Return the relation's edges in one post.

        Raises:
            ValueError: when the rule returns no valid edge index, or an edge twice, or not one edge type or row of
                edge features per edge.
        """
        edges = self.rule.connect(data, self.src, self.dst)
        edges = edges if isinstance(edges, EdgeSet) else EdgeSet(edges)
        if self.rule.validate:
            self._check(edges, data)
        return edges

    def _check(self, edges: EdgeSet, data: HeteroData) -> None:
        where = f"{type(self.rule).__name__}.connect for {self}, post {pair_of(data).id!r}"
        index, expected = edges.edge_index, "expected int64 [2, edges], as edge_index_from returns"
        if not isinstance(index, Tensor):
            raise ValueError(f"{where}: {expected}, got a {type(index).__name__}")
        if index.dim() != 2 or index.shape[0] != 2 or index.dtype != torch.long:
            raise ValueError(f"{where}: {expected}, got {index.dtype} {list(index.shape)}")
        for row, node_type in zip(index, (self.src, self.dst), strict=True):
            nodes = data[node_type].num_nodes
            if row.numel() and not (int(row.min()) >= 0 and int(row.max()) < nodes):
                raise ValueError(f"{where}: rows {int(row.min())} to {int(row.max())}, but {nodes} {node_type} nodes")
        if index.unique(dim=1).shape[1] != index.shape[1]:
            raise ValueError(f"{where}: an edge occurs twice")
        for name, values in (("edge_type", edges.edge_type), ("edge_attr", edges.edge_attr)):
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
        relations: the relations, each ``(src, name, dst)`` once.
        nodes: further node types, without relations.
        tags: the node type whose nodes have the tags.

    Attributes:
        relations: by ``(src, name, dst)``, in the order given.
        nodes: all node types, the one of the tags first.

    Raises:
        ValueError: when a relation is given twice.
    """

    def __init__(self, relations: Iterable[Relation] = (), *, nodes: Iterable[str] = (), tags: str = "token") -> None:
        relations = list(relations)
        self.relations = {relation.key: relation for relation in relations}
        if len(self.relations) != len(relations):
            raise ValueError(f"a relation is given twice among {', '.join(map(str, relations))}")
        ends = (node_type for relation in relations for node_type in (relation.src, relation.dst))
        self.nodes = tuple(dict.fromkeys([tags, *ends, *nodes]))
        self.tags = tags
        # relations with a symmetric rule whose edges are those of an earlier relation, reversed
        self._reversed: dict[EdgeType, EdgeType] = {}
        for index, relation in enumerate(relations):
            for earlier in relations[:index]:
                is_reverse = (earlier.dst, earlier.src, earlier.rule) == (relation.src, relation.dst, relation.rule)
                if is_reverse and relation.src != relation.dst and relation.rule.symmetric:
                    self._reversed[relation.key] = earlier.key

    def __iter__(self) -> Iterator[Relation]:
        return iter(self.relations.values())

    def __getitem__(self, key: EdgeType) -> Relation:
        try:
            return self.relations[key]
        except KeyError:
            raise KeyError(f"{key} is not in the schema, which has {', '.join(map(str, self))}") from None

    def __or__(self, other: Schema) -> Schema:
        """Return the union of both schemas.

        Raises:
            ValueError: when a relation has different rules in the two, or the tagged node types differ.
        """
        for relation in other:
            own = self.relations.get(relation.key)
            if own is not None and own.rule != relation.rule:
                raise ValueError(f"{relation} is {own.rule} in one schema and {relation.rule} in the other")
        if self.tags != other.tags:
            raise ValueError(f"one schema tags {self.tags}, the other {other.tags}")
        merged = self.relations | other.relations
        return Schema(merged.values(), nodes=(*self.nodes, *other.nodes), tags=self.tags)

    def without(self, *keys: EdgeType) -> Schema:
        """Return the schema without these relations, as for an ablation.

        Raises:
            KeyError: for a relation that the schema does not have.
        """
        dropped = {self[key].key for key in keys}
        return Schema([r for r in self if r.key not in dropped], nodes=self.nodes, tags=self.tags)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.to_dict() == other.to_dict()

    def metadata(self) -> tuple[list[str], list[EdgeType]]:
        """Return node types and edge types, as ``HeteroData.metadata()`` does, without data."""
        return list(self.nodes), list(self.relations)

    def connect(self, data: HeteroData, *, include_complete: bool = False) -> None:
        """Add the edge stores of the relations to one post's graph.

        Args:
            data: the graph, with all its nodes.
            include_complete: whether edges of fully connected relations are stored, too.
        """
        for relation in self:
            if relation.rule.fully_connected and not include_complete:
                continue
            earlier = self._reversed.get(relation.key)
            if earlier is None:
                edges = relation.connect(data)
            else:
                edges = EdgeSet(store_values(data, earlier)["edge_index"].flip(0))
            store = {"edge_index": edges.edge_index, "edge_type": edges.edge_type, "edge_attr": edges.edge_attr}
            set_store(data, relation.key, {name: value for name, value in store.items() if value is not None})

    def materialize(self, data: HeteroData) -> HeteroData:
        """Return a copy of one post's graph with the edges of fully connected relations stored, too.

        For networkx, PyG's layers and tests; the layers of this package do not need them.
        """
        copied = data.clone()
        self.connect(copied, include_complete=True)
        return copied

    def unreachable_relations(self, rounds: int = 0) -> list[Relation]:
        """Return the relations whose messages cannot influence the tags.

        A message influences the tags only if its target node type is at most ``rounds`` relations away from the
        tagged one. Parameters of any other relation get no gradient.

        Args:
            rounds: rounds of message passing after the one in which the message is sent; 0 for the last one.
        """
        distance = self._distance_to_tags()
        return [r for r in self if distance.get(r.dst, rounds + 1) > rounds]

    def _distance_to_tags(self) -> dict[str, int]:
        """Return the number of relations on the shortest path from each node type to the tagged one."""
        distance, waiting = {self.tags: 0}, deque([self.tags])
        while waiting:
            node_type = waiting.popleft()
            for relation in self:
                if relation.dst == node_type and relation.src not in distance:
                    distance[relation.src] = distance[node_type] + 1
                    waiting.append(relation.src)
        return distance

    def __str__(self) -> str:
        lines = [f"Nodes: {', '.join(self.nodes)}."]
        unreachable = {relation.key for relation in self.unreachable_relations(len(self.nodes))}
        for relation in self:
            words = {"src": relation.src, "dst": relation.dst, **asdict(relation.rule)}
            note = " It cannot reach the tags." if relation.key in unreachable else ""
            lines.append(f"{relation}: {relation.rule.description.format(**words)}.{note}")
        return "\n".join(lines)

    __repr__ = __str__

    def to_dict(self) -> dict[str, Any]:
        """Return the schema as plain JSON data; edge rules by `rule_name` and fields."""
        relations = [
            {"src": r.src, "name": r.name, "dst": r.dst, "rule": rule_name(type(r.rule)), "settings": asdict(r.rule)}
            for r in self
        ]
        return {"tags": self.tags, "nodes": list(self.nodes), "relations": relations}

    @classmethod
    def from_dict(cls, saved: dict[str, Any]) -> Schema:
        """Return the schema that `to_dict` saved. The module of a rule of your own must be imported before.

        Schemas saved by version 0.1 have ``kind``, the class name without its module, for ``rule``.

        Raises:
            ValueError: for an edge rule that is not imported, or a name that two imported rules have.
        """
        relations = []
        for entry in saved["relations"]:
            rule = _find_rule(entry["rule"]) if "rule" in entry else _find_rule_by_class_name(entry["kind"])
            relations.append(Relation(entry["src"], entry["name"], entry["dst"], rule(**entry["settings"])))
        return cls(relations, nodes=saved["nodes"], tags=saved["tags"])


def rule_name(rule: type[EdgeRule]) -> str:
    """Return the name by which schemas save an edge rule: ``Complete``, and ``module:Class`` outside this package."""
    return rule.__qualname__ if _is_ours(rule) else f"{rule.__module__}:{rule.__qualname__}"


def _is_ours(rule: type[EdgeRule]) -> bool:
    return rule.__module__.partition(".")[0] == __name__.partition(".")[0]


def _find_rule(name: str) -> type[EdgeRule]:
    imported = _imported_rules()
    matching = [rule for rule in imported if rule_name(rule) == name]
    if not matching:
        names = ", ".join(sorted({rule_name(rule) for rule in imported}))
        raise ValueError(f"edge rule {name!r} is not imported; imported: {names}. Import the module that defines it")
    return _only(matching, name)


def _find_rule_by_class_name(name: str) -> type[EdgeRule]:
    """Return the rule of this package with the name, or else the only other one, as version 0.1 saved it."""
    matching = [rule for rule in _imported_rules() if rule.__name__ == name]
    return _only([rule for rule in matching if _is_ours(rule)] or matching, name) if matching else _find_rule(name)


def _only(rules: list[type[EdgeRule]], name: str) -> type[EdgeRule]:
    if len(rules) > 1:
        raise ValueError(
            f"edge rule {name!r} is ambiguous: {len(rules)} classes have the name "
            f"({', '.join(f'{rule.__module__}:{rule.__qualname__}' for rule in rules)}); rename all but one"
        )
    return rules[0]


def _imported_rules() -> list[type[EdgeRule]]:
    """Return every edge rule that has been imported."""
    rules, waiting = [], EdgeRule.__subclasses__()
    while waiting:
        rule = waiting.pop()
        rules.append(rule)
        waiting += rule.__subclasses__()
    return list(dict.fromkeys(rules))
