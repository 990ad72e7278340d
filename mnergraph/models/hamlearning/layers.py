"""How far a picture goes with what is said about it (HamLearning, section 3.2)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mnergraph.nn.layers.gates import Gate
from mnergraph.nn.state import GraphState


class Relevance(nn.Module):
    """How far the image goes with the sentence, and objects that carry so much of it (eqs. 8-11).

    C = tanh(h^T W v_IMG),  M = tanh(W' h + W'' v_IMG C),  v_i <- linear [M * v_IMG, v_i]

    M is by feature. W begins small (deviation 1 / width), lest C begin saturated. A post without an image has
    v_IMG = 0.

    Args:
        view: the features of ``view + " image"`` and ``view + " object"`` are read, the latter written.
        width: of the view.
        text: width of the sentence, and of the result.
        measured: off, M is 1: all of the image joins every object.
    """

    def __init__(self, view: str, width: int, text: int, *, measured: bool = True) -> None:
        super().__init__()
        self.view, self.measured = view, measured
        if measured:
            self.match = nn.Linear(width, text, bias=False)
            nn.init.normal_(self.match.weight, std=1 / width)
            self.sentence = nn.Linear(text, width, bias=False)
            self.image = nn.Linear(width, width, bias=False)
        self.join = nn.Linear(2 * width, text)

    def forward(self, graph: GraphState) -> GraphState:
        # [sentences, width], zeros without an image
        image = graph.layouts["image"].to_dense(graph.x[f"{self.view} image"]).sum(1)
        if self.measured:
            sentence = graph.x["sentence"]
            # eq. 8, [sentences, 1]
            match = torch.tanh((sentence * self.match(image)).sum(-1, keepdim=True))
            # eq. 9, [sentences, width]
            image = torch.tanh(self.sentence(sentence) + self.image(image) * match) * image
        objects = graph.x[f"{self.view} object"]
        # eq. 10
        both = torch.cat([image[graph.layouts["object"].graph_index], objects], -1)
        return graph.update(**{f"{self.view} object": self.join(both)})


class GatedResidual(nn.Module):
    """A message enters as far as a gate lets it (HamLearning, eqs. 5-7).

    m = relu(message),  out = x + lambda * m,  lambda = sigmoid(W [m, x]);  lambda by feature

    The paper leaves open which non-linearity phi of eq. 5 is: the ReLU is our choice.

    Args:
        width: of nodes and messages.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gate = Gate(width)

    def forward(self, x: Tensor, message: Tensor) -> Tensor:
        """``[nodes, width]`` twice -> ``[nodes, width]``."""
        message = torch.relu(message)
        # eqs. 6-7
        return x + self.gate(message, x) * message


class BoxFeatures(nn.Module):
    """Puts where they lie before the features of objects and image (HamLearning, "Spatial Encoding").

    [x_c, y_c, h, w, v];  centre, height and width as shares of the picture: 1/2, 1/2, 1, 1 for the image
    itself, zeros for an object without a box or in a picture whose size nobody knows.

    Reads the ``box`` of objects and the ``image_size`` of sentences, so the schema needs both types.
    """

    #: How many features come before the others.
    WIDTH = 4

    def forward(self, graph: GraphState) -> GraphState:
        objects, image = graph.x["object"], graph.x["image"]
        size = graph.data["sentence"].image_size[graph.layouts["object"].graph_index]
        # [objects, 2] twice
        low, high = (graph.data["object"].box / size.repeat(1, 2)).split(2, -1)
        place = torch.cat([(low + high) / 2, (high - low).flip(-1)], -1).nan_to_num()
        whole = image.new_tensor([0.5, 0.5, 1.0, 1.0]).expand(len(image), -1)
        return graph.update(
            object=torch.cat([place.to(objects.dtype), objects], -1), image=torch.cat([whole, image], -1)
        )
