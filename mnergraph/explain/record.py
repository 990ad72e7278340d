"""Records of attention weights and gates: per post, along every relation of every layer, and at nodes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import safe_open
from torch import Tensor

from mnergraph.files import write_tensors
from mnergraph.graph.cached import cached_property
from mnergraph.graph.collate import EdgeType
from mnergraph.pair import DetectedObject, Pair

WeightType = Literal["attention", "mean gate"]


@dataclass(frozen=True, eq=False)
class EdgeWeights:
    """Attention weights or gates of one layer along one relation of one post.

    Attributes:
        layer: index of the layer in the stack, ``"4"``; ``"5.0"`` for the first layer within layer 5; ``"4#2"`` for
            weights that layer 4 computed along the same relation a second time.
        relation: the edge type.
        what: ``"attention"``, or ``"mean gate"``: a gate has a value per feature, and their mean is recorded.
        index: ``[2, edges]``, source and target nodes, each counted from 0 within the post.
        weights: ``[edges, heads]``, float32; gates count as one head. Attention sums to 1 over the source nodes of
            a target node (that of `BilinearAttention` over all edges of the post), or to less where a softmax runs over
            further keys (`AttentionShare`). In training these are the weights before dropout.
        nodes: numbers of source and target nodes of the post at that layer.
        module: name of the module that computed the weights, for ``model.get_submodule``.
    """

    layer: str
    relation: EdgeType
    what: WeightType
    index: Tensor
    weights: Tensor
    nodes: tuple[int, int]
    module: str

    def matrix(self) -> Tensor:
        """Return the weights as ``[heads, target nodes, source nodes]``, 0 where there is no edge."""
        num_src, num_dst = self.nodes
        matrix = self.weights.new_zeros(num_dst, num_src, self.weights.shape[1])
        matrix[self.index[1], self.index[0]] = self.weights
        return matrix.permute(2, 0, 1)


@dataclass(frozen=True, eq=False)
class NodeGates:
    """Gates of one layer for every node of a type (`mnergraph.nn.GatedMix`, `VisualGate`).

    Attributes:
        layer: as in `EdgeWeights`.
        node_type: the node type.
        values: ``[nodes]``, the mean over the features; NaN for a node without a gate, as it has no incoming edges.
        module: name of the module that computed the gates.
    """

    layer: str
    node_type: str
    values: Tensor
    module: str


@dataclass(frozen=True, eq=False)
class PairRecord:
    """Weights and gates of one post in one forward call.

    Attributes:
        pair: the post.
        word: ``[tokens]``, the word that each token belongs to; -1 for a special one.
        nodes: number of nodes of each type at the end of the forward pass.
        merged_from: for a node type whose nodes were merged from other types, those types in order.
        weights: weights along relations, in the order in which they were computed.
        gates: gates of nodes, likewise.
        dynamic_edges: edges ``[2, edges]`` of relations whose nodes were created during the forward pass (GEI's
            entities).
        labels: for node types of your own, the text by which each node is shown (`NodeType.describe`).
    """

    pair: Pair
    word: Tensor
    nodes: Mapping[str, int]
    merged_from: Mapping[str, tuple[str, ...]]
    weights: tuple[EdgeWeights, ...]
    gates: tuple[NodeGates, ...]
    dynamic_edges: Mapping[EdgeType, Tensor]
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def select(self, relation: EdgeType, *, layer: str | None = None) -> tuple[EdgeWeights, ...]:
        """Return the weights along one relation, of every layer or of one.

        Raises:
            KeyError: when there are none; the message lists the recorded layers and relations.
        """
        selected = tuple(w for w in self.weights if w.relation == relation and layer in (None, w.layer))
        if not selected:
            recorded = sorted({f"{w.layer} {w.relation}" for w in self.weights}) or ["nothing"]
            where = "" if layer is None else f" in layer {layer}"
            raise KeyError(f"no weights along {relation}{where}; recorded: {', '.join(recorded)}")
        return selected

    def spans(self) -> list[tuple[int, int]]:
        """Return the word span of every entity node, given with the post or created during the forward pass."""
        for (src, _, dst), index in self.dynamic_edges.items():
            if {src, dst} == {"entity", "token"}:
                entity, token = index if src == "entity" else index.flip(0)
                words = [self.word[token[entity == node]] for node in range(self.nodes["entity"])]
                return [(int(w.min()), int(w.max()) + 1) if len(w) else (0, 0) for w in words]
        return list(self.pair.entities)

    def node_rows(self, node_type: str, span: tuple[int, int]) -> Tensor:
        """Return the indices of the tokens or entities that overlap a span of words.

        Args:
            node_type: ``"token"`` or ``"entity"``; other types have no such nodes.
            span: first word, and last word + 1.
        """
        start, end = span
        if node_type == "entity":
            overlaps = [low < end and high > start for low, high in self.spans()]
        else:
            overlaps = [node_type == "token" and start <= word < end for word in self.word.tolist()]
        return torch.tensor([index for index, inside in enumerate(overlaps) if inside], dtype=torch.long)

    def merged_slices(self, node_type: str) -> list[tuple[str, slice]]:
        """Return the node type with all its nodes, then each type it was merged from with the slice of its nodes."""
        slices = [(node_type, slice(0, self.nodes[node_type]))]
        begin = 0
        for part in self.merged_from.get(node_type, ()):
            slices.append((part, slice(begin, begin := begin + self.nodes[part])))
        return slices

    def node_names(self, node_type: str) -> list[str]:
        """Return a text for every node of a type: word, object label, entity, or the label of a type of your own."""
        pair = self.pair
        if node_type == "token":
            return [pair.words[word] if word >= 0 else "–" for word in self.word.tolist()]
        if node_type == "object":
            return object_names(pair.objects)
        if node_type == "entity":
            return [" ".join(pair.words[slice(*span)]) for span in self.spans()]
        if node_type in self.labels:
            return list(self.labels[node_type])
        return [f"{node_type} {index}" for index in range(self.nodes[node_type])]

    def attention_to(
        self, span: tuple[int, int], src: str = "object", *, relation: EdgeType | None = None
    ) -> Tensor | None:
        """Return the attention of a span of words to every node of a type: the mean over layers, heads, and tokens.

        Args:
            span: first word, and last word + 1.
            src: type of the source nodes, or a type that they were merged from.
            relation: the edge type to read; by default all from the source nodes to tokens or entities.

        Returns:
            ``[source nodes]``; None when no layer computed weights from such nodes to these words.
        """
        means = []
        for w in self.weights:
            sender, _, receiver = w.relation
            columns = dict(self.merged_slices(sender)).get(src) if relation in (None, w.relation) else None
            rows = self.node_rows(receiver, span)
            if columns is not None and len(rows):
                means.append(w.matrix()[:, rows, columns].mean((0, 1)))
        return torch.stack(means).mean(0) if means else None


@dataclass(frozen=True, eq=False)
class CapturedWeights:
    """One module's attention weights or gates for a batch, concatenated over its posts.

    Also the edges that were created during the forward pass, without weights (``what`` is ``"edges"``).

    Attributes:
        what: attention, gates, or edges alone.
        key: the edge type, or for gates of nodes the node type.
        values: ``[edges, heads]``, or ``[nodes, 1]`` for gates of nodes.
        lengths: number of edges or nodes of every post.
        index: ``[2, edges]``, counted within each post; None for gates of nodes.
        num_nodes: numbers of source and target nodes of every post; empty for gates of nodes.
        layer: as in `EdgeWeights`.
        module: name of the module.
    """

    what: WeightType | Literal["edges"]
    key: EdgeType | str
    values: Tensor
    lengths: Sequence[int]
    index: Tensor | None = None
    num_nodes: Sequence[tuple[int, int]] = ()
    layer: str = ""
    module: str = ""

    @cached_property
    def by_post(self) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        """Values and index of every post."""
        index = () if self.index is None else self.index.split(list(self.lengths), dim=1)
        return self.values.split(list(self.lengths)), index


@dataclass(frozen=True, eq=False)
class ForwardRecord:
    """One forward call of the model, with a record of every post of its batch.

    Attributes:
        pairs: the posts.
        words: for every post the word of each token.
        nodes: for every node type its number of nodes in each post at the end of the forward pass.
        merged_from: for merged node types the types that they were merged from.
        captured: weights and gates in the order of computation, then edges created during the forward pass.
        labels: for every node type of your own the texts of the nodes of each post.
    """

    pairs: Sequence[Pair]
    words: Sequence[Sequence[int]]
    nodes: Mapping[str, Sequence[int]]
    merged_from: Mapping[str, Sequence[str]]
    captured: Sequence[CapturedWeights]
    labels: Mapping[str, Sequence[Sequence[str]]] = field(default_factory=dict)

    @cached_property
    def posts(self) -> tuple[PairRecord, ...]:
        """The record of every post."""
        return tuple(map(self._post, range(len(self.pairs))))

    def _post(self, number: int) -> PairRecord:
        weights, gates, created = [], [], {}
        for entry in self.captured:
            values, index = entry.by_post
            if isinstance(entry.key, str):
                gates.append(NodeGates(entry.layer, entry.key, values[number][:, 0], entry.module))
            elif entry.what == "edges":
                created[entry.key] = index[number]
            else:
                weights.append(
                    EdgeWeights(
                        entry.layer,
                        entry.key,
                        entry.what,
                        index[number],
                        values[number],
                        entry.num_nodes[number],
                        entry.module,
                    )
                )
        return PairRecord(
            self.pairs[number],
            torch.tensor(self.words[number], dtype=torch.long),
            {node_type: counts[number] for node_type, counts in self.nodes.items()},
            {node_type: tuple(parts) for node_type, parts in self.merged_from.items()},
            tuple(weights),
            tuple(gates),
            created,
            {node_type: tuple(texts[number]) for node_type, texts in self.labels.items()},
        )


@dataclass(frozen=True, eq=False)
class AttentionRecord:
    """The result of `record_attention`: the forward calls of the model in order."""

    calls: list[ForwardRecord] = field(default_factory=list)

    @property
    def posts(self) -> list[PairRecord]:
        """The posts of all calls, concatenated."""
        return [post for call in self.calls for post in call.posts]

    def __str__(self) -> str:
        lines = [f"{len(self.calls)} calls, {sum(len(call.pairs) for call in self.calls)} posts"]
        entries = dict.fromkeys(
            f"layer {entry.layer}: {entry.what} {_name(entry.key)}, {entry.values.shape[1]} heads"
            if entry.what == "attention"
            else f"layer {entry.layer}: {entry.what} {_name(entry.key)}"
            for call in self.calls
            for entry in call.captured
            if entry.what != "edges"
        )
        return "\n".join([*lines, *entries])

    def save(self, path: str | Path) -> None:
        """Write the record to a safetensors file; pairs are written without their feature tensors."""
        tensors: dict[str, Tensor] = {}
        calls = []
        for number, call in enumerate(self.calls):
            entries = []
            for index, entry in enumerate(call.captured):
                tensors[f"{number}.{index}.values"] = entry.values.contiguous()
                if entry.index is not None:
                    tensors[f"{number}.{index}.index"] = entry.index.contiguous()
                left_out = ("values", "index", "by_post")
                entries.append({name: value for name, value in vars(entry).items() if name not in left_out})
            calls.append(
                {
                    "pairs": [pair.to_dict() for pair in call.pairs],
                    "words": call.words,
                    "nodes": call.nodes,
                    "merged_from": call.merged_from,
                    "captured": entries,
                    "labels": call.labels,
                }
            )
        write_tensors(Path(path), tensors, {_KEY: json.dumps({"calls": calls})})

    @classmethod
    def load(cls, path: str | Path) -> AttentionRecord:
        """Return the record that `save` wrote.

        Raises:
            ValueError: when the file is not a record.
        """
        with safe_open(path, framework="pt") as file:
            text = (file.metadata() or {}).get(_KEY)
            if text is None:
                raise ValueError(f"{path} is no record of attention: its metadata has no {_KEY}")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        calls = []
        for number, call in enumerate(json.loads(text)["calls"]):
            captured = [
                _captured(entry, tensors[f"{number}.{index}.values"], tensors.get(f"{number}.{index}.index"))
                for index, entry in enumerate(call["captured"])
            ]
            pairs = list(map(Pair.from_dict, call["pairs"]))
            calls.append(replace(ForwardRecord(**call), pairs=pairs, captured=captured))
        return cls(calls)


_KEY = "mnergraph.attention"


def object_names(objects: Sequence[DetectedObject]) -> list[str]:
    """Return the objects' labels; objects without a label, or with the same one, get their index added."""
    labels = [item.label or "object" for item in objects]
    return [
        f"{label} {index}" if labels.count(label) > 1 or not item.label else label
        for index, (label, item) in enumerate(zip(labels, objects, strict=True))
    ]


def _captured(entry: dict[str, Any], values: Tensor, index: Tensor | None) -> CapturedWeights:
    key = entry["key"] if isinstance(entry["key"], str) else tuple(entry["key"])
    num_nodes = [tuple(both) for both in entry["num_nodes"]]
    return CapturedWeights(**entry | {"key": key, "num_nodes": num_nodes, "values": values, "index": index})


def _name(key: EdgeType | str) -> str:
    return f"of {key}" if isinstance(key, str) else f"along ({', '.join(key)})"
