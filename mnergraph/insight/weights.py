"""What a model weighed in one post: along every relation of every layer, and at its nodes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mnergraph.graph import EdgeType, Pair

What = Literal["attention", "mean gate"]


@dataclass(frozen=True, eq=False)
class Weights:
    """What one layer weighed along one relation of one post.

    Attributes:
        layer: the layer's place in the stack, ``"4"``; ``"5.0"`` for a layer within the sixth; ``"4#2"`` for
            what the same layer computed along the same relation a second time.
        relation: whose edges these are.
        what: ``"attention"``, or ``"mean gate"`` for gates, which have a value for every feature: their mean.
        index: ``[2, edges]``, sender above receiver, each counted from 0 within the post.
        weights: ``[edges, heads]``, float32; gates count as one head. Attention sums to 1 over the senders of
            a receiver. In training these are the weights before dropout.
        nodes: senders and receivers of the post at that layer.
        module: which module computed them, for ``model.get_submodule``.
    """

    layer: str
    relation: EdgeType
    what: What
    index: Tensor
    weights: Tensor
    nodes: tuple[int, int]
    module: str

    def matrix(self) -> Tensor:
        """``[heads, receivers, senders]``, 0 where there is no edge."""
        senders, receivers = self.nodes
        matrix = self.weights.new_zeros(receivers, senders, self.weights.shape[1])
        matrix[self.index[1], self.index[0]] = self.weights
        return matrix.permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class NodeGates:
    """A gate that one layer set for every node of a type (`mnergraph.nn.Highway`, `VisualGate`).

    Attributes:
        layer: as in `Weights`.
        kind: the node type.
        values: ``[nodes]``, the mean over the features; NaN for a node that has no gate, as it hears nobody.
        module: which module computed them.
    """

    layer: str
    kind: str
    values: Tensor
    module: str


@dataclass(frozen=True, eq=False)
class PostRecord:
    """What was recorded of one post in one call.

    Attributes:
        pair: the post.
        word: ``[tokens]``, the word that each token belongs to; -1 for a special one.
        nodes: how many nodes of each type there were in the end.
        parts: for a node type whose nodes stand for those of other types, which those are, in their order.
        weights: along relations, in the order in which they were computed.
        gates: of nodes, likewise.
        grown: the edges ``[2, edges]`` of relations whose nodes the model grew on its way (GEI's entities).
    """

    pair: Pair
    word: Tensor
    nodes: Mapping[str, int]
    parts: Mapping[str, tuple[str, ...]]
    weights: tuple[Weights, ...]
    gates: tuple[NodeGates, ...]
    grown: Mapping[EdgeType, Tensor]

    def along(self, relation: EdgeType, *, layer: str | None = None) -> tuple[Weights, ...]:
        """What was weighed along one relation, in every layer or in one.

        Raises:
            KeyError: when nothing was; it lists the layers and relations there are.
        """
        found = tuple(w for w in self.weights if w.relation == relation and layer in (None, w.layer))
        if not found:
            there = sorted({f"{w.layer} {w.relation}" for w in self.weights}) or ["nothing"]
            where = "" if layer is None else f" in layer {layer}"
            raise KeyError(f"no weights along {relation}{where}; recorded: {', '.join(there)}")
        return found

    def spans(self) -> list[tuple[int, int]]:
        """From the first to the last word of every entity node, given with the post or grown."""
        for (src, _, dst), index in self.grown.items():
            if {src, dst} == {"entity", "token"}:
                entity, token = index if src == "entity" else index.flip(0)
                words = [self.word[token[entity == node]] for node in range(self.nodes["entity"])]
                return [(int(of.min()), int(of.max()) + 1) if len(of) else (0, 0) for of in words]
        return list(self.pair.entities)

    def rows(self, kind: str, span: tuple[int, int]) -> Tensor:
        """The nodes that speak for the words ``span[0]`` to ``span[1]``: their tokens, or their entities."""
        start, end = span
        if kind == "entity":
            touching = [low < end and high > start for low, high in self.spans()]
        else:
            touching = [kind == "token" and start <= word < end for word in self.word.tolist()]
        return torch.tensor([place for place, does in enumerate(touching) if does], dtype=torch.long)

    def named(self, kind: str) -> list[tuple[str, slice]]:
        """The types that the nodes of one type stand for, itself first, and which of its nodes do."""
        named = [(kind, slice(0, self.nodes[kind]))]
        begin = 0
        for part in self.parts.get(kind, ()):
            named.append((part, slice(begin, begin := begin + self.nodes[part])))
        return named

    def heard(
        self, span: tuple[int, int], src: str = "object", *, relation: EdgeType | None = None
    ) -> Tensor | None:
        """How much words heard of every node of a type: the mean over layers, heads, and the words' nodes.

        Args:
            span: the words from the first to the last, not included.
            src: type of the senders, or what they stand for.
            relation: the one to read; by default all from the senders to tokens or entities.

        Returns:
            ``[senders]``; None when no layer weighed what these words hear of such nodes.
        """
        found = []
        for w in self.weights:
            sender, _, receiver = w.relation
            senders = dict(self.named(sender)).get(src) if relation in (None, w.relation) else None
            rows = self.rows(receiver, span)
            if senders is not None and len(rows):
                found.append(w.matrix()[:, rows, senders].mean((0, 1)))
        return torch.stack(found).mean(0) if found else None
