"""Gates of one number per post, and messages exchanged between the posts of a batch."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mnergraph.nn.conv.gated_sum import GateValues
from mnergraph.nn.post_means import layout_of, post_means
from mnergraph.nn.state import GraphState


class PostGate(nn.Module):
    """Multiply the messages of a post by one number, computed from its nodes and their messages (MAF).

    s = w . mean over the post's nodes i of [x_i ; m_i] + b,  out_i = sigmoid(s) m_i

    The mean is over the nodes that a post has, so that neither its length nor its batch matters. A post without source
    nodes has no message: its gate is 0. The scores s are kept for a head, such as `MatchingHead`, and where
    `ExchangeMessages` made messages of other posts, the scores of these too.

    Args:
        hidden_size: features of a node, and of a message.
        source: the node type that the messages come from.
        task: name under which the graph keeps the scores, ``[posts]``; those of exchanged messages are kept under
            `exchanged_task`.
        in_keys: names of the features x and m, of the same nodes.
        out_key: name of the result.
        exchanged_key: name of the exchanged messages, if any.
    """

    def __init__(
        self,
        hidden_size: int,
        *,
        source: str,
        task: str,
        in_keys: Sequence[str],
        out_key: str,
        exchanged_key: str | None = None,
    ) -> None:
        super().__init__()
        self.linear = nn.Linear(2 * hidden_size, 1)
        self.gates = GateValues()
        self.source, self.task, self.out_key, self.exchanged_key = source, task, out_key, exchanged_key
        self.node_key, self.message_key = in_keys

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph with the result under ``out_key`` and the scores."""
        scores = self._scores(graph, self.message_key)
        no_source = graph.layouts[self.source].counts == 0
        # [nodes, 1]
        closed = scores.masked_fill(no_source, -torch.inf)[layout_of(graph, self.message_key).graph_index, None]
        gated = self.gates(closed, torch.zeros_like(closed)) * graph.x[self.message_key]
        graph = graph.with_features(self.out_key, gated, nodes_of=self.message_key).with_scores(self.task, scores)
        if self.exchanged_key is None or self.exchanged_key not in graph.x:
            return graph
        return graph.with_scores(exchanged_task(self.task), self._scores(graph, self.exchanged_key))

    def _scores(self, graph: GraphState, message_key: str) -> Tensor:
        nodes, messages = post_means(graph, self.node_key), post_means(graph, message_key)
        scores: Tensor = self.linear(torch.cat([nodes, messages.to(nodes.dtype)], -1))[:, 0]
        return scores


class ExchangeMessages(nn.Module):
    """Exchange the messages of a batch's posts, for a task that tells own from foreign ones (MAF).

    In training mode every post with source nodes gets the mean message of the next such post of the batch, the last
    one that of the first, at each of its nodes: posts differ in length, so that messages cannot be exchanged node by
    node. Posts without source nodes keep their own mean. The messages themselves do not change.

    In evaluation mode, and in a batch with fewer than two posts with source nodes, there are none.

    Args:
        source: the node type that the messages come from.
        in_key: name of the messages.
        out_key: name of the exchanged messages, features of the same nodes.
    """

    def __init__(self, *, source: str, in_key: str, out_key: str) -> None:
        super().__init__()
        self.source, self.in_key, self.out_key = source, in_key, out_key

    def forward(self, graph: GraphState) -> GraphState:
        """Return the graph, in training mode with the exchanged messages under ``out_key``."""
        if not self.training:
            return graph
        posts = graph.layouts[self.source].counts.nonzero()[:, 0]
        if len(posts) < 2:
            return graph
        means = post_means(graph, self.in_key)
        exchanged = means.index_copy(0, posts, means[posts.roll(-1)])
        rows = exchanged[layout_of(graph, self.in_key).graph_index]
        return graph.with_features(self.out_key, rows, nodes_of=self.in_key)


def exchanged_task(task: str) -> str:
    """Return the name under which the graph keeps a task's scores of exchanged messages."""
    return f"{task}, exchanged"
