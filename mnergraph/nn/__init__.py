"""HOW NODES SPEAK TO EACH OTHER: operators along a relation, layers from graph to graph, heads."""

from mnergraph.nn.attention import Attention
from mnergraph.nn.blocks import ThereAndBack, TransformerBlock
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, ObjectEncoder, Positions, Remember, TextEncoder
from mnergraph.nn.entities import GrowEntities, JoinEntityWords, Pool
from mnergraph.nn.fusion import Add, AddNorm, Apply, EachNode, FeedForward, PyGLayer, RelationalLayer
from mnergraph.nn.gated import Gated
from mnergraph.nn.gates import Gate, GatedSum, Highway, VisualGate
from mnergraph.nn.heads import Emit, Hint, Task, conversion_matrix, span_detection
from mnergraph.nn.merging import MergeNodes
from mnergraph.nn.schedule import Scheduled, ScheduledSampling
from mnergraph.nn.softmax import Softmax
from mnergraph.nn.state import Graph

__all__ = [
    "CRF",
    "Add",
    "AddNorm",
    "Apply",
    "Attention",
    "EachNode",
    "Emit",
    "FeedForward",
    "Gate",
    "Gated",
    "GatedSum",
    "Graph",
    "GrowEntities",
    "Highway",
    "Hint",
    "ImageEncoder",
    "JoinEntityWords",
    "MergeNodes",
    "ObjectEncoder",
    "Pool",
    "Positions",
    "PyGLayer",
    "RelationalLayer",
    "Remember",
    "Scheduled",
    "ScheduledSampling",
    "Softmax",
    "Task",
    "TextEncoder",
    "ThereAndBack",
    "TransformerBlock",
    "VisualGate",
    "conversion_matrix",
    "span_detection",
]
