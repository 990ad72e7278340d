"""An auxiliary task of whole posts: contrast of sentence and image vectors within a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mnergraph.nn.heads.base import Head, full_precision
from mnergraph.nn.post_means import layout_of, post_means
from mnergraph.nn.state import GraphState


class ContrastHead(Head):
    """InfoNCE of two vectors of a post against those of the batch's other posts (van den Oord et al., 2018; MAF).

    t = W_2 relu(W_1 text + b_1) + b_2,  v likewise of the image,  s_pq = cosine(t_p, v_q) / temperature
    loss of post p = -balance * log softmax over q of s_pq at p - (1 - balance) * log softmax over q of s_qp at p

    Text and image are the means of a post's nodes. Posts that lack one of them are neither positives nor negatives;
    their loss is 0, as is that of a batch with a single post that has both. The loss is 0 in evaluation mode, where it
    would depend on the other posts of the batch.

    Args:
        text_size: features of a node of the text.
        image_size: features of a node of the image.
        hidden_size: features of both vectors and of the hidden layers.
        in_keys: names of the features of text and image in the last graph.
        name: name of the task.
        weight: weight of the loss in the model's loss.
        temperature: divides the cosines.
        balance: share of the contrast of a text with all images; the rest is that of an image with all texts.

    Raises:
        ValueError: for a temperature of 0 or less, or a balance outside 0 to 1.
    """

    shown: ClassVar[bool] = False

    def __init__(
        self,
        text_size: int,
        image_size: int,
        hidden_size: int,
        *,
        in_keys: Sequence[str] = ("sentence", "image"),
        name: str = "contrast",
        weight: float = 1.0,
        temperature: float = 0.1,
        balance: float = 0.5,
    ) -> None:
        super().__init__(name, weight=weight)
        if not temperature > 0:
            raise ValueError(f"the temperature is above 0, not {temperature}")
        if not 0 <= balance <= 1:
            raise ValueError(f"the balance of the two contrasts is 0 to 1, not {balance}")
        self.text_key, self.image_key = in_keys
        self.temperature, self.balance = temperature, balance
        self.text, self.image = (
            nn.Sequential(nn.Linear(size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size))
            for size in (text_size, image_size)
        )

    def loss(self, graph: GraphState) -> Tensor:
        """Return the loss of every post, ``[posts]``."""
        if not self.training:
            return full_precision(graph.x[self.text_key].new_zeros(graph.num_graphs))
        posts = self._has_both(graph).nonzero()[:, 0]
        text, image = self.vectors(graph)
        scores = full_precision(text[posts] @ image[posts].T) / self.temperature
        own = torch.arange(len(posts), device=posts.device)
        of_text, of_image = (F.cross_entropy(rows, own, reduction="none") for rows in (scores, scores.T))
        losses = self.balance * of_text + (1 - self.balance) * of_image
        return losses.new_zeros(graph.num_graphs).index_copy(0, posts, losses)

    def vectors(self, graph: GraphState) -> tuple[Tensor, Tensor]:
        """Return the vectors of text and image, of length 1, ``[posts, hidden_size]`` each.

        Raises:
            KeyError: for features whose node type no layer declared.
        """
        text, image = self.text(post_means(graph, self.text_key)), self.image(post_means(graph, self.image_key))
        return F.normalize(text, dim=-1), F.normalize(image, dim=-1)

    def decode(self, graph: GraphState) -> list[float | None]:
        """Return the cosine of text and image, for every post; None where it lacks one of them."""
        text, image = self.vectors(graph)
        cosines = (text * image).sum(-1).tolist()
        has_both = self._has_both(graph).tolist()
        return [value if has else None for value, has in zip(cosines, has_both, strict=True)]

    def _has_both(self, graph: GraphState) -> Tensor:
        return (layout_of(graph, self.text_key).counts > 0) & (layout_of(graph, self.image_key).counts > 0)
