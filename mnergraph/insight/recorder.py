"""Attention out of a model without touching its forward: hooks, while a ``with`` lasts and no longer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from mnergraph.graph import Edges, EdgeType
from mnergraph.insight.filing import Seen, call_of, filed
from mnergraph.insight.record import Found, Record
from mnergraph.insight.weights import What
from mnergraph.nn.additive import AdditiveWeights
from mnergraph.nn.attention import AttentionWeights
from mnergraph.nn.gates import GateValues
from mnergraph.nn.state import Graph

#: The parameter-free modules whose results are recorded, and what those are.
WEIGHERS: dict[type[nn.Module], What] = {
    AttentionWeights: "attention",
    AdditiveWeights: "attention",
    GateValues: "mean gate",
}


@contextmanager
def record_attention(model: nn.Module) -> Iterator[Record]:
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
        model: a model, or any stack of layers Graph -> Graph.
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
    graph: Graph | None
    edges: Edges | None
    seen: list[Seen] = field(default_factory=list)
    called: Counter[nn.Module] = field(default_factory=Counter)


class _Recorder:
    """Knows which modules are running, and so along which relation of which layer weights are computed."""

    def __init__(self, model: nn.Module) -> None:
        self.record = Record()
        everywhere = dict(model.named_modules(remove_duplicate=False))
        #: every place of each module to be watched: those that weigh, and all that they lie in
        self.paths: dict[nn.Module, list[str]] = {model: [""]}
        watched = {
            ".".join(parts[:length])
            for path, module in everywhere.items()
            if isinstance(module, tuple(WEIGHERS))
            for parts in [path.split(".")]
            for length in range(1, len(parts) + 1)
        }
        for path, module in everywhere.items():
            if path in watched:
                self.paths.setdefault(module, []).append(path)
        self.running: list[_Running] = []
        self._begin()

    def _begin(self) -> None:
        self.found: list[Found] = []
        self.graphs: list[Graph] = []
        self.layers: Counter[tuple[str, EdgeType | str]] = Counter()

    def hooks(self, module: nn.Module) -> Iterator[torch.utils.hooks.RemovableHandle]:
        """Registers what watches this module."""
        if isinstance(module, tuple(WEIGHERS)):
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
        graph, edges = _first(Graph, given), _first(Edges, given)
        self.running.append(_Running(self._place(module), graph, edges))
        if graph is not None:
            self.graphs.append(graph)

    def _weighed(self, module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> None:
        if not self.running:
            raise ValueError("weights were computed outside of the model; call it, or layers Graph -> Graph")
        what = next(what for kind, what in WEIGHERS.items() if isinstance(module, kind))
        edges = _first(Edges, (*args, *kwargs.values()))
        within = next((running.edges for running in reversed(self.running) if running.edges), None)
        values = output.detach()
        values = values if what == "attention" else values.float().mean(-1, keepdim=True)
        if edges is not None and values.dim() == 4:
            # dense attention [sentences, heads, dst, src], gates [sentences, dst, src, 1] -> [edges, heads]
            values = (values.permute(0, 2, 3, 1) if what == "attention" else values)[edges.slots_of_edges]
        self.running[-1].seen.append(Seen(self._place(module), what, values, edges, within))

    def _leave(self, module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        left = self.running.pop()
        if output is None:  # it raised
            if not self.running:
                self._begin()
            return
        if isinstance(output, Graph):
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
                f"{left.seen[0].path} weighed outside of any layer Graph -> Graph, so nobody knows along "
                "which relation; record a model, or a stack of such layers"
            )
        if graphs:
            self.record.calls.append(call_of(found, graphs[0], graphs[-1]))

    def _filed(self, seen: Seen, path: str, before: Graph, after: Graph) -> Found:
        """What a layer weighed, under the layer's place in the stack."""
        found = filed(seen, before, after)
        layer = path.removeprefix("layers.") or "0"
        self.layers[layer, found.of] += 1
        again = self.layers[layer, found.of]
        return replace(found, layer=layer if again == 1 else f"{layer}#{again}")


_Kind = TypeVar("_Kind")


def _first(kind: type[_Kind], things: Iterable[Any]) -> _Kind | None:
    return next((thing for thing in things if isinstance(thing, kind)), None)
