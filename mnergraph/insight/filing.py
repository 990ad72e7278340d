"""What a hook saw, filed: along which relation, or at which nodes, and in which post."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from mnergraph.graph import Edges, EdgeType
from mnergraph.insight.record import Call, Found
from mnergraph.insight.weights import What
from mnergraph.nn.state import Graph


@dataclass(frozen=True)
class Seen:
    """What one module weighed.

    Attributes:
        path: the module.
        what: attention, or gates by their mean.
        values: ``[edges, heads]``, or ``[nodes, 1]`` where there are no edges; within an operator the nodes
            are its receivers, or those that hear anybody.
        edges: along which the module was asked to weigh, where it was.
        within: the edges of the operator that the module is a part of, where it is of one.
    """

    path: str
    what: What
    values: Tensor
    edges: Edges | None
    within: Edges | None


def filed(seen: Seen, before: Graph, after: Graph) -> Found:
    """What a layer weighed, under its relation or under its node type, by post.

    Args:
        seen: what a module in the layer weighed.
        before: what the layer was given.
        after: what it returned.
    """
    if seen.edges is not None:
        found = _along(seen.what, _relation(seen.path, seen.edges, before, after), seen.values, seen.edges)
    else:
        values = seen.values.float()
        if seen.within is None:
            kind = _written(seen, before, after)
        else:
            kind = _relation(seen.path, seen.within, before, after)[2]
            values = _of_all(seen.path, values, seen.within)
        found = Found(seen.what, kind, _own(values), after.layouts[kind].counts.tolist())
    return replace(found, module=seen.path)


def _relation(path: str, edges: Edges, before: Graph, after: Graph) -> EdgeType:
    """The relation whose edges a layer handed to its operator."""
    for graph in (before, after):
        for relation, known in graph.edges.items():
            if known is edges:
                return relation
    raise ValueError(
        f"{path} weighed along edges that are neither in the graph its layer was given nor in the one "
        "it returned; hand operators the graph's own edges"
    )


def _of_all(path: str, values: Tensor, edges: Edges) -> Tensor:
    """Gates of an operator's receivers; NaN where an operator set none for those that hear nobody."""
    if len(values) == edges.dst.nodes:
        return values
    hears = edges.dst.unpad(edges.heard)
    if len(values) != int(hears.sum()):
        raise ValueError(
            f"{path} set {len(values)} gates within an operator of {edges.dst.nodes} receivers; hand "
            "GateValues the edges where gates lie along a relation"
        )
    return values.new_full((len(hears), 1), torch.nan).masked_scatter(hears[:, None], values)


def _written(seen: Seen, before: Graph, after: Graph) -> str:
    """The node type that gates outside of operators are of: the one whose features their layer writes."""
    names = [name for name, x in after.x.items() if before.x.get(name) is not x]
    kinds = {after.kind_of(name) for name in names}
    written = set(after.layouts) if None in kinds else {kind for kind in kinds if kind is not None}
    fitting = {kind for kind in written if after.layouts[kind].nodes == len(seen.values)}
    # a layer that treats several types keeps the modules of each under its name
    told = [part for part in seen.path.split(".") if part in fitting]
    if not told and len(fitting) != 1:
        raise ValueError(
            f"{seen.path} set {len(seen.values)} gates; its layer may write {', '.join(sorted(written))}, of "
            f"which {', '.join(sorted(fitting)) or 'none'} are as many. A layer that writes features under a "
            "name of their own says with Graph.keep which nodes they are of"
        )
    return told[-1] if told else fitting.pop()


def _along(what: What | Literal["edges"], relation: EdgeType, values: Tensor, edges: Edges) -> Found:
    """What lies along one relation, sorted by post, with rows counted within the post."""
    sentence = edges.dst.sentence[edges.index[1]]
    order = sentence.argsort(stable=True)
    local = edges.index - torch.stack([edges.src.ptr[sentence], edges.dst.ptr[sentence]])
    return Found(
        what,
        relation,
        _own(values[order].float()),
        sentence.bincount(minlength=edges.dst.sentences).tolist(),
        index=_own(local[:, order]),
        ends=list(zip(edges.src.counts.tolist(), edges.dst.counts.tolist(), strict=True)),
    )


def call_of(found: list[Found], first: Graph, last: Graph) -> Call:
    """The call's posts, their nodes in the end, and the edges that were not there in the beginning."""
    for relation, edges in last.edges.items():
        if first.edges.get(relation) is not edges:
            nothing = edges.dst.ptr.new_zeros(edges.index.shape[1], 0)
            found.append(_along("edges", relation, nothing, edges))
    for kind, parts in last.parts.items():
        counts = torch.stack([last.layouts[part].counts for part in parts]).sum(0)
        if not torch.equal(last.layouts[kind].counts, counts):
            raise ValueError(f"{kind} nodes are said to be made of {', '.join(parts)}, which are not as many")
    words = last.data["token"].word.split(last.layouts["token"].counts.tolist())
    return Call(
        pairs=list(last.data.pair),
        words=[of_post.tolist() for of_post in words],
        nodes={kind: layout.counts.tolist() for kind, layout in last.layouts.items()},
        parts=last.parts,
        found=found,
    )


def _own(values: Tensor) -> Tensor:
    """A copy off the device that autograd may use, though it was computed in inference mode."""
    with torch.inference_mode(False):
        return values.detach().cpu().clone()
