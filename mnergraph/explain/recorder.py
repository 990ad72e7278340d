"""Record attention weights without changing a model's forward: hooks that last as long as a ``with`` block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from mnergraph.explain.node_labels import node_labels, own_node_types
from mnergraph.explain.record import AttentionRecord, CapturedWeights, ForwardRecord, WeightType
from mnergraph.graph.collate import EdgeType
from mnergraph.graph.layout import Edges
from mnergraph.graph.node_types import NodeType
from mnergraph.nn.conv.additive_attention import AdditiveWeights
from mnergraph.nn.conv.attention import AttentionShare, AttentionWeights
from mnergraph.nn.conv.bilinear_attention import BilinearWeights
from mnergraph.nn.conv.gated_sum import GateValues
from mnergraph.nn.state import GraphState


@dataclass(frozen=True)
class RawCapture:
    """The output of one recorded module, not yet assigned to an edge type or node type.

    Attributes:
        path: name of the module.
        what: attention, or gates by their mean.
        values: ``[edges, heads]``, or ``[nodes, 1]`` where the module was not given edges; within an operator the
            nodes are its target nodes, or those of them that have incoming edges.
        edges: the edges that the module was given, if any.
        within: the edges of the operator that contains the module, if any.
    """

    path: str
    what: WeightType
    values: Tensor
    edges: Edges | None
    within: Edges | None


def attribute(capture: RawCapture, before: GraphState, after: GraphState) -> CapturedWeights:
    """Assign captured weights to their edge type or node type and sort them by post.

    Args:
        capture: the output of a recorded module in a layer.
        before: the layer's input.
        after: the layer's output.

    Raises:
        ValueError: when the edge type or node type cannot be determined; the message names the module.
    """
    if capture.edges is not None:
        relation = _relation(capture.path, capture.edges, before, after)
        weights = _along(capture.what, relation, capture.values, capture.edges)
    else:
        values = capture.values.float()
        if capture.within is None:
            node_type = _gated_node_type(capture, before, after)
        else:
            node_type = _relation(capture.path, capture.within, before, after)[2]
            values = _for_all_nodes(capture.path, values, capture.within)
        counts = after.layouts[node_type].counts.tolist()
        weights = CapturedWeights(capture.what, node_type, _detached_copy(values), counts)
    return replace(weights, module=capture.path)


def _relation(path: str, edges: Edges, before: GraphState, after: GraphState) -> EdgeType:
    """The edge type of the edges that a layer passed to its operator."""
    for graph in (before, after):
        for relation, known in graph.edges.items():
            if known is edges:
                return relation
    raise ValueError(
        f"{path} computed weights of edges that are neither in the input of its layer nor in the output; pass "
        "operators the graph's own edges"
    )


def _for_all_nodes(path: str, values: Tensor, edges: Edges) -> Tensor:
    """Gates of all target nodes of an operator; NaN for nodes without incoming edges if it computed none for them."""
    if len(values) == edges.dst.num_nodes:
        return values
    has_incoming = edges.dst.to_flat(edges.has_incoming)
    if len(values) != int(has_incoming.sum()):
        raise ValueError(
            f"{path} computed {len(values)} gates within an operator of {edges.dst.num_nodes} target nodes; pass "
            "GateValues the edges where gates lie along a relation"
        )
    return values.new_full((len(has_incoming), 1), torch.nan).masked_scatter(has_incoming[:, None], values)


def _gated_node_type(capture: RawCapture, before: GraphState, after: GraphState) -> str:
    """The node type of gates outside of operators: the one whose features their layer writes."""
    names = [name for name, x in after.x.items() if before.x.get(name) is not x]
    owners = {after.node_type_of(name) for name in names}
    written = set(after.layouts) if None in owners else {owner for owner in owners if owner is not None}
    fitting = {node_type for node_type in written if after.layouts[node_type].num_nodes == len(capture.values)}
    # a layer for several node types keeps the modules of each under its name
    in_path = [part for part in capture.path.split(".") if part in fitting]
    if not in_path and len(fitting) != 1:
        raise ValueError(
            f"{capture.path} computed {len(capture.values)} gates; its layer may write {', '.join(sorted(written))}, "
            f"of which {', '.join(sorted(fitting)) or 'none'} have as many nodes. A layer that writes features under "
            "a name of their own declares their node type by GraphState.with_features(..., nodes_of=...)"
        )
    return in_path[-1] if in_path else fitting.pop()


def _along(what: WeightType | Literal["edges"], relation: EdgeType, values: Tensor, edges: Edges) -> CapturedWeights:
    """Values along one relation, sorted by post, with nodes counted within the post."""
    graph_index = edges.dst.graph_index[edges.index[1]]
    order = graph_index.argsort(stable=True)
    local = edges.index - torch.stack([edges.src.ptr[graph_index], edges.dst.ptr[graph_index]])
    return CapturedWeights(
        what,
        relation,
        _detached_copy(values[order].float()),
        graph_index.bincount(minlength=edges.dst.num_graphs).tolist(),
        index=_detached_copy(local[:, order]),
        num_nodes=list(zip(edges.src.counts.tolist(), edges.dst.counts.tolist(), strict=True)),
    )


def finish_call(
    captured: list[CapturedWeights], first: GraphState, last: GraphState, node_types: Mapping[str, NodeType]
) -> ForwardRecord:
    """Return the record of a call: its posts, their nodes at the end, and the edges created during the call.

    Args:
        captured: weights and gates of all layers; edges created during the call are appended.
        first: the graph that entered the first layer.
        last: the graph that left the last layer.
        node_types: node types of your own, whose `NodeType.describe` gives the labels of their nodes.

    Raises:
        ValueError: for a merged node type with another number of nodes than the types it was merged from.
    """
    for relation, edges in last.edges.items():
        if first.edges.get(relation) is not edges:
            no_weights = edges.dst.ptr.new_zeros(edges.index.shape[1], 0)
            captured.append(_along("edges", relation, no_weights, edges))
    for node_type, parts in last.merged_from.items():
        counts = torch.stack([last.layouts[part].counts for part in parts]).sum(0)
        if not torch.equal(last.layouts[node_type].counts, counts):
            raise ValueError(f"{node_type} nodes are merged from {', '.join(parts)}, which are not as many")
    words = last.data["token"].word.split(last.layouts["token"].counts.tolist())
    return ForwardRecord(
        pairs=list(last.data.pair),
        words=[post.tolist() for post in words],
        nodes={node_type: layout.counts.tolist() for node_type, layout in last.layouts.items()},
        merged_from=last.merged_from,
        captured=captured,
        labels=node_labels(last.data, node_types),
    )


def _detached_copy(values: Tensor) -> Tensor:
    """A copy on the CPU that autograd may use even if the values were computed in inference mode."""
    with torch.inference_mode(False):
        return values.detach().cpu().clone()


#: The parameter-free modules whose outputs are recorded, and what those are.
RECORDED_MODULES: dict[type[nn.Module], WeightType] = {
    AttentionWeights: "attention",
    AttentionShare: "attention",
    AdditiveWeights: "attention",
    BilinearWeights: "attention",
    GateValues: "mean gate",
}


@contextmanager
def record_attention(model: nn.Module) -> Iterator[AttentionRecord]:
    """Record the attention weights and gates of all layers in every forward call of a model.

    ::

        with record_attention(model) as record:
            model.predict(pairs)
        record.posts[0].weights

    Recorded are the weights that the forward pass used: the outputs of `AttentionWeights`, `AdditiveWeights`,
    `BilinearWeights` and `GateValues`, dense or sparse, along relations of the schema or of nodes created during the
    forward pass. In training the weights are those before dropout, which sum to 1. Of the attention inside the text
    encoder, the shares of context words and of nodes that are prefixes are recorded, in every layer
    (`AttentionShare`); the rest is not along a relation, and PyG's convolutions are not recorded either. A call that
    raises leaves nothing in the record.
    Recorded are the calls of the block's own thread, not those of other threads that share the model.

    Args:
        model: a model, or any stack of layers GraphState -> GraphState.

    Yields:
        the record, filled while the block runs.
    """
    recorder = _Recorder(model)
    with ExitStack() as hooks:
        token = _ACTIVE.set(_ACTIVE.get() | {recorder})
        hooks.callback(_ACTIVE.reset, token)
        for module in recorder.paths:
            for handle in recorder.hooks(module):
                hooks.callback(handle.remove)
        yield recorder.record


#: The recorders of the current thread or asynchronous task; hooks of others do nothing.
_ACTIVE: ContextVar[frozenset[_Recorder]] = ContextVar("active recorders", default=frozenset())


@dataclass
class _Running:
    """A module that has been called and has not returned yet."""

    path: str
    graph: GraphState | None
    edges: Edges | None
    captures: list[RawCapture] = field(default_factory=list)
    called: Counter[nn.Module] = field(default_factory=Counter)


class _Recorder:
    """Tracks the running modules to assign weights to the relation and the layer that they were computed for."""

    def __init__(self, model: nn.Module) -> None:
        self.record = AttentionRecord()
        self.node_types = own_node_types(model)
        modules = dict(model.named_modules(remove_duplicate=False))
        #: all paths of each hooked module: the recorded ones and all that contain one
        self.paths: dict[nn.Module, list[str]] = {model: [""]}
        hooked = {
            ".".join(parts[:length])
            for path, module in modules.items()
            if isinstance(module, tuple(RECORDED_MODULES))
            for parts in [path.split(".")]
            for length in range(1, len(parts) + 1)
        }
        for path, module in modules.items():
            if path in hooked:
                self.paths.setdefault(module, []).append(path)
        self.running: list[_Running] = []
        self._begin()

    def _begin(self) -> None:
        self.captured: list[CapturedWeights] = []
        self.graphs: list[GraphState] = []
        self.layers: Counter[tuple[str, EdgeType | str]] = Counter()

    def hooks(self, module: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Register the hooks of a module and yield their handles.

        While another thread adds or removes hooks, torch may call one without ``kwargs``, but never one of this thread.
        """
        if isinstance(module, tuple(RECORDED_MODULES)):
            yield module.register_forward_hook(self._capture, with_kwargs=True)
        else:
            yield module.register_forward_pre_hook(self._enter, with_kwargs=True)
            yield module.register_forward_hook(self._leave, with_kwargs=True, always_call=True)

    def _path(self, module: nn.Module) -> str:
        """The path under which this call of the module runs; a shared module has several."""
        if not self.running:
            return self.paths[module][0]
        parent = self.running[-1]
        below = f"{parent.path}." if parent.path else ""
        paths = [path for path in self.paths[module] if path.startswith(below)] or self.paths[module]
        parent.called[module] += 1
        return paths[min(parent.called[module], len(paths)) - 1]

    def _enter(self, module: nn.Module, args: Any, kwargs: Any = None) -> None:
        if self not in _ACTIVE.get():
            return
        inputs = (*args, *kwargs.values())
        graph, edges = _first(GraphState, inputs), _first(Edges, inputs)
        self.running.append(_Running(self._path(module), graph, edges))
        if graph is not None:
            self.graphs.append(graph)

    def _capture(self, module: nn.Module, args: Any, *rest: Any) -> None:
        if self not in _ACTIVE.get():
            return
        kwargs, output = rest
        if not self.running:
            raise ValueError("weights were computed outside of the model; call it, or layers GraphState -> GraphState")
        what = next(what for recorded, what in RECORDED_MODULES.items() if isinstance(module, recorded))
        edges = _first(Edges, (*args, *kwargs.values()))
        within = next((running.edges for running in reversed(self.running) if running.edges), None)
        values = output.detach()
        values = values if what == "attention" else values.float().mean(-1, keepdim=True)
        if edges is not None and values.dim() == 4:
            # dense attention [posts, heads, dst, src], gates [posts, dst, src, 1] -> [edges, heads]
            values = (values.permute(0, 2, 3, 1) if what == "attention" else values)[edges.dense_index]
        self.running[-1].captures.append(RawCapture(self._path(module), what, values, edges, within))

    def _leave(self, module: nn.Module, args: Any, *rest: Any) -> None:
        if self not in _ACTIVE.get():
            return
        output = rest[-1]
        ended = self.running.pop()
        if output is None:  # it raised
            if not self.running:
                self._begin()
            return
        if isinstance(output, GraphState):
            self.graphs.append(output)
            if ended.graph is not None:
                self.captured += [self._of_layer(it, ended.path, ended.graph, output) for it in ended.captures]
                ended.captures = []
        if self.running:
            self.running[-1].captures += ended.captures
            return
        captured, graphs = self.captured, self.graphs
        self._begin()
        if ended.captures:
            raise ValueError(
                f"{ended.captures[0].path} computed weights outside of any layer GraphState -> GraphState, so their "
                "relation is unknown; record a model, or a stack of such layers"
            )
        if graphs:
            self.record.calls.append(finish_call(captured, graphs[0], graphs[-1], self.node_types))

    def _of_layer(self, capture: RawCapture, path: str, before: GraphState, after: GraphState) -> CapturedWeights:
        """The captured weights with the layer's index in the stack."""
        weights = attribute(capture, before, after)
        layer = path.removeprefix("layers.") or "0"
        self.layers[layer, weights.key] += 1
        repeated = self.layers[layer, weights.key]
        return replace(weights, layer=layer if repeated == 1 else f"{layer}#{repeated}")


_Value = TypeVar("_Value")


def _first(type_: type[_Value], values: Iterable[Any]) -> _Value | None:
    return next((value for value in values if isinstance(value, type_)), None)
