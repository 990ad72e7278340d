"""Wrapper of a model and a post for PyG's explainers, which learn masks on features and edges."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch_geometric.explain.algorithm.utils import clear_masks, set_hetero_masks
from torch_geometric.nn import MessagePassing

from mnergraph.explain.recorder import RECORDED_MODULES
from mnergraph.graph.collate import EdgeType, collate
from mnergraph.graph.layout import Edges
from mnergraph.models.base import Tagger
from mnergraph.nn.conv.attention import AttentionShare
from mnergraph.nn.layers.hetero import HeteroLayer
from mnergraph.nn.modes import evaluation_mode
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

#: The recorded modules whose output the layers go on with, so that it can be masked.
_MASKABLE = tuple(kind for kind in RECORDED_MODULES if kind is not AttentionShare)


class PyGExplainerModel(nn.Module):
    """A model on one post as PyG's ``Explainer`` expects it: ``(x_dict, edge_index_dict) -> scores of every token``.

    The layers before the first one along a relation are computed once: ``x_dict`` holds the features at its input,
    ``edge_index_dict`` the edges of every relation, fully connected ones included. Relations are computed sparse,
    and the mask of an edge multiplies its message in every layer, as in PyG's own convolutions. Both hold only what
    can change a score by a mask: no relation that is empty, that cannot reach the tags, or whose operators are not
    PyG's and contain neither `AttentionWeights` nor `GateValues`; no nodes created in a later layer.

    ::

        post = PyGExplainerModel(model, pair)
        explainer = Explainer(
            post,
            GNNExplainer(epochs=100),
            explanation_type="model",
            node_mask_type="object",
            edge_mask_type="object",
            model_config=ModelConfig("multiclass_classification", "node", "raw"),
        )
        explanation = explainer(post.x_dict, post.edge_index_dict, index=0)
        explanation["object", "guides", "token"].edge_mask

    Args:
        model: the model; it is not changed.
        pair: the post, with the features that the model reads.
        task: name of the scores to explain.
        begin: index of the first layer to explain; by default the first along a relation. Edges of nodes created
            during the forward pass can be masked from the layer after their creation on.

    Raises:
        ValueError: for a model without layers along a relation.
    """

    def __init__(self, model: Tagger, pair: Pair, *, task: str = "tags", begin: int | None = None) -> None:
        super().__init__()
        self.task = task
        layers = list(model.layers)
        along = [
            index
            for index, layer in enumerate(layers)
            if any(isinstance(part, (HeteroLayer, *_MASKABLE)) for part in layer.modules())
        ]
        if not along:
            raise ValueError(f"{type(model).__name__} has no layer along a relation, so no edge to explain")
        begin = along[0] if begin is None else begin
        device = next(model.parameters()).device
        with evaluation_mode(model):
            with torch.no_grad():
                graph = GraphState.from_batch(
                    collate([model.builder(replace(pair, labels=None))]).to(device), model.schema
                )
                self.graph: GraphState = model.layers[:begin](graph)
            self.layers = nn.Sequential(*layers[begin:])
            self.masks = {key: _Mask() for key in self.graph.edges}
            # PyG looks up the modules of a relation by such names
            self.relations = nn.ModuleDict(
                {"__".join(key): nn.ModuleList([mask, *self._convolutions(key)]) for key, mask in self.masks.items()}
            )
            x = {name: self.graph.x[name] for name in self.graph.layouts if name in self.graph.x}
            index = {key: edges.index for key, edges in self.graph.edges.items() if edges.index.shape[1]}
            self.x_dict, self.edge_index_dict = self._with_gradient(x, index)
        self.training = model.training

    def forward(self, x_dict: Mapping[str, Tensor], edge_index_dict: Mapping[EdgeType, Tensor]) -> Tensor:
        """Return the scores of every token, ``[tokens, labels]``.

        Args:
            x_dict: features by node type, ``[nodes, features]``; the post's own for missing types.
            edge_index_dict: edges by relation, ``[2, edges]``; the post's own for missing relations. The number and
                order of edges with types or attributes must not change.
        """
        edges = {key: known.with_layout("sparse") for key, known in self.graph.edges.items()}
        for key, index in edge_index_dict.items():
            known = edges[key]
            edges[key] = Edges(known.src, known.dst, index, type=known.type, attr=known.attr, layout="sparse")
        masks = [(of_relation, self.masks[key]) for key, of_relation in edges.items()]

        def apply_mask(module: nn.Module, args: tuple[Any, ...], weights: Tensor) -> Tensor:
            for of_relation, mask in masks:
                if any(arg is of_relation for arg in args) and mask._edge_mask is not None:
                    return mask.explain_message(weights, None)
            return weights

        with ExitStack() as hooks:
            for part in self.layers.modules():
                if isinstance(part, _MASKABLE):
                    hooks.callback(part.register_forward_hook(apply_mask).remove)
            graph = replace(self.graph, x={**self.graph.x, **x_dict}, edges=edges)
            return self.layers(graph).emissions[self.task]

    def _convolutions(self, key: EdgeType) -> list[MessagePassing]:
        """PyG's own convolutions along a relation, which apply masks themselves."""
        return [
            operator
            for layer in self.layers.modules()
            if isinstance(layer, HeteroLayer)
            for relation, operator in zip(layer.relations, layer.operators, strict=True)
            if relation == key and isinstance(operator, MessagePassing)
        ]

    def _with_gradient(
        self, x: dict[str, Tensor], index: dict[EdgeType, Tensor]
    ) -> tuple[dict[str, Tensor], dict[EdgeType, Tensor]]:
        """The features and relations whose masks get a gradient."""
        features = {name: values.detach().requires_grad_() for name, values in x.items()}
        masks = {key: ends.new_ones(ends.shape[1], dtype=torch.float).requires_grad_() for key, ends in index.items()}
        set_hetero_masks(self, masks, index, apply_sigmoid=False)
        with torch.enable_grad():
            scores = self(features, index)
            inputs = [*features.values(), *masks.values()]
            gradients = torch.autograd.grad(scores.sum(), inputs, allow_unused=True)
        clear_masks(self)
        reached = {id(value) for value, gradient in zip(inputs, gradients, strict=True) if gradient is not None}
        return (
            {name: x[name] for name, value in features.items() if id(value) in reached},
            {key: index[key] for key, mask in masks.items() if id(mask) in reached},
        )


class _Mask(MessagePassing):
    """Holds the mask that PyG sets for the edges of one relation."""
