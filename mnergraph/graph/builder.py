"""A pair becomes one HeteroData that holds every store of the schema, also empty ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from torch_geometric.data import HeteroData

from mnergraph.graph.collate import set_pair, set_store, store_values
from mnergraph.graph.context import CONTEXT, ContextWords
from mnergraph.graph.evidence_kinds import lacking
from mnergraph.graph.node_types import DEFAULT_NODE_TYPES, NodeType, Tokenizer, Tokens
from mnergraph.graph.schema import Schema
from mnergraph.pair import Pair

#: Pairs whose unknown words go through the tokenizer in one call, half of whose time is spent on the call itself.
TOKENIZED_PAIRS = 16


class GraphBuilder:
    """Creates the graph of a pair: the nodes of every type of the schema, then the edges of its relations.

    Edges of fully connected relations are not stored. The pair is kept as ``data.pair``.

    Args:
        schema: the node types and relations.
        node_types: the objects that create the nodes of each type; for ``token``, ``object``, ``image``, ``entity``,
            ``similar`` and ``sentence`` the defaults of `mnergraph.graph.node_types` fill in.
        evidence: kinds of evidence (`mnergraph.graph.evidence_kinds`) that `missing` reports besides those that node
            types and edge rules need.

    Attributes:
        node_types: by name, in the order in which nodes are created.

    Raises:
        ValueError: for a node type of the schema without an object that creates it, or with two.
    """

    def __init__(self, schema: Schema, node_types: Iterable[NodeType] = (), *, evidence: Sequence[str] = ()) -> None:
        given: dict[str, NodeType] = {}
        for node_type in node_types:
            if node_type.name in given:
                raise ValueError(f"two node types make {node_type.name!r} nodes: give one")
            given[node_type.name] = node_type
        for name in schema.nodes:
            if name in DEFAULT_NODE_TYPES:
                given.setdefault(name, DEFAULT_NODE_TYPES[name]())
        created = {*given, *(name for node_type in given.values() for name in node_type.subtypes)}
        missing = [name for name in schema.nodes if name not in created]
        if missing:
            raise ValueError(
                f"nothing makes the nodes of {', '.join(map(repr, missing))}: give node_types=[...] an object of your "
                f"NodeType, or CreatedNodes({missing[0]!r}) if a layer creates them in the forward pass"
            )
        unknown = [name for name in given if name not in schema.nodes]
        if unknown:
            raise ValueError(
                f"the schema has no {', '.join(map(repr, unknown))} nodes; it has {', '.join(schema.nodes)}. Name "
                "them in a relation, or in Schema(nodes=[...])"
            )
        self.schema, self.evidence = schema, tuple(evidence)
        self.node_types: Mapping[str, NodeType] = {name: given[name] for name in schema.nodes if name in given}
        self._types = list(self.node_types.values())
        self._loaded = [t for t in self._types if type(t).load is not NodeType.load]

    def __call__(self, pair: Pair) -> HeteroData:
        """Return the graph of a pair.

        Raises:
            ValueError: for features of another size than the node types expect, or a label that is not in the
                label set; the message names the post.
        """
        return self.load_image_tensors(self.build(pair))

    def build(self, pair: Pair) -> HeteroData:
        """Return the graph without what `load_image_tensors` adds, which is too large to keep for many pairs."""
        for node_type in self._types:
            pair = node_type.prepare(pair)
        data = HeteroData()
        set_pair(data, pair)
        for node_type in self._types:
            node_type.add_to(data, pair)
        self.schema.connect(data)
        return data

    def load_image_tensors(self, data: HeteroData) -> HeteroData:
        """Return the graph with objects' pixels and the image's features in memory; the given one is unchanged."""
        loaded = {node_type.name: node_type.load(data) or {} for node_type in self._loaded}
        changed = {name: values for name, values in loaded.items() if _differs(values, store_values(data, name))}
        if not changed:
            return data
        complete = copy.copy(data)
        for name, values in changed.items():
            set_store(complete, name, {**store_values(data, name), **values})
        return complete

    def build_all(self, pairs: Iterable[Pair]) -> list[HeteroData]:
        """Return the graphs of many pairs."""
        return [self(pair) for pair in pairs]

    def length(self, pair: Pair) -> int:
        """Return the number of pieces of a pair's words and context, or of its words where there are no pieces."""
        context, tokenizer = self.node_types.get(CONTEXT), self._tokenizer
        try:
            more = context.length(pair) if isinstance(context, ContextWords) else 0
            return more + (len(pair.words) if tokenizer is None else sum(map(len, tokenizer(pair.words))))
        except (TypeError, UnicodeError):  # half a surrogate pair, of which `build` says more
            return len(pair.words)

    def lengths(self, pairs: Sequence[Pair]) -> list[int]:
        """Return the `length` of every pair; unknown words of several pairs are tokenized in one call."""
        if self._tokenizer is not None:
            for begin in range(0, len(pairs), TOKENIZED_PAIRS):
                words = [word for pair in pairs[begin : begin + TOKENIZED_PAIRS] for word in pair.words]
                with suppress(TypeError, UnicodeError):  # as above; the other pairs are then tokenized one by one
                    self._tokenizer(words)
        return [self.length(pair) for pair in pairs]

    @property
    def _tokenizer(self) -> Tokenizer | None:
        tokens = self.node_types["token"]
        return tokens.tokenizer if isinstance(tokens, Tokens) else None

    def batch_cost(self, pair: Pair) -> int:
        """Return what a pair's nodes take of a batch besides its text, in pieces; see `NodeType.batch_cost`."""
        return sum(node_type.batch_cost(pair) for node_type in self._types)

    def missing(self, pair: Pair) -> tuple[str, ...]:
        """Return the kinds of evidence that the schema reads and the pair lacks, each once.

        See `NodeType.missing` and `EdgeRule.missing`; what a model's ablation leaves out is not among them.
        """
        rules = dict.fromkeys(relation.rule for relation in self.schema)
        kinds = [kind for node_type in self._types for kind in node_type.missing(pair)]
        kinds += [kind for rule in rules for kind in rule.missing(pair)]
        return tuple(dict.fromkeys([*kinds, *lacking(pair, *self.evidence)]))


def _differs(values: Mapping[str, Any], store: Mapping[str, Any]) -> bool:
    """Return whether a store would change by these values; features that are in memory as float32 are as they were."""
    return any(store.get(name) is not value for name, value in values.items())
