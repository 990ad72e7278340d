"""Stores to rows of networkx attributes and back, and attributes that any file format can hold."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx
import torch
from torch import Tensor
from torch_geometric.data import HeteroData

from mnergraph.graph import EdgeType, Pair
from mnergraph.graph.stores import fill

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
        data._global_store._mapping["pair"] = pair
    place: dict[str, int] = {}
    for kind, shape in told["node_stores"]:
        mine = nodes.pop(kind, [])
        place |= {node: row for row, node in enumerate(mine)}
        fill(data, kind, _tensors([graph.nodes[node] for node in mine], shape))
    types = graph.nodes(data="type")
    edges = _by_index(
        ((types[edge[0]], row["relation"], types[edge[1]]), row["index"], edge)
        for *edge, row in graph.edges(keys=True, data=True)
    )
    for key, shape in told["edge_stores"]:
        mine = edges.pop(tuple(key), [])
        ends = [(place[sender], place[receiver]) for sender, receiver, _ in mine]
        index = torch.tensor(ends, dtype=torch.long).reshape(-1, 2).t().contiguous()
        fill(data, tuple(key), {"edge_index": index} | _tensors([graph.edges[edge] for edge in mine], shape))
    strange = [*nodes, *(edges.keys() - set(map(tuple, told["complete"])))]
    if strange:
        raise ValueError(
            f"{', '.join(map(str, strange))} was not in the graph at first; its stores are unknown"
        )
    return data


def _by_index(found: Iterable[tuple[Any, int, Any]]) -> dict[Any, list[Any]]:
    """By type the nodes, by relation the edges, each in the order of their index."""
    grouped: dict[Any, list[tuple[int, Any]]] = {}
    for key, index, thing in found:
        grouped.setdefault(key, []).append((index, thing))
    return {
        key: [thing for _, thing in sorted(things, key=lambda it: it[0])] for key, things in grouped.items()
    }


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
