"""WHAT THE MODEL SAW: recorded attention, networkx graphs, and questions put to a model."""

from mnergraph.insight.carry import from_networkx, plain
from mnergraph.insight.explain import Explainable
from mnergraph.insight.networks import attention_graph, to_networkx
from mnergraph.insight.occlusion import Effect, Occlusion, occlusion, silenced
from mnergraph.insight.questions import (
    Faithfulness,
    PictureChange,
    faithfulness,
    what_the_picture_changes,
)
from mnergraph.insight.record import Call, Record
from mnergraph.insight.recorder import record_attention
from mnergraph.insight.weights import NodeGates, PostRecord, Weights

__all__ = [
    "Call",
    "Effect",
    "Explainable",
    "Faithfulness",
    "NodeGates",
    "Occlusion",
    "PictureChange",
    "PostRecord",
    "Record",
    "Weights",
    "attention_graph",
    "faithfulness",
    "from_networkx",
    "occlusion",
    "plain",
    "record_attention",
    "silenced",
    "to_networkx",
    "what_the_picture_changes",
]
