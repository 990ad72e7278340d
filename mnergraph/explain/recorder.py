"""Attention out of a model without touching its forward: hooks, while a ``with`` lasts and no longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from mnergraph.explain.record import AttentionRecord, CapturedWeights, ForwardRecord, WeightType
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.nn.conv.additive_attention import AdditiveWeights
from mnergraph.nn.conv.attention import AttentionWeights
from mnergraph.nn.conv.gated_sum import GateValues
from mnergraph.nn.state import GraphState


@dataclass(frozen=True)
class RawCapture:
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
    what: WeightType
    values: Tensor
    edges: Edges | None
    within: Edges | None


def attribute(seen: RawCapture, before: GraphState, after: GraphState) -> CapturedWeights:
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
        found = CapturedWeights(seen.what, kind, _own(values), after.layouts[kind].counts.tolist())
    return replace(found, module=seen.path)


def _relation(path: str, edges: Edges, before: GraphState, after: GraphState) -> EdgeType:
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
    if len(values) == edges.dst.num_nodes:
        return values
    hears = edges.dst.to_flat(edges.has_incoming)
    if len(values) != int(hears.sum()):
        raise ValueError(
            f"{path} set {len(values)} gates within an operator of {edges.dst.num_nodes} receivers; hand "
            "GateValues the edges where gates lie along a relation"
        )
    return values.new_full((len(hears), 1), torch.nan).masked_scatter(hears[:, None], values)


def _written(seen: RawCapture, before: GraphState, after: GraphState) -> str:
    """The node type that gates outside of operators are of: the one whose features their layer writes."""
    names = [name for name, x in after.x.items() if before.x.get(name) is not x]
    kinds = {after.node_type_of(name) for name in names}
    written = set(after.layouts) if None in kinds else {kind for kind in kinds if kind is not None}
    fitting = {kind for kind in written if after.layouts[kind].num_nodes == len(seen.values)}
    # a layer that treats several types keeps the modules of each under its name
    told = [part for part in seen.path.split(".") if part in fitting]
    if not told and len(fitting) != 1:
        raise ValueError(
            f"{seen.path} set {len(seen.values)} gates; its layer may write {', '.join(sorted(written))}, of "
            f"which {', '.join(sorted(fitting)) or 'none'} are as many. A layer that writes features under a "
            "name of their own says with Graph.keep which nodes they are of"
        )
    return told[-1] if told else fitting.pop()


def _along(what: WeightType | Literal["edges"], relation: EdgeType, values: Tensor, edges: Edges) -> CapturedWeights:
    """What lies along one relation, sorted by post, with rows counted within the post."""
    sentence = edges.dst.graph_index[edges.index[1]]
    order = sentence.argsort(stable=True)
    local = edges.index - torch.stack([edges.src.ptr[sentence], edges.dst.ptr[sentence]])
    return CapturedWeights(
        what,
        relation,
        _own(values[order].float()),
        sentence.bincount(minlength=edges.dst.num_graphs).tolist(),
        index=_own(local[:, order]),
        ends=list(zip(edges.src.counts.tolist(), edges.dst.counts.tolist(), strict=True)),
    )


def finish_call(found: list[CapturedWeights], first: GraphState, last: GraphState) -> ForwardRecord:
    """The call's posts, their nodes in the end, and the edges that were not there in the beginning."""
    for relation, edges in last.edges.items():
        if first.edges.get(relation) is not edges:
            nothing = edges.dst.ptr.new_zeros(edges.index.shape[1], 0)
            found.append(_along("edges", relation, nothing, edges))
    for kind, parts in last.merged_from.items():
        counts = torch.stack([last.layouts[part].counts for part in parts]).sum(0)
        if not torch.equal(last.layouts[kind].counts, counts):
            raise ValueError(f"{kind} nodes are said to be made of {', '.join(parts)}, which are not as many")
    words = last.data["token"].word.split(last.layouts["token"].counts.tolist())
    return ForwardRecord(
        pairs=list(last.data.pair),
        words=[of_post.tolist() for of_post in words],
        nodes={kind: layout.counts.tolist() for kind, layout in last.layouts.items()},
        parts=last.merged_from,
        found=found,
    )


def _own(values: Tensor) -> Tensor:
    """A copy off the device that autograd may use, though it was computed in inference mode."""
    with torch.inference_mode(False):
        return values.detach().cpu().clone()


#: The parameter-free modules whose results are recorded, and what those are.
RECORDED_MODULES: dict[type[nn.Module], WeightType] = {
    AttentionWeights: "attention",
    AdditiveWeights: "attention",
    GateValues: "mean gate",
}


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionRecord]:
    """Records what every layer weighs in every call of the model: the true weights that the forward used.

    ::

        with record_attention(model) as record:
            model.predict(pairs)
        record.posts[0].weights

    Whatever computes its weights with `AttentionWeights` or `AdditiveWeights`, or its gates with
    `GateValues`, is recorded, read dense or sparse, along relations of the schema or of nodes that the
    model grows. In training the weights are those before dropout, which sum to 1. What the text encoder
    does inside is no relation, and is not recorded, nor are convolutions of PyG. A call that raises
    leaves nothing in the record.

    Args:
        model: a model, or any stack of layers GraphState -> GraphState.
    """
    recorder = _Recorder(model)
    with ExitStack() as hooks:
        for module in recorder.paths:
            for handle in recorder.hooks(module):
                hooks.callback(handle.remove)
        yield recorder.record


@dataclass
class _Running:
    """A module that has been called and not returned yet."""

    path: str
    graph: GraphState | None
    edges: Edges | None
    seen: list[RawCapture] = field(default_factory=list)
    called: Counter[nn.Module] = field(default_factory=Counter)


class _Recorder:
    """Knows which modules are running, and so along which relation of which layer weights are computed."""

    def __init__(self, model: nn.Module) -> None:
        self.record = AttentionRecord()
        everywhere = dict(model.named_modules(remove_duplicate=False))
        #: every place of each module to be watched: those that weigh, and all that they lie in
        self.paths: dict[nn.Module, list[str]] = {model: [""]}
        watched = {
            ".".join(parts[:length])
            for path, module in everywhere.items()
            if isinstance(module, tuple(RECORDED_MODULES))
            for parts in [path.split(".")]
            for length in range(1, len(parts) + 1)
        }
        for path, module in everywhere.items():
            if path in watched:
                self.paths.setdefault(module, []).append(path)
        self.running: list[_Running] = []
        self._begin()

    def _begin(self) -> None:
        self.found: list[CapturedWeights] = []
        self.graphs: list[GraphState] = []
        self.layers: Counter[tuple[str, EdgeType | str]] = Counter()

    def hooks(self, module: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Registers what watches this module."""
        if isinstance(module, tuple(RECORDED_MODULES)):
            yield module.register_forward_hook(self._weighed, with_kwargs=True)
        else:
            yield module.register_forward_pre_hook(self._enter, with_kwargs=True)
            yield module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)

    def _place(self, module: nn.Module) -> str:
        """Where this call of the module stands; one module may stand in several places."""
        if not self.running:
            return self.paths[module][0]
        parent = self.running[-1]
        below = f"{parent.path}." if parent.path else ""
        places = [path for path in self.paths[module] if path.startswith(below)] or self.paths[module]
        parent.called[module] += 1
        return places[min(parent.called[module], len(places)) - 1]

    def _enter(self, module: nn.Module, args: Any, kwargs: Any) -> None:
        given = (*args, *kwargs.values())
        graph, edges = _first(GraphState, given), _first(Edges, given)
        self.running.append(_Running(self._place(module), graph, edges))
        if graph is not None:
            self.graphs.append(graph)

    def _weighed(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        if not self.running:
            raise ValueError("weights were computed outside of the model; call it, or layers GraphState -> GraphState")
        what = next(what for kind, what in RECORDED_MODULES.items() if isinstance(module, kind))
        edges = _first(Edges, (*args, *kwargs.values()))
        within = next((running.edges for running in reversed(self.running) if running.edges), None)
        values = output.detach()
        values = values if what == "attention" else values.float().mean(-1, keepdim=True)
        if edges is not None and values.dim() == 4:
            # dense attention [sentences, heads, dst, src], gates [sentences, dst, src, 1] -> [edges, heads]
            values = (values.permute(0, 2, 3, 1) if what == "attention" else values)[edges.dense_index]
        self.running[-1].seen.append(RawCapture(self._place(module), what, values, edges, within))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        left = self.running.pop()
        if output is None:  # it raised
            if not self.running:
                self._begin()
            return
        if isinstance(output, GraphState):
            self.graphs.append(output)
            if left.graph is not None:
                self.found += [self._filed(seen, left.path, left.graph, output) for seen in left.seen]
                left.seen = []
        if self.running:
            self.running[-1].seen += left.seen
            return
        found, graphs = self.found, self.graphs
        self._begin()
        if left.seen:
            raise ValueError(
                f"{left.seen[0].path} weighed outside of any layer GraphState -> GraphState, so nobody knows along "
                "which relation; record a model, or a stack of such layers"
            )
        if graphs:
            self.record.calls.append(finish_call(found, graphs[0], graphs[-1]))

    def _filed(self, seen: RawCapture, path: str, before: GraphState, after: GraphState) -> CapturedWeights:
        """What a layer weighed, under the layer's place in the stack."""
        found = attribute(seen, before, after)
        layer = path.removeprefix("layers.") or "0"
        self.layers[layer, found.of] += 1
        again = self.layers[layer, found.of]
        return replace(found, layer=layer if again == 1 else f"{layer}#{again}")


_Kind = TypeVar("_Kind")


def _first(kind: type[_Kind], things: Iterable[Any]) -> _Kind | None:
    return next((thing for thing in things if isinstance(thing, kind)), None)
