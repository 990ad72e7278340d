"""A post's graph as a networkx graph, with what a model weighed on its edges."""

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
)
from mnergraph.graph.edge_rules import EdgeRule, Spatial
from mnergraph.graph.node_types import DEFAULT_NODE_TYPES, NodeType
from mnergraph.graph.schema import Schema
from mnergraph.labels import Entity
from mnergraph.models.base import Tagger
from mnergraph.pair import Pair

#: Of one attribute its dtype and the shape of a row; None for the number of nodes.
Shapes = dict[str, tuple[str, list[int]] | None]


def from_networkx(graph: nx.MultiDiGraph) -> HeteroData:
    """The HeteroData that `to_networkx` was given, or what is left of it after nodes or edges were dropped.

    Complete relations come back as they were, not stored; nodes and edges keep their order. The pair comes
    back without its vectors, which stand in the nodes' own features, and without objects that were dropped.

    Args:
        graph: a graph of `to_networkx`, also one that was written and read as JSON or GraphML.

    Raises:
        ValueError: for a graph that `to_networkx` did not make, and for a node type or relation that the
            graph did not have at first.
    """
    if "node_stores" not in graph.graph:
        raise ValueError("the graph tells nothing of its stores; from_networkx takes graphs of to_networkx")
    told = {name: _parsed(value) for name, value in graph.graph.items()}
    data = HeteroData()
    nodes = _by_index((row["type"], row["index"], node) for node, row in graph.nodes(data=True))
    if told["pair"] is not None:
        pair = Pair.from_dict(told["pair"])
        if "object" in dict(told["node_stores"]):
            left = [graph.nodes[node]["index"] for node in nodes.get("object", [])]
            pair = replace(pair, objects=tuple(pair.objects[place] for place in left))
        set_pair(data, pair)
    place: dict[str, int] = {}
    for kind, shape in told["node_stores"]:
        mine = nodes.pop(kind, [])
        place |= {node: row for row, node in enumerate(mine)}
        set_store(data, kind, _tensors([graph.nodes[node] for node in mine], shape))
    types = graph.nodes(data="type")
    edges = _by_index(
        ((types[edge[0]], row["relation"], types[edge[1]]), row["index"], edge)
        for *edge, row in graph.edges(keys=True, data=True)
    )
    for key, shape in told["edge_stores"]:
        mine = edges.pop(tuple(key), [])
        ends = [(place[sender], place[receiver]) for sender, receiver, _ in mine]
        index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t().contiguous()
        set_store(data, tuple(key), {"edge_index": index} | _tensors([graph.edges[edge] for edge in mine], shape))
    strange = [*nodes, *(edges.keys() - set(map(tuple, told["complete"])))]
    if strange:
        raise ValueError(f"{', '.join(map(str, strange))} was not in the graph at first; its stores are unknown")
    return data


def _by_index(found: Iterable[tuple[Any, int, Any]]) -> dict[Any, list[Any]]:
    """By type the nodes, by relation the edges, each in the order of their index."""
    grouped: dict[Any, list[tuple[int, Any]]] = {}
    for key, index, thing in found:
        grouped.setdefault(key, []).append((index, thing))
    return {key: [thing for _, thing in sorted(things, key=lambda it: it[0])] for key, things in grouped.items()}


def plain(graph: nx.MultiDiGraph) -> nx.MultiDiGraph:
    """A copy whose attributes are text, numbers and truth values alone, as ``networkx.write_graphml`` needs.

    Weights get an attribute each, ``attention 4.0`` for head 0 of layer 4; other lists become JSON text.
    Characters that XML forbids become U+FFFD.
    """
    copied = nx.MultiDiGraph(**_flat(graph.graph))
    for node, told in graph.nodes(data=True):
        copied.add_node(node, **_flat(told))
    for sender, receiver, key, told in graph.edges(keys=True, data=True):
        copied.add_edge(sender, receiver, key, **_flat(told))
    return copied


def shapes(store: Mapping[str, Any]) -> Shapes:
    """What it takes to make the store's tensors again, be there rows or none."""
    return {
        name: (str(x.dtype).removeprefix("torch."), list(x.shape[1:])) if isinstance(x, Tensor) else None
        for name, x in store.items()
        if name != "edge_index"
    }


def rows(store: Mapping[str, Any], count: int, kind: str | EdgeType) -> list[dict[str, Any]]:
    """The tensors' rows as plain numbers, one dictionary for each node or edge.

    Raises:
        ValueError: for what is not one row per node or edge.
    """
    lists: dict[str, list[Any]] = {}
    for name, x in store.items():
        if name in ("edge_index", "num_nodes"):
            continue
        if not isinstance(x, Tensor) or x.dim() == 0 or len(x) != count:
            raise ValueError(f"{name} of {kind} is not a tensor with a row for each of the {count}")
        # strict JSON has no NaN and no infinity; float() reads them from text
        lists[name] = x.tolist() if x.isfinite().all() else _each(_finite_or_text, x.tolist())
    return [{name: values[place] for name, values in lists.items()} for place in range(count)]


def _tensors(told: Sequence[Mapping[str, Any]], store: Shapes) -> dict[str, Any]:
    features = [_parsed(row["features"]) for row in told]
    values: dict[str, Any] = {}
    for name, shape in store.items():
        if shape is None:
            values[name] = len(told)
            continue
        dtype, tail = getattr(torch, shape[0]), shape[1]
        numbers = [row[name] for row in features]
        if dtype.is_floating_point:
            numbers = _each(float, numbers)
        values[name] = torch.tensor(numbers, dtype=dtype).reshape(len(told), *tail)
    return values


def _finite_or_text(number: float) -> float | str:
    return number if math.isfinite(number) else str(number)


def _each(convert: Callable[[Any], Any], numbers: Any) -> Any:
    """Every number of lists within lists, converted."""
    return [_each(convert, one) for one in numbers] if isinstance(numbers, list) else convert(numbers)


def _parsed(value: Any) -> Any:
    """Attributes as they were before `plain` wrote them as JSON text."""
    return json.loads(value) if isinstance(value, str) else value


def _flat(told: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in told.items():
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
    """Return for every node of a type what there is to say of it, as `NodeType.describe` does.

    Args:
        data: the graph of one post, with its pair.
        node_type: the node type.
        node_types: the model's node types, for those of your own; by default those of this package.
        record: has the spans of entities that the model created, and what merged nodes were merged from.
        entities: the entities that a model found.
    """
    pair = pair_of(data)
    if node_type == "entity" and record is not None:
        return [{"span": list(span), "word": " ".join(pair.words[slice(*span)])} for span in record.spans()]
    merged = [] if record is None else record.merged_slices(node_type)[1:]
    if merged:
        return [{"stands_for": f"{part} {index}"} for part, rows in merged for index in range(rows.stop - rows.start)]
    known = node_types or {}
    if node_type in known:
        described = known[node_type].describe(data)
    elif node_type in DEFAULT_NODE_TYPES:
        described = DEFAULT_NODE_TYPES[node_type]().describe(data)
    else:
        described = [{} for _ in range(data[node_type].num_nodes)]
    if node_type == "token":
        described = [
            values | _predicted(word, entities)
            for values, word in zip(described, data["token"].word.tolist(), strict=True)
        ]
    return described


def _predicted(word: int, entities: Sequence[Entity]) -> dict[str, Any]:
    """The type and score of the entity that contains the word."""
    inside = [entity for entity in entities if entity.start <= word < entity.end]
    return {"entity": inside[-1].type, "entity_score": inside[-1].score} if inside else {}


def describe_edge(kind: EdgeRule | None, features: Mapping[str, Any]) -> dict[str, Any]:
    """The name of the relation's kind, and label and geometry of a spatial edge."""
    if kind is None:
        return {}
    told: dict[str, Any] = {"kind": type(kind).__name__}
    if isinstance(kind, Spatial):
        distance, angle = features["edge_attr"]
        told |= {"label": SPATIAL_LABELS[features["edge_type"]], "distance": distance, "angle": angle}
    return told


def attention_graph(model: Tagger, pair: Pair) -> nx.MultiDiGraph:
    """What the model sees of a post: every node and edge, what each layer weighs, and the entities found.

    Args:
        model: the model; the post is read in evaluation mode.
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
    """One post's graph as a networkx graph; two nodes have an edge for each relation that joins them.

    A node is named by type and place, ``"token 3"``, and an edge's key is the relation's name. Of the
    attributes named here a node or edge has those that it can:

    - every node: ``type``, ``index``; ``mean_gate``, by layer; ``features``, its row of the store's tensors
    - token: ``word``, ``tag`` (gold), ``entity`` and ``entity_score`` (predicted)
    - object: ``label``, ``box``, ``score``, ``span`` (the words that ground it); image: ``image_path``; a node type of
      your own: what its `NodeType.describe` returns
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
        node_types: the model's node types (``model.builder.node_types``), which describe nodes of your own types.
        record: what a model weighed in this post. Nodes that it grew replace those of their type.
        entities: what it found.

    Raises:
        ValueError: for a batch, for the record of another post, or for what networkx could not carry back.
        KeyError: when the record weighs an edge that is not there.
    """
    held = {} if isinstance(data, Batch) else graph_values(data)
    if isinstance(data, Batch) or held.keys() - {"pair"}:
        what = "a batch" if isinstance(data, Batch) else f"a graph that itself holds {', '.join(held)}"
        raise ValueError(f"to_networkx takes the graph of one post, not {what}; GraphBuilder makes it")
    pair: Pair | None = held.get("pair")
    if record is not None:
        if pair is None or record.pair.words != pair.words:
            raise ValueError(f"the record is of the post {' '.join(record.pair.words)!r}, not of this one")
        data = _with_grown(data, record)
    complete = _complete(data, schema)
    kinds = {} if schema is None else {relation.key: relation.rule for relation in schema}

    graph = nx.MultiDiGraph(
        pair=None if pair is None else pair.to_dict(),
        node_stores=[[key, shapes(store_values(data, key))] for key in data.node_types],
        edge_stores=[[list(key), shapes(store_values(data, key))] for key in data.edge_types],
        complete=[list(key) for key in complete],
    )
    for key in data.node_types:
        told: list[dict[str, Any]] = [{} for _ in range(data[key].num_nodes)]
        if pair is not None:
            told = describe_nodes(data, key, node_types=node_types, record=record, entities=entities)
        _add_nodes(graph, data, key, told)
    for key in data.edge_types:
        _add_edges(graph, key, store_values(data, key), kinds)
    for key, index in complete.items():
        _add_edges(graph, key, {"edge_index": index}, kinds)
    if record is not None:
        _add_weights(graph, record)
    return graph


def _add_nodes(
    graph: nx.MultiDiGraph, data: HeteroData, node_type: str, described: Sequence[Mapping[str, Any]]
) -> None:
    features = rows(store_values(data, node_type), data[node_type].num_nodes, node_type)
    for index, (values, row) in enumerate(zip(described, features, strict=True)):
        graph.add_node(f"{node_type} {index}", type=node_type, index=index, **values, features=row)


def _add_edges(
    graph: nx.MultiDiGraph, key: EdgeType, values: Mapping[str, Any], kinds: Mapping[EdgeType, EdgeRule]
) -> None:
    src, relation, dst = key
    index = values["edge_index"].t().tolist()
    for place, ((sender, receiver), row) in enumerate(zip(index, rows(values, len(index), key), strict=True)):
        ends = f"{src} {sender}", f"{dst} {receiver}"
        name = f"{relation} #{place}" if graph.has_edge(*ends, relation) else relation
        told = describe_edge(kinds.get(key), row)
        graph.add_edge(*ends, name, relation=relation, index=place, **told, features=row)


def _add_weights(graph: nx.MultiDiGraph, record: PairRecord) -> None:
    """Every layer's weights, on the edges and nodes that they are of."""
    for gates in record.gates:
        for place, value in enumerate(gates.values.tolist()):
            if not isnan(value):
                graph.nodes[f"{gates.node_type} {place}"].setdefault("mean_gate", {})[gates.layer] = value
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


def _with_grown(data: HeteroData, record: PairRecord) -> HeteroData:
    """The post with the nodes and edges that the model grew in place of those that it was given."""
    grown = copy.copy(data)
    for kind, count in record.nodes.items():
        if kind not in data.node_types or data[kind].num_nodes != count:
            set_store(grown, kind, {"num_nodes": count})
    for relation, index in record.dynamic_edges.items():
        set_store(grown, relation, {"edge_index": index})
    return grown


def _complete(data: HeteroData, schema: Schema | None) -> dict[EdgeType, Tensor]:
    """The edges of the complete relations that the data does not store."""
    return {
        relation.key: relation.connect(data).edge_index
        for relation in schema or ()
        if relation.rule.fully_connected and relation.key not in data.edge_types
    }
