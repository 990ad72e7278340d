"""A post's graph as a networkx graph, with what a model weighed on its edges."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from math import isnan
from statistics import fmean
from typing import Any

import networkx as nx
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from mnergraph.graph import EdgeType, Pair, Schema
from mnergraph.graph.kinds import Kind
from mnergraph.graph.stores import fill
from mnergraph.insight.carry import rows, shapes
from mnergraph.insight.describe import describe_edge, describe_nodes
from mnergraph.insight.recorder import record_attention
from mnergraph.insight.weights import PostRecord
from mnergraph.models import Entity, Tagger


def attention_graph(model: Tagger, pair: Pair) -> nx.MultiDiGraph:
    """What the model sees of a post: every node and edge, what each layer weighs, and the entities found.

    Args:
        model: the model; the post is read in evaluation mode.
        pair: the post, with the features that the model reads.
    """
    with record_attention(model) as record:
        (entities,) = model.predict([pair])
    return to_networkx(model.builder(pair), model.schema, record=record.posts[0], entities=entities)


def to_networkx(
    data: HeteroData,
    schema: Schema | None = None,
    *,
    record: PostRecord | None = None,
    entities: Sequence[Entity] = (),
) -> nx.MultiDiGraph:
    """One post's graph as a networkx graph; two nodes have an edge for each relation that joins them.

    A node is named by type and place, ``"token 3"``, and an edge's key is the relation's name. Of the
    attributes named here a node or edge has those that it can:

    - every node: ``type``, ``index``; ``mean_gate``, by layer; ``features``, its row of the store's tensors
    - token: ``word``, ``tag`` (gold), ``entity`` and ``entity_score`` (predicted)
    - object: ``label``, ``box``, ``score``, ``span`` (the words that ground it); image: ``picture``
    - entity: ``span``, ``word``; merged nodes: ``stands_for``, another node's name
    - every edge: ``relation``; ``index``, its place in the relation; ``kind``, such as ``"Complete"``;
      ``features``; of a spatial one ``label``, ``distance``, ``angle``
    - weighed edges: by layer ``attention``, a list of the heads' weights, or ``mean_gate``; ``weight``, the
      mean of all these, which networkx's algorithms read by that name

    All values are JSON's, so ``networkx.node_link_data`` exports the graph; for GraphML see `plain`.

    Args:
        data: the graph of one post, as `GraphBuilder` makes it.
        schema: names the relations' kinds, and says which are complete: those are not stored, and without
            the schema their edges are missing.
        record: what a model weighed in this post. Nodes that it grew replace those of their type.
        entities: what it found.

    Raises:
        ValueError: for a batch, for the record of another post, or for what networkx could not carry back.
        KeyError: when the record weighs an edge that is not there.
    """
    held = {} if isinstance(data, Batch) else data._global_store._mapping
    if isinstance(data, Batch) or held.keys() - {"pair"}:
        what = "a batch" if isinstance(data, Batch) else f"a graph that itself holds {', '.join(held)}"
        raise ValueError(f"to_networkx takes the graph of one post, not {what}; GraphBuilder makes it")
    pair: Pair | None = held.get("pair")
    if record is not None:
        if pair is None or record.pair.words != pair.words:
            raise ValueError(f"the record is of the post {' '.join(record.pair.words)!r}, not of this one")
        data = _with_grown(data, record)
    complete = _complete(data, schema)
    kinds = {} if schema is None else {relation.key: relation.kind for relation in schema}

    graph = nx.MultiDiGraph(
        pair=None if pair is None else pair.to_dict(),
        node_stores=[[store._key, shapes(store._mapping)] for store in data.node_stores],
        edge_stores=[[list(store._key), shapes(store._mapping)] for store in data.edge_stores],
        complete=[list(key) for key in complete],
    )
    for store in data.node_stores:
        _add_nodes(graph, data, store._key, record, entities)
    for store in data.edge_stores:
        _add_edges(graph, store._key, store._mapping, kinds)
    for key, index in complete.items():
        _add_edges(graph, key, {"edge_index": index}, kinds)
    if record is not None:
        _add_weights(graph, record)
    return graph


def _add_nodes(
    graph: nx.MultiDiGraph,
    data: HeteroData,
    kind: str,
    record: PostRecord | None,
    entities: Sequence[Entity],
) -> None:
    store = data[kind]
    features = rows(store._mapping, store.num_nodes, kind)
    told: list[dict[str, Any]] = [{}] * len(features)
    if "pair" in data._global_store._mapping:
        told = describe_nodes(data, kind, record=record, entities=entities)
    for place, (words, row) in enumerate(zip(told, features, strict=True)):
        graph.add_node(f"{kind} {place}", type=kind, index=place, **words, features=row)


def _add_edges(
    graph: nx.MultiDiGraph, key: EdgeType, values: Mapping[str, Any], kinds: Mapping[EdgeType, Kind]
) -> None:
    src, relation, dst = key
    index = values["edge_index"].t().tolist()
    for place, ((sender, receiver), row) in enumerate(zip(index, rows(values, len(index), key), strict=True)):
        ends = f"{src} {sender}", f"{dst} {receiver}"
        name = f"{relation} #{place}" if graph.has_edge(*ends, relation) else relation
        told = describe_edge(kinds.get(key), row)
        graph.add_edge(*ends, name, relation=relation, index=place, **told, features=row)


def _add_weights(graph: nx.MultiDiGraph, record: PostRecord) -> None:
    """Every layer's weights, on the edges and nodes that they are of."""
    for gates in record.gates:
        for place, value in enumerate(gates.values.tolist()):
            if not isnan(value):
                graph.nodes[f"{gates.kind} {place}"].setdefault("mean_gate", {})[gates.layer] = value
    for found in record.weights:
        src, relation, dst = found.relation
        for (sender, receiver), heads in zip(found.index.t().tolist(), found.weights.tolist(), strict=True):
            ends = f"{src} {sender}", f"{dst} {receiver}", relation
            if not graph.has_edge(*ends):
                raise KeyError(
                    f"layer {found.layer} weighed {ends}, which is no edge of the graph; give the schema, "
                    "which says what complete relations join"
                )
            edge = graph.edges[ends]
            if found.what == "attention":
                edge.setdefault("attention", {})[found.layer] = heads
            else:
                edge.setdefault("mean_gate", {})[found.layer] = heads[0]
            edge.setdefault("weight", []).extend(heads)
    for _, _, edge in graph.edges(data=True):
        if "weight" in edge:
            edge["weight"] = fmean(edge["weight"])


def _with_grown(data: HeteroData, record: PostRecord) -> HeteroData:
    """The post with the nodes and edges that the model grew in place of those that it was given."""
    grown = copy.copy(data)
    for kind, count in record.nodes.items():
        if kind not in data.node_types or data[kind].num_nodes != count:
            fill(grown, kind, {"num_nodes": count})
    for relation, index in record.grown.items():
        fill(grown, relation, {"edge_index": index})
    return grown


def _complete(data: HeteroData, schema: Schema | None) -> dict[EdgeType, Tensor]:
    """The edges of the complete relations that the data does not store."""
    return {
        relation.key: relation.connect(data).index
        for relation in schema or ()
        if relation.kind.complete and relation.key not in data.edge_types
    }
