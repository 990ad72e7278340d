"""A record: the calls of a model and what was weighed in them, in memory and on disk."""

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

from mnergraph.graph import EdgeType, Pair
from mnergraph.insight.weights import NodeGates, PostRecord, Weights, What


@dataclass(frozen=True, eq=False)
class Found:
    """What one module weighed in all posts of a call, post after post; ``edges`` of grown nodes likewise."""

    what: What | Literal["edges"]
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
class Call:
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
    found: Sequence[Found]

    @cached_property
    def posts(self) -> tuple[PostRecord, ...]:
        return tuple(map(self._post, range(len(self.pairs))))

    def _post(self, place: int) -> PostRecord:
        weights, gates, grown = [], [], {}
        for found in self.found:
            values, index = found.parts
            if isinstance(found.of, str):
                gates.append(NodeGates(found.layer, found.of, values[place][:, 0], found.module))
            elif found.what == "edges":
                grown[found.of] = index[place]
            else:
                weights.append(
                    Weights(
                        found.layer,
                        found.of,
                        found.what,
                        index[place],
                        values[place],
                        found.ends[place],
                        found.module,
                    )
                )
        return PostRecord(
            self.pairs[place],
            torch.tensor(self.words[place], dtype=torch.long),
            {kind: counts[place] for kind, counts in self.nodes.items()},
            {kind: tuple(parts) for kind, parts in self.parts.items()},
            tuple(weights),
            tuple(gates),
            grown,
        )


@dataclass(frozen=True, eq=False)
class Record:
    """What `record_attention` saw: the calls of the model, kept apart, in their order."""

    calls: list[Call] = field(default_factory=list)

    @property
    def posts(self) -> list[PostRecord]:
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
    def load(cls, path: str | Path) -> Record:
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
            calls.append(replace(Call(**call), pairs=list(map(Pair.from_dict, call["pairs"])), found=found))
        return cls(calls)


_KEY = "mnergraph.attention"


def _found(entry: dict[str, Any], values: Tensor, index: Tensor | None) -> Found:
    of = entry["of"] if isinstance(entry["of"], str) else tuple(entry["of"])
    ends = [tuple(both) for both in entry["ends"]]
    return Found(**entry | {"of": of, "ends": ends, "values": values, "index": index})


def _name(of: EdgeType | str) -> str:
    return f"of {of}" if isinstance(of, str) else f"along ({', '.join(of)})"
