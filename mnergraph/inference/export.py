"""A model as a file that runs without this library: from a batch's tensors to the scores of tags.

What is exported is the text encoder and the stack of layers. Two steps stay outside, as they are loops over data of any
size: how posts become tensors (`export_inputs`), and the best tags of the scores (Viterbi), whose transition scores the
file has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from importlib.metadata import version
from importlib.util import find_spec
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram
from torch_geometric.data import Batch, HeteroData

from mnergraph.features.text.encoder import TextEncoderModel
from mnergraph.files import replacing
from mnergraph.graph.collate import EdgeType, collate, set_store
from mnergraph.graph.layout import Edges, Layout
from mnergraph.graph.node_types import PIECE, Tokens
from mnergraph.graph.schema import Schema
from mnergraph.models.base import Tagger
from mnergraph.nn.heads.crf import CRF
from mnergraph.nn.heads.entities import TAGS
from mnergraph.nn.modes import evaluation_mode
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

#: Name of the settings in a file's metadata.
SETTINGS = "mnergraph.json"
#: Name of the output.
SCORES = "scores"
#: What a forbidden transition scores, as JSON has no infinity.
FORBIDDEN = -1e9
#: Attributes of a batch's stores that no layer reads.
_NOT_INPUTS = {"batch", "ptr", "y"}


def export(model: Tagger, path: str | Path, examples: Sequence[Pair]) -> None:
    """Write a model's encoder and stack as a file that runs without this library, in fp32.

    Its inputs are named tensors (`export_inputs`), of any number of posts, words, objects and edges; its output
    ``scores``, ``[tokens, tags]``. The file's metadata has the JSON object ``mnergraph.json``: ``tags``, the ``start``,
    ``transitions`` and ``end`` scores of the CRF (absent where tags are independent), ``unit`` (whether tokens are
    ``words`` or ``pieces``), ``max_pieces`` of a post, ids of the special pieces around it (``first_pieces``,
    ``last_pieces``), and the names of the ``inputs``.

    Args:
        model: a model whose entities come from tags (`TaggingHead`). One whose layers make nodes in the forward pass,
            such as GEI's entities, can't be exported, nor a layer whose operations depend on the data otherwise.
        path: ``.pt2``, for PyTorch alone (`torch.export.load`), or ``.onnx``, for ONNX Runtime and others, which needs
            the extra ``onnx``. A file that is there is replaced.
        examples: two posts or more of different lengths, with what the model reads (objects, image features): two or
            more of everything. They are traced, and their sizes are not kept.

    Raises:
        ValueError: for another suffix, examples with too little, or a model that can't be exported; with the reason.
        ImportError: for ``.onnx`` without the packages ``onnx`` and ``onnxscript``.
    """
    path = Path(path)
    if path.suffix not in (".pt2", ".onnx"):
        raise ValueError(f"{path.name}: a model is exported as .pt2 or .onnx")
    if path.suffix == ".onnx" and (missing := [name for name in ("onnx", "onnxscript") if find_spec(name) is None]):
        raise ImportError(f"export as .onnx needs {' and '.join(missing)}: pip install 'mnergraph[onnx]'")
    program, names = _program(model, examples)
    settings = json.dumps({**_settings(model), "inputs": names})
    with replacing(path) as unfinished:
        if path.suffix == ".pt2":
            with unfinished.open("wb") as file:
                torch.export.save(program, file, extra_files={SETTINGS: settings})
            return
        converted = torch.onnx.export(program, dynamo=True, verbose=False, input_names=names, output_names=[SCORES])
        assert converted is not None
        converted.model.metadata_props[SETTINGS] = settings
        converted.save(unfinished)


def export_inputs(model: Tagger, posts: Sequence[Pair], names: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Return the tensors that a model's exported file takes, for a batch of posts.

    They are the stores of the batch, as PyG names them, without ``batch`` and ``ptr``, whose place others take:

    - ``token.mask`` ``[posts, max tokens]``, bool: which entries of a padded tensor are nodes, at least two columns; of
      every node type
    - ``token.index`` ``[tokens]``: where it is true, ``mask.flatten().nonzero()``
    - ``piece.input_ids`` ``[pieces]``: features, post after post, without padding
    - ``piece__part_of__token.edge_index`` ``[2, edges]``: edges of a relation, rows of the whole batch; fully connected
      ones have none

    Args:
        model: the model.
        posts: the posts; their labels are not used.
        names: the ``inputs`` of the file's settings; by default all tensors, also those that no layer reads.

    Raises:
        ValueError: for a post of more pieces than the encoder takes, which the library reads in windows.
    """
    batch = collate(model.builder.build_all([replace(pair, labels=None, grounding=None) for pair in posts]))
    limit = _max_pieces(model)
    if limit is not None:
        for pair, count in zip(posts, Layout(batch[PIECE].ptr).counts.tolist(), strict=True):
            if count > limit:
                raise ValueError(f"post {pair.id!r} has {count} pieces; an exported encoder takes {limit}")
    inputs: dict[str, Tensor] = {}
    for store_key in (*batch.node_types, *batch.edge_types):
        store, name = batch[store_key], store_key if isinstance(store_key, str) else "__".join(store_key)
        tensors = {key: value for key, value in store.items() if isinstance(value, Tensor) and key not in _NOT_INPUTS}
        inputs |= {f"{name}.{key}": value for key, value in tensors.items()}
        if "ptr" in store:
            layout = Layout(store.ptr)
            # padding where posts have none or one: torch.export and runtimes treat sizes 0 and 1 on their own
            columns = torch.arange(max(2, layout.max_nodes))
            inputs[f"{name}.mask"] = mask = columns < layout.counts[:, None]
            inputs[f"{name}.index"] = mask.flatten().nonzero()[:, 0]
    return inputs if names is None else {name: inputs[name] for name in names}


class _ExportedLayout(Layout):
    """A layout whose sizes are those of its tensors, not values in them."""

    def __init__(self, mask: Tensor, index: Tensor) -> None:
        counts = mask.sum(1)
        super().__init__(torch.cat([counts.new_zeros(1), counts.cumsum(0)]))
        max_nodes = mask.shape[1]
        graph_index = index // max_nodes
        # in the place of what `Layout` computes on first use; it may be that some post has no node, and padding
        vars(self).update(
            counts=counts,
            num_nodes=index.shape[0],
            max_nodes=max_nodes,
            min_nodes=0,
            graph_index=graph_index,
            position=index - graph_index * max_nodes,
            dense_index=index,
            mask=mask,
            is_dense=False,
        )


class _Scores(nn.Module):
    """A model's encoder and stack, from the tensors of `export_inputs` to the scores of tags.

    Fully connected relations are computed by masks, others by their edges, whatever their density.
    """

    def __init__(self, model: Tagger) -> None:
        super().__init__()
        self.layers = model.layers
        self._schema: Schema = model.schema

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        batch = Batch(_base_cls=HeteroData)
        stores: dict[str, dict[str, Any]] = {}
        for name, tensor in inputs.items():
            key, _, attribute = name.rpartition(".")
            stores.setdefault(key, {})[attribute] = tensor
        layouts: dict[str, Layout] = {}
        for key, values in stores.items():
            if "__" in key:
                set_store(batch, _edge_type(key), values)
                continue
            layouts[key] = layout = _ExportedLayout(values.pop("mask"), values.pop("index"))
            set_store(batch, key, {**values, "ptr": layout.ptr, "num_nodes": layout.num_nodes})
        edges: dict[EdgeType, Edges] = {}
        for relation in self._schema:
            ends = layouts[relation.src], layouts[relation.dst]
            if relation.rule.fully_connected:
                edges[relation.key] = Edges(*ends, layout="dense")
                continue
            store = batch[relation.key]
            type_, attr = store.get("edge_type"), store.get("edge_attr")
            edges[relation.key] = Edges(*ends, store.edge_index, type=type_, attr=attr, layout="sparse")
        graph: GraphState = self.layers(GraphState(batch, edges=edges, layouts=layouts))
        return graph.emissions[TAGS]


def _edge_type(key: str) -> EdgeType:
    src, name, dst = key.split("__")
    return src, name, dst


def _program(model: Tagger, examples: Sequence[Pair]) -> tuple[ExportedProgram, list[str]]:
    """Return the exported program, and the names of the inputs that it reads, in order."""
    head = model.tagging_head
    if not head.gives_types:
        raise ValueError(f"the entity types of this {type(model).__name__} come from its grounding head, not from tags")
    if created := sorted({name for module in model.modules() for name in getattr(module, "creates", ())}):
        raise ValueError(f"{type(model).__name__} can't be exported: its layers create nodes ({', '.join(created)})")
    inputs = export_inputs(model, examples)
    small = [name for name, tensor in inputs.items() if min(_variable_sizes(name, tensor)) < 2]
    if len(examples) < 2 or small:
        raise ValueError(f"examples of a size that can vary have two or more of everything; too little: {small}")
    scores = _Scores(model)
    device = next(model.parameters()).device
    inputs = {name: tensor.to(device) for name, tensor in inputs.items()}
    with torch.no_grad(), evaluation_mode(model), evaluation_mode(scores):
        traced = _traced(model, scores, inputs)
        nodes = {node.name: node for node in traced.graph.nodes if node.op == "placeholder"}
        read = [bool(nodes[name].users) for name in traced.graph_signature.user_inputs]
        names = [name for name, is_read in zip(inputs, read, strict=True) if is_read]
        return _traced(model, scores, {name: inputs[name] for name in names}), names


def _traced(model: Tagger, scores: nn.Module, inputs: dict[str, Tensor]) -> ExportedProgram:
    shapes = {name: dict.fromkeys(_variable_dimensions(name), Dim.DYNAMIC) for name in inputs}
    try:
        with redirect_stderr(StringIO()):  # torch prints the whole graph before it raises an error
            program = torch.export.export(scores, (inputs,), dynamic_shapes=(shapes,), strict=False)
    except Exception as error:  # torch raises many types
        reason = " ".join(str(error).split())[:400]
        raise ValueError(f"{type(model).__name__} can't be exported: {reason}") from error
    # torch takes sizes that depend on the data, which it names u0 and so on, for 2 or more; a batch with fewer fails
    if any(str(symbol).startswith("u") for symbol in program.range_constraints):
        raise ValueError(f"{type(model).__name__} can't be exported: sizes of its layers' tensors depend on the data")
    return program


def _variable_dimensions(name: str) -> tuple[int, ...]:
    """Return which dimensions of an input have another size in every batch."""
    return {"mask": (0, 1), "edge_index": (1,)}.get(name.rpartition(".")[2], (0,))


def _variable_sizes(name: str, tensor: Tensor) -> list[int]:
    return [tensor.shape[dimension] for dimension in _variable_dimensions(name)]


def _max_pieces(model: Tagger) -> int | None:
    """Return the most pieces of a post; None for a model without a text encoder of pieces."""
    return model.encoder.max_length if isinstance(model.encoder, TextEncoderModel) else None


def _settings(model: Tagger) -> dict[str, Any]:
    """Return what a program needs to know of a model to use its file."""
    head, tokens = model.tagging_head, model.builder.node_types["token"]
    settings: dict[str, Any] = {
        "model": type(model).__name__,
        "mnergraph": version("mnergraph"),
        "tags": list(head.labels.tags),
        "unit": head.unit,
        "max_pieces": _max_pieces(model),
    }
    if isinstance(tokens, Tokens) and tokens.tokenizer is not None:
        settings |= {"first_pieces": list(tokens.tokenizer.start), "last_pieces": list(tokens.tokenizer.end)}
    if isinstance(head.decoder, CRF):
        names = ("start", "end", "transitions")
        values = (part.detach().clamp(min=FORBIDDEN).tolist() for part in head.decoder.transition_scores())
        settings |= zip(names, values, strict=True)
    return settings
