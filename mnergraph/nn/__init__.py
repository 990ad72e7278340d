"""HOW NODES SPEAK TO EACH OTHER: operators along a relation, layers from graph to graph, heads."""

from mnergraph.nn.additive import AdditiveAttention, Along
from mnergraph.nn.attention import Attention
from mnergraph.nn.blocks import ThereAndBack, TransformerBlock, Transformers
from mnergraph.nn.characters import CharacterCNN, CharacterLSTM, Spelling
from mnergraph.nn.crf import CRF
from mnergraph.nn.encoders import ImageEncoder, ObjectEncoder, Positions, Remember
from mnergraph.nn.entities import GrowEntities, JoinEntityWords, Pool
from mnergraph.nn.fusion import Add, AddNorm, Apply, EachNode, FeedForward, PyGLayer, RelationalLayer
from mnergraph.nn.gated import Gated
from mnergraph.nn.gates import Blend, Gate, GatedSum, Highway, VisualGate
from mnergraph.nn.heads import Emit, Hint, Task, conversion_matrix
from mnergraph.nn.interacting import interacting_layer
from mnergraph.nn.joining import AddLinear, Joined, joined_linear, joined_scores
from mnergraph.nn.levels import cross_modal_path
from mnergraph.nn.lookups import CosineSum, ObjectClasses, SimilarVectors, augmented
from mnergraph.nn.multimodal_fusion import fusion_layer
from mnergraph.nn.pixels import PixelEncoder
from mnergraph.nn.recurrent import LSTM, SentenceQuery, Spread, WordLSTM
from mnergraph.nn.relevance import Relevance
from mnergraph.nn.schedule import Scheduled, ScheduledSampling
from mnergraph.nn.softmax import Softmax
from mnergraph.nn.spans import span_scores, span_task
from mnergraph.nn.spatial import BoxFeatures, GatedUpdate, RelationalConvolution
from mnergraph.nn.state import Graph
from mnergraph.nn.text import TextEncoder
from mnergraph.nn.union import Merge, Split
from mnergraph.nn.words import WordEncoder

__all__ = [
    "CRF",
    "LSTM",
    "Add",
    "AddLinear",
    "AddNorm",
    "AdditiveAttention",
    "Along",
    "Apply",
    "Attention",
    "Blend",
    "BoxFeatures",
    "CharacterCNN",
    "CharacterLSTM",
    "CosineSum",
    "EachNode",
    "Emit",
    "FeedForward",
    "Gate",
    "Gated",
    "GatedSum",
    "GatedUpdate",
    "Graph",
    "GrowEntities",
    "Highway",
    "Hint",
    "ImageEncoder",
    "JoinEntityWords",
    "Joined",
    "Merge",
    "ObjectClasses",
    "ObjectEncoder",
    "PixelEncoder",
    "Pool",
    "Positions",
    "PyGLayer",
    "RelationalConvolution",
    "RelationalLayer",
    "Relevance",
    "Remember",
    "Scheduled",
    "ScheduledSampling",
    "SentenceQuery",
    "SimilarVectors",
    "Softmax",
    "Spelling",
    "Split",
    "Spread",
    "Task",
    "TextEncoder",
    "ThereAndBack",
    "TransformerBlock",
    "Transformers",
    "VisualGate",
    "WordEncoder",
    "WordLSTM",
    "augmented",
    "conversion_matrix",
    "cross_modal_path",
    "fusion_layer",
    "interacting_layer",
    "joined_linear",
    "joined_scores",
    "span_scores",
    "span_task",
]
