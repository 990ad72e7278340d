"""Conversion between a post's graph and networkx, with recorded attention weights on nodes and edges."""

from __future__ import annotations

import copy
import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from math import isnan
from statistics import fmean
from typing import Any

import networkx as nx
import torch
from torch import Tensor
from torch_geometric.data import Batch, HeteroData

from mnergraph.explain.node_labels import checked_describe
from mnergraph.explain.record import PairRecord
from mnergraph.explain.recorder import record_attention
from mnergraph.graph.box_geometry import SPATIAL_LABELS
from mnergraph.graph.collate import (
    EdgeType,
    graph_values,
    pair_of,
    set_pair,
    set_store,
    store_values,
    with_pair,
)
from mnergraph.graph.edge_rules import EdgeRule, Spatial
from mnergraph.graph.node_types import DEFAULT_NODE_TYPES, NodeType
from mnergraph.graph.schema import Schema
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: For each attribute of a store its dtype and the shape of a row; None for the number of nodes.
StoreSchema = dict[str, tuple[str, list[int]] | None]


def from_networkx(graph: nx.MultiDiGraph) -> HeteroData:
    """Return the HeteroData that a graph of `to_networkx` was made from, also after nodes or edges were removed.

    Fully connected relations are not stored again; nodes and edges keep their order. The pair has no feature
    tensors, as these are in the node stores, and only the objects whose nodes are in the graph.

    Args:
        graph: a graph of `to_networkx`, also one that was written and read as JSON or GraphML.

    Raises:
        ValueError: for a graph that `to_networkx` did not make, or with a node type or relation that the graph
            did not have when `to_networkx` made it.
    """
    if "node_stores" not in graph.graph:
        raise ValueError("the graph has no 'node_stores' attribute; from_networkx takes graphs of to_networkx")
    attributes = {name: _parsed(value) for name, value in graph.graph.items()}
    data = HeteroData()
    nodes = _by_index((row["type"], row["index"], node) for node, row in graph.nodes(data=True))
    if attributes["pair"] is not None:
        pair = Pair.from_dict(attributes["pair"])
        if "object" in dict(attributes["node_stores"]):
            kept = [graph.nodes[node]["index"] for node in nodes.get("object", [])]
            pair = replace(pair, objects=tuple(pair.objects[index] for index in kept))
        set_pair(data, pair)
    row_of: dict[str, int] = {}
    for node_type, schema in attributes["node_stores"]:
        of_type = nodes.pop(node_type, [])
        row_of |= {node: row for row, node in enumerate(of_type)}
        set_store(data, node_type, _tensors([graph.nodes[node] for node in of_type], schema))
    types = graph.nodes(data="type")
    edges = _by_index(
        ((types[edge[0]], row["relation"], types[edge[1]]), row["index"], edge)
        for *edge, row in graph.edges(keys=True, data=True)
    )
    for key, schema in attributes["edge_stores"]:
        of_type = edges.pop(tuple(key), [])
        ends = [(row_of[src], row_of[dst]) for src, dst, _ in of_type]
        index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t().contiguous()
        set_store(data, tuple(key), {"edge_index": index} | _tensors([graph.edges[edge] for edge in of_type], schema))
    unknown = [*nodes, *(edges.keys() - set(map(tuple, attributes["complete"])))]
    if unknown:
        raise ValueError(f"{', '.join(map(str, unknown))} was not in the graph at first; its stores are unknown")
    return data


def _by_index(rows: Iterable[tuple[Any, int, Any]]) -> dict[Any, list[Any]]:
    """Nodes by node type, or edges by relation, each sorted by index."""
    grouped: dict[Any, list[tuple[int, Any]]] = {}
    for key, index, value in rows:
        grouped.setdefault(key, []).append((index, value))
    return {key: [value for _, value in sorted(values, key=lambda it: it[0])] for key, values in grouped.items()}


def graphml_safe(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """Return a copy whose attributes are text, numbers and booleans alone, as ``networkx.write_graphml`` needs.

    Weights get an attribute each, ``attention 4.0`` for head 0 of layer 4; other lists become JSON text.
    Characters that XML forbids become U+FFFD.
    """
    copied = nx.MultiDiGraph(**_flat(graph.graph))
    for node, attributes in graph.nodes(data=True):
        copied.add_node(node, **_flat(attributes))
    for src, dst, key, attributes in graph.edges(keys=True, data=True):
        copied.add_edge(src, dst, key, **_flat(attributes))
    return copied


def store_schema(store: Mapping[str, Any]) -> StoreSchema:
    """Return dtype and row shape of every attribute of a store, from which `from_networkx` makes its tensors."""
    return {
        name: (str(x.dtype).removeprefix("torch."), list(x.shape[1:])) if isinstance(x, Tensor) else None
        for name, x in store.items()
        if name != "edge_index"
    }


def store_rows(store: Mapping[str, Any], count: int, key: str | EdgeType) -> list[dict[str, Any]]:
    """Return the rows of a store's tensors as plain numbers, one dict per node or edge.

    Args:
        store: the attributes of the store.
        count: number of nodes or edges.
        key: node type or edge type, for the error message.

    Raises:
        ValueError: for an attribute that is not a tensor with one row per node or edge.
    """
    lists: dict[str, list[Any]] = {}
    for name, x in store.items():
        if name in ("edge_index", "num_nodes"):
            continue
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) != count:
            raise ValueError(f"{name} of {key} is not a tensor with a row for each of the {count}")
        # strict JSON has no NaN and no infinity; float() reads them from text
        lists[name] = x.tolist() if x.isfinite().all() else _each(_finite_or_text, x.tolist())
    return [{name: values[row] for name, values in lists.items()} for row in range(count)]


def _tensors(nodes: Sequence[Mapping[str, Any]], schema: StoreSchema) -> dict[str, Any]:
    """The tensors of a store from the attributes of its nodes or edges in networkx."""
    features = [_parsed(attributes["features"]) for attributes in nodes]
    values: dict[str, Any] = {}
    for name, shape in schema.items():
        if shape is None:
            values[name] = len(nodes)
            continue
        dtype, tail = getattr(torch, shape[0]), shape[1]
        numbers = [row[name] for row in features]
        if dtype.is_floating_point:
            numbers = _each(float, numbers)
        values[name] = torch.tensor(numbers, dtype=dtype).reshape(len(nodes), *tail)
    return values


def _finite_or_text(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def _each(convert: Callable[[Any], Any], numbers: Any) -> Any:
    """Nested lists of numbers with every number converted."""
    return [_each(convert, inner) for inner in numbers] if isinstance(numbers, list) else convert(numbers)


def _parsed(value: Any) -> Any:
    """An attribute as it was before `graphml_safe` wrote it as JSON text."""
    return json.loads(value) if isinstance(value, str) else value


def _flat(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes as `graphml_safe` writes them."""
    flat: dict[str, Any] = {}
    for name, value in attributes.items():
        if name == "attention":
            for layer, heads in value.items():
                flat |= {f"{name} {layer}.{head}": weight for head, weight in enumerate(heads)}
        elif name == "mean_gate":
            flat |= {f"{name} {layer}": weight for layer, weight in value.items()}
        elif isinstance(value, str):
            flat[name] = _NO_XML.sub("\ufffd", value)
        else:
            flat[name] = value if isinstance(value, int | float) else json.dumps(value)
    return flat


_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def describe_nodes(
    data: HeteroData,
    node_type: str,
    *,
    node_types: Mapping[str, NodeType] | None = None,
    record: PairRecord | None = None,
    entities: Sequence[Entity] = (),
) -> list[dict[str, Any]]:
    """Return the attributes of every node of a type that plots and networkx graphs show (`NodeType.describe`).

    Args:
        data: the graph of one post, with its pair.
        node_type: the node type.
        node_types: the model's node types, for those of your own; by default those of this package.
        record: the post's record, with spans of entities created in the forward pass and the types that merged
            nodes were merged from.
        entities: the entities that the model predicted.

    Returns:
        one dict of JSON values per node.
    """
    data = with_pair(data)
    pair = pair_of(data)
    if node_type == "entity" and record is not None:
        return [{"span": list(span), "word": " ".join(pair.words[slice(*span)])} for span in record.spans()]
    merged = [] if record is None else record.merged_slices(node_type)[1:]
    if merged:
        return [
            {"stands_for": f"{part} {index}"} for part, nodes in merged for index in range(nodes.stop - nodes.start)
        ]
    known = node_types or {}
    if node_type in known:
        described = checked_describe(known[node_type], data)
    elif node_type in DEFAULT_NODE_TYPES:
        described = checked_describe(DEFAULT_NODE_TYPES[node_type](), data)
    else:
        described = [{} for _ in range(data[node_type].num_nodes)]
    if node_type == "token":
        described = [
            values | _predicted(word, entities)
            for values, word in zip(described, data["token"].word.tolist(), strict=True)
        ]
    return described


def _predicted(word: int, entities: Sequence[Entity]) -> dict[str, Any]:
    """The type and score of the entity that contains the word, and the object that shows it, if a model grounds it."""
    inside = [entity for entity in entities if entity.start <= word < entity.end]
    if not inside:
        return {}
    entity, region = inside[-1], inside[-1].region
    described = {"entity": entity.type, "entity_score": entity.score}
    if region is None:
        return described
    shown_by = "nowhere" if region.object is None else f"object {region.object}"
    return {**described, "shown_by": shown_by, "shown_by_probability": region.score}


def describe_edge(rule: EdgeRule | None, features: Mapping[str, Any]) -> dict[str, Any]:
    """Return the name of the edge rule (``kind``), and ``label`` and geometry of a spatial edge."""
    if rule is None:
        return {}
    described: dict[str, Any] = {"kind": type(rule).__name__}
    if isinstance(rule, Spatial):
        distance, angle = features["edge_attr"]
        described |= {"label": SPATIAL_LABELS[features["edge_type"]], "distance": distance, "angle": angle}
    return described


def attention_graph(model: Tagger, pair: Pair) -> nx.MultiDiGraph:
    """Return a post's graph in networkx with all nodes and edges, each layer's weights, and predicted entities.

    Args:
        model: the model; it predicts in evaluation mode.
        pair: the post, with the features that the model reads.
    """
    with record_attention(model) as record:
        (entities,) = model.predict([pair])
    data = model.builder(pair)
    node_types = model.builder.node_types
    return to_networkx(data, model.schema, node_types=node_types, record=record.posts[0], entities=entities)


def to_networkx(
    data: HeteroData,
    schema: Schema | None = None,
    *,
    node_types: Mapping[str, NodeType] | None = None,
    record: PairRecord | None = None,
    entities: Sequence[Entity] = (),
) -> nx.MultiDiGraph:
    """Return one post's graph as a networkx graph, with an edge for each relation between two nodes.

    A node is named by type and index, ``"token 3"``, and an edge's key is the relation's name. Nodes and edges have
    those of the following attributes that apply:

    - every node: ``type``, ``index``; ``mean_gate``, by layer; ``features``, its row of the store's tensors
    - token: ``word``, ``tag`` (gold), ``entity`` and ``entity_score`` (predicted); of a model that grounds entities
      ``shown_by``, the name of the object node that shows the entity or ``"nowhere"``, and ``shown_by_probability``
    - object: ``label``, ``box``, ``score``, ``span`` (the words that ground it); image: ``image_path``; a node type of
      your own: what its `NodeType.describe` returns
    - entity: ``span``, ``word``; merged nodes: ``stands_for``, another node's name
    - every edge: ``relation``; ``index`` within the relation; ``kind``, its edge rule, such as ``"Complete"``;
      ``features``; of a spatial edge ``label``, ``distance``, ``angle``
    - edges with weights: by layer ``attention``, a list of the heads' weights, or ``mean_gate``; ``weight``, the
      mean of all these, which networkx's algorithms read by that name

    All values are JSON values, so ``networkx.node_link_data`` exports the graph; for GraphML see `graphml_safe`.

    Args:
        data: the graph of one post, as `GraphBuilder` makes it.
        schema: the model's schema, with the edge rule of each relation. Edges of fully connected relations are not
            stored, so without the schema they are missing.
        node_types: the model's node types (``model.builder.node_types``), which describe nodes of your own types.
        record: the post's record. Nodes created during the forward pass replace those of their type.
        entities: the entities that the model predicted.

    Raises:
        ValueError: for a batch, for the record of another post, or for data that cannot be converted back.
        KeyError: when the record has weights of an edge that is not in the graph.
    """
    data = data if isinstance(data, Batch) else with_pair(data)
    values = {} if isinstance(data, Batch) else graph_values(data)
    if isinstance(data, Batch) or values.keys() - {"pair"}:
        what = "a batch" if isinstance(data, Batch) else f"a graph that itself holds {', '.join(values)}"
        raise ValueError(f"to_networkx takes the graph of one post, not {what}; GraphBuilder makes it")
    pair: Pair | None = values.get("pair")
    if record is not None:
        if pair is None or record.pair.words != pair.words:
            raise ValueError(f"the record is of the post {' '.join(record.pair.words)!r}, not of this one")
        data = _with_created(data, record)
    complete = _complete(data, schema)
    rules = {} if schema is None else {relation.key: relation.rule for relation in schema}

    graph = nx.MultiDiGraph(
        pair=None if pair is None else pair.to_dict(),
        node_stores=[[key, store_schema(store_values(data, key))] for key in data.node_types],
        edge_stores=[[list(key), store_schema(store_values(data, key))] for key in data.edge_types],
        complete=[list(key) for key in complete],
    )
    for key in data.node_types:
        described: list[dict[str, Any]] = [{} for _ in range(data[key].num_nodes)]
        if pair is not None:
            described = describe_nodes(data, key, node_types=node_types, record=record, entities=entities)
        _add_nodes(graph, data, key, described)
    for key in data.edge_types:
        _add_edges(graph, key, store_values(data, key), rules)
    for key, index in complete.items():
        _add_edges(graph, key, {"edge_index": index}, rules)
    if record is not None:
        _add_weights(graph, record)
    return graph


def _add_nodes(
    graph: nx.MultiDiGraph, data: HeteroData, node_type: str, described: Sequence[Mapping[str, Any]]
) -> None:
    features = store_rows(store_values(data, node_type), data[node_type].num_nodes, node_type)
    for index, (attributes, row) in enumerate(zip(described, features, strict=True)):
        graph.add_node(f"{node_type} {index}", type=node_type, index=index, **attributes, features=row)


def _add_edges(
    graph: nx.MultiDiGraph, key: EdgeType, values: Mapping[str, Any], rules: Mapping[EdgeType, EdgeRule]
) -> None:
    src_type, relation, dst_type = key
    pairs = values["edge_index"].t().tolist()
    for index, ((src, dst), row) in enumerate(zip(pairs, store_rows(values, len(pairs), key), strict=True)):
        ends = f"{src_type} {src}", f"{dst_type} {dst}"
        name = f"{relation} #{index}" if graph.has_edge(*ends, relation) else relation
        described = describe_edge(rules.get(key), row)
        graph.add_edge(*ends, name, relation=relation, index=index, **described, features=row)


def _add_weights(graph: nx.MultiDiGraph, record: PairRecord) -> None:
    """Add every layer's weights to the edges and nodes."""
    for gates in record.gates:
        for index, value in enumerate(gates.values.tolist()):
            if not isnan(value):
                graph.nodes[f"{gates.node_type} {index}"].setdefault("mean_gate", {})[gates.layer] = value
    for weights in record.weights:
        src_type, relation, dst_type = weights.relation
        for (src, dst), heads in zip(weights.index.t().tolist(), weights.weights.tolist(), strict=True):
            edge_key = f"{src_type} {src}", f"{dst_type} {dst}", relation
            if not graph.has_edge(*edge_key):
                raise KeyError(
                    f"layer {weights.layer} has a weight of {edge_key}, which is no edge of the graph; give the "
                    "schema, which has the fully connected relations"
                )
            edge = graph.edges[edge_key]
            if weights.what == "attention":
                edge.setdefault("attention", {})[weights.layer] = heads
            else:
                edge.setdefault("mean_gate", {})[weights.layer] = heads[0]
            edge.setdefault("weight", []).extend(heads)
    for _, _, edge in graph.edges(data=True):
        if "weight" in edge:
            edge["weight"] = fmean(edge["weight"])


def _with_created(data: HeteroData, record: PairRecord) -> HeteroData:
    """The graph with nodes and edges created during the forward pass in place of those it was built with."""
    complete = copy.copy(data)
    for node_type, count in record.nodes.items():
        if node_type not in data.node_types or data[node_type].num_nodes != count:
            set_store(complete, node_type, {"num_nodes": count})
    for relation, index in record.dynamic_edges.items():
        set_store(complete, relation, {"edge_index": index})
    return complete


def _complete(data: HeteroData, schema: Schema | None) -> dict[EdgeType, Tensor]:
    """The edges of fully connected relations, which the data does not store."""
    return {
        relation.key: relation.connect(data).edge_index
        for relation in schema or ()
        if relation.rule.fully_connected and relation.key not in data.edge_types
    }
