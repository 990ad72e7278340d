"""A model with a node type of its own: hashtags, which words attend to."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch_geometric.data import HeteroData

from mnergraph.features.text.encoder import TextEncoderModel, tiny_encoder
from mnergraph.graph import Complete, NodeType, Relation, Schema
from mnergraph.labels import LabelSet
from mnergraph.models import Tagger
from mnergraph.nn import CRF, ObjectEncoder, TaggingHead, TaggingScores, TextEncoder, TransformerLayer
from mnergraph.nn.state import GraphState
from mnergraph.pair import Pair

TOPICS, GUIDES = ("hashtag", "topics", "token"), ("object", "guides", "token")


class Hashtags(NodeType):
    """The words that begin with ``#``, with their length as the only feature."""

    name = "hashtag"

    def store(self, pair: Pair) -> dict[str, Any]:
        index = [i for i, word in enumerate(pair.words) if word.startswith("#")]
        length = torch.tensor([[float(len(pair.words[i]))] for i in index]).reshape(-1, 1)
        return {"word": torch.tensor(index, dtype=torch.long), "x": length, "num_nodes": len(index)}

    def describe(self, data: HeteroData) -> list[dict[str, Any]]:
        return [{"label": data.pair.words[i]} for i in data["hashtag"].word.tolist()]


class HashtagEncoder(nn.Module):
    """A linear map of the hashtags' features."""

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, hidden_size)

    def forward(self, graph: GraphState) -> GraphState:
        return graph.update(hashtag=self.linear(graph.data["hashtag"].x))


class WithHashtags(Tagger):
    """Words attend to objects, then to hashtags, with two heads each."""

    def __init__(self, encoder: TextEncoderModel, labels: LabelSet, hashtags: NodeType) -> None:
        size = encoder.hidden_size
        super().__init__(
            schema=Schema([Relation(*GUIDES, Complete()), Relation(*TOPICS, Complete())]),
            layers=[
                TextEncoder(encoder),
                ObjectEncoder(size, label_dim=size),
                HashtagEncoder(size),
                TransformerLayer(GUIDES, size, 2),
                TransformerLayer(TOPICS, size, 2),
                TaggingScores("tags", size, len(labels)),
            ],
            heads=[TaggingHead(CRF(labels.tags), labels)],
            encoder=encoder,
            labels=labels,
            node_types=[hashtags],
        )


def with_hashtags(hashtags: NodeType | None = None) -> WithHashtags:
    """A small model with random weights, the same at every call, in evaluation mode."""
    torch.manual_seed(1)
    encoder = tiny_encoder(["paris", "in", "the", "rain"], hidden_size=16, num_layers=1, heads=2)
    return WithHashtags(encoder, LabelSet.from_types(["PER", "LOC"]), hashtags or Hashtags()).eval()
