"""HOW NODES SPEAK TO EACH OTHER: operators along a relation, layers from graph to graph, heads."""

from mnergraph.nn.attention import Attention
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ObjectEncoder, Positions, Remember, TextEncoder
from mnergraph.nn.fusion import Add, AddNorm, EachNode, FeedForward, GatedSum, PyGLayer, RelationalLayer
from mnergraph.nn.heads import Emit, Task
from mnergraph.nn.softmax import Softmax
from mnergraph.nn.state import Graph

__all__ = [
    "CRF",
    "Add",
    "AddNorm",
    "Attention",
    "EachNode",
    "Emit",
    "FeedForward",
    "GatedSum",
    "Graph",
    "ObjectEncoder",
    "Positions",
    "PyGLayer",
    "RelationalLayer",
    "Remember",
    "Softmax",
    "Task",
    "TextEncoder",
]
