"""How far a picture goes with what is said about it (HamLearning, section 3.2)."""

from __future__ import annotations

import torch
from torch import nn

from mnergraph.nn.state import Graph


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

    def forward(self, graph: Graph) -> Graph:
        # [sentences, width], zeros without an image
        image = graph.layouts["image"].pad(graph.x[f"{self.view} image"]).sum(1)
        if self.measured:
            sentence = graph.x["sentence"]
            # eq. 8, [sentences, 1]
            match = torch.tanh((sentence * self.match(image)).sum(-1, keepdim=True))
            # eq. 9, [sentences, width]
            image = torch.tanh(self.sentence(sentence) + self.image(image) * match) * image
        objects = graph.x[f"{self.view} object"]
        # eq. 10
        both = torch.cat([image[graph.layouts["object"].sentence], objects], -1)
        return graph.update(**{f"{self.view} object": self.join(both)})
