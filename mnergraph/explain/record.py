"""What a model weighed in one post: along every relation of every layer, and at its nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mnergraph.graph.collate import EdgeType
from mnergraph.pair import Pair

WeightType = Literal["attention", "mean gate"]


@dataclass(frozen=True, eq=False)
class EdgeWeights:
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
    what: WeightType
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
    """A gate that one layer set for every node of a type (`mnergraph.nn.GatedMix`, `VisualGate`).

    Attributes:
        layer: as in `EdgeWeights`.
        kind: the node type.
        values: ``[nodes]``, the mean over the features; NaN for a node that has no gate, as it hears nobody.
        module: which module computed them.
    """

    layer: str
    node_type: str
    values: Tensor
    module: str


@dataclass(frozen=True, eq=False)
class PairRecord:
    """What was recorded of one post in one call.

    Attributes:
        pair: the post.
        word: ``[tokens]``, the word that each token belongs to; -1 for a special one.
        nodes: how many nodes of each type there were in the end.
        parts: for a node type whose nodes stand for those of other types, which those are, in their order.
        weights: along relations, in the order in which they were computed.
        gates: of nodes, likewise.
        dynamic_edges: the edges ``[2, edges]`` of relations whose nodes the model grew on its way (GEI's entities).
    """

    pair: Pair
    word: Tensor
    nodes: Mapping[str, int]
    parts: Mapping[str, tuple[str, ...]]
    weights: tuple[EdgeWeights, ...]
    gates: tuple[NodeGates, ...]
    dynamic_edges: Mapping[EdgeType, Tensor]

    def select(self, relation: EdgeType, *, layer: str | None = None) -> tuple[EdgeWeights, ...]:
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
        for (src, _, dst), index in self.dynamic_edges.items():
            if {src, dst} == {"entity", "token"}:
                entity, token = index if src == "entity" else index.flip(0)
                words = [self.word[token[entity == node]] for node in range(self.nodes["entity"])]
                return [(int(of.min()), int(of.max()) + 1) if len(of) else (0, 0) for of in words]
        return list(self.pair.entities)

    def node_rows(self, kind: str, span: tuple[int, int]) -> Tensor:
        """The nodes that speak for the words ``span[0]`` to ``span[1]``: their tokens, or their entities."""
        start, end = span
        if kind == "entity":
            touching = [low < end and high > start for low, high in self.spans()]
        else:
            touching = [kind == "token" and start <= word < end for word in self.word.tolist()]
        return torch.tensor([place for place, does in enumerate(touching) if does], dtype=torch.long)

    def merged_slices(self, kind: str) -> list[tuple[str, slice]]:
        """The types that the nodes of one type stand for, itself first, and which of its nodes do."""
        merged_slices = [(kind, slice(0, self.nodes[kind]))]
        begin = 0
        for part in self.parts.get(kind, ()):
            merged_slices.append((part, slice(begin, begin := begin + self.nodes[part])))
        return merged_slices

    def attention_to(
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
            senders = dict(self.merged_slices(sender)).get(src) if relation in (None, w.relation) else None
            node_rows = self.node_rows(receiver, span)
            if senders is not None and len(node_rows):
                found.append(w.matrix()[:, node_rows, senders].mean((0, 1)))
        return torch.stack(found).mean(0) if found else None


@dataclass(frozen=True, eq=False)
class CapturedWeights:
    """What one module weighed in all posts of a call, post after post; ``edges`` of grown nodes likewise."""

    what: WeightType | Literal["edges"]
    of: EdgeType | str
    values: Tensor
    lengths: Sequence[int]
    index: Tensor | None = None
    ends: Sequence[tuple[int, int]] = ()
    layer: str = ""
    module: str = ""

    @cached_property
    def parts(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Values and index of every post."""
        index = () if self.index is None else self.index.split(list(self.lengths), dim=1)
        return self.values.split(list(self.lengths)), index


@dataclass(frozen=True, eq=False)
class ForwardRecord:
    """One call of the model: a record of every post of its batch.

    Attributes:
        pairs: the posts.
        words: for every post the word of each token.
        nodes: for every node type how many nodes each post has in the end.
        parts: for merged node types the types that they were merged from.
        found: what was weighed, in the order of computation, then the edges of grown nodes.
    """

    pairs: Sequence[Pair]
    words: Sequence[Sequence[int]]
    nodes: Mapping[str, Sequence[int]]
    parts: Mapping[str, Sequence[str]]
    found: Sequence[CapturedWeights]

    @cached_property
    def posts(self) -> tuple[PairRecord, ...]:
        return tuple(map(self._post, range(len(self.pairs))))

    def _post(self, place: int) -> PairRecord:
        weights, gates, grown = [], [], {}
        for found in self.found:
            values, index = found.parts
            if isinstance(found.of, str):
                gates.append(NodeGates(found.layer, found.of, values[place][:, 0], found.module))
            elif found.what == "edges":
                grown[found.of] = index[place]
            else:
                weights.append(
                    EdgeWeights(
                        found.layer,
                        found.of,
                        found.what,
                        index[place],
                        values[place],
                        found.ends[place],
                        found.module,
                    )
                )
        return PairRecord(
            self.pairs[place],
            torch.tensor(self.words[place], dtype=torch.long),
            {kind: counts[place] for kind, counts in self.nodes.items()},
            {kind: tuple(parts) for kind, parts in self.parts.items()},
            tuple(weights),
            tuple(gates),
            grown,
        )


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """What `record_attention` saw: the calls of the model, kept apart, in their order."""

    calls: list[ForwardRecord] = field(default_factory=list)

    @property
    def posts(self) -> list[PairRecord]:
        """The posts of all calls, one after the other."""
        return [post for call in self.calls for post in call.posts]

    def __str__(self) -> str:
        lines = [f"{len(self.calls)} calls, {sum(len(call.pairs) for call in self.calls)} posts"]
        seen = dict.fromkeys(
            f"layer {found.layer}: {found.what} {_name(found.of)}, {found.values.shape[1]} heads"
            if found.what == "attention"
            else f"layer {found.layer}: {found.what} {_name(found.of)}"
            for call in self.calls
            for found in call.found
            if found.what != "edges"
        )
        return "\n".join([*lines, *seen])

    def save(self, path: str | Path) -> None:
        """Writes the record to a safetensors file. Pairs are kept without their vectors."""
        tensors: dict[str, Tensor] = {}
        calls = []
        for number, call in enumerate(self.calls):
            told = []
            for place, found in enumerate(call.found):
                tensors[f"{number}.{place}.values"] = found.values.contiguous()
                if found.index is not None:
                    tensors[f"{number}.{place}.index"] = found.index.contiguous()
                left_out = ("values", "index", "parts")
                told.append({name: value for name, value in vars(found).items() if name not in left_out})
            calls.append(
                {
                    "pairs": [pair.to_dict() for pair in call.pairs],
                    "words": call.words,
                    "nodes": call.nodes,
                    "parts": call.parts,
                    "found": told,
                }
            )
        save_file(tensors, path, metadata={_KEY: json.dumps({"calls": calls})})

    @classmethod
    def load(cls, path: str | Path) -> AttentionRecord:
        """The record that `save` wrote.

        Raises:
            ValueError: when the file is no record.
        """
        with safe_open(path, framework="pt") as file:
            told = (file.metadata() or {}).get(_KEY)
            if told is None:
                raise ValueError(f"{path} is no record of attention: its metadata has no {_KEY}")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        calls = []
        for number, call in enumerate(json.loads(told)["calls"]):
            found = [
                _found(entry, tensors[f"{number}.{place}.values"], tensors.get(f"{number}.{place}.index"))
                for place, entry in enumerate(call["found"])
            ]
            calls.append(replace(ForwardRecord(**call), pairs=list(map(Pair.from_dict, call["pairs"])), found=found))
        return cls(calls)


_KEY = "mnergraph.attention"


def _found(entry: dict[str, Any], values: Tensor, index: Tensor | None) -> CapturedWeights:
    of = entry["of"] if isinstance(entry["of"], str) else tuple(entry["of"])
    ends = [tuple(both) for both in entry["ends"]]
    return CapturedWeights(**entry | {"of": of, "ends": ends, "values": values, "index": index})


def _name(of: EdgeType | str) -> str:
    return f"of {of}" if isinstance(of, str) else f"along ({', '.join(of)})"
