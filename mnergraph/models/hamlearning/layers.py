"""Relevance of the image to the text, spatial encoding and gated updates of HamLearning."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.nn.layers.gates import Gate
from mnergraph.nn.state import GraphState


class Relevance(nn.Module):
    """Features of the objects joined with the relevant part of the image (HamLearning, eqs. 8-11).

    C = tanh(h^T W v_IMG),  M = tanh(W' h + W'' v_IMG C),  v_i <- linear [M * v_IMG, v_i]

    M is feature by feature. W is initialized with the small deviation 1 / dimension, so that C is not saturated. A
    post without an image has v_IMG = 0.

    Args:
        image_key: name of the image's features in a view of the image.
        object_key: name of the objects' features in it, which are replaced.
        view_dim: dimension of both.
        text_dim: dimension of the sentence, and of the result.
        measured: whether M is computed; else it is 1, and the unchanged image joins every object.
    """

    def __init__(self, image_key: str, object_key: str, view_dim: int, text_dim: int, *, measured: bool = True) -> None:
        super().__init__()
        self.image_key, self.object_key, self.measured = image_key, object_key, measured
        if measured:
            self.match = nn.Linear(view_dim, text_dim, bias=False)
            nn.init.normal_(self.match.weight, std=1 / view_dim)
            self.sentence = nn.Linear(text_dim, view_dim, bias=False)
            self.image = nn.Linear(view_dim, view_dim, bias=False)
        self.join = nn.Linear(2 * view_dim, text_dim)

    def forward(self, graph: GraphState) -> GraphState:
        # [sentences, view_dim], zeros without an image
        image = graph.layouts["image"].to_dense(graph.x[self.image_key]).sum(1)
        if self.measured:
            sentence = graph.x["sentence"]
            # eq. 8, [sentences, 1]
            match = torch.tanh((sentence * self.match(image)).sum(-1, keepdim=True))
            # eq. 9, [sentences, view_dim]
            image = torch.tanh(self.sentence(sentence) + self.image(image) * match) * image
        objects = graph.x[self.object_key]
        # eq. 10
        both = torch.cat([image[graph.layouts["object"].graph_index], objects], -1)
        return graph.update(**{self.object_key: self.join(both)})


class GatedResidual(nn.Module):
    """A residual whose message passes a gate (HamLearning, eqs. 5-7).

    m = relu(message),  out = x + lambda * m,  lambda = sigmoid(W [m, x]);  lambda feature by feature

    The paper leaves open which non-linearity phi of eq. 5 is: the ReLU is our choice.

    Args:
        hidden_size: of nodes and messages.
    """

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.gate = Gate(hidden_size)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """``[nodes, hidden size]`` twice -> ``[nodes, hidden size]``."""
        message = torch.relu(message)
        # eqs. 6-7
        return x + self.gate(message, x) * message


class BoxFeatures(nn.Module):
    """Positions in the image, before the features of objects and image (HamLearning, "Spatial Encoding").

    [x_c, y_c, h, w, v];  center, height and width relative to the image's: 1/2, 1/2, 1, 1 for the image itself,
    zeros for an object without a box or in an image of unknown size.

    Reads the ``box`` of objects and the ``image_size`` of sentences, so the schema needs both node types.
    """

    #: How many features are added.
    DIM = 4

    def forward(self, graph: GraphState) -> GraphState:
        objects, image = graph.x["object"], graph.x["image"]
        size = graph.data["sentence"].image_size[graph.layouts["object"].graph_index]
        # [objects, 2] twice
        low, high = (graph.data["object"].box / size.repeat(1, 2)).split(2, -1)
        boxes = torch.cat([(low + high) / 2, (high - low).flip(-1)], -1).nan_to_num()
        whole = image.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(len(image), -1)
        return graph.update(
            object=torch.cat([boxes.to(objects.dtype), objects], -1), image=torch.cat([whole, image], -1)
        )
