"""mnergraph: a sentence-image pair becomes a graph; every step takes a graph and returns a graph.

The front door. Rooms behind it: `graph` (what is connected to what), `data` (where pairs come from),
`features` (pixels and words to tensors), `nn` (how nodes speak), `models` (the papers), `insight` (what a
model saw), `pictures`, `page`, `training`, `evaluation`, `pipelines`.
"""

import warnings
from importlib import import_module

with warnings.catch_warnings():
    # said by torch of torch-geometric's own use of torch.jit, once, on import
    warnings.filterwarnings("ignore", message="`torch.jit")
    import_module("torch_geometric")

from mnergraph.evaluation import score
from mnergraph.features.backbone import pretrained, tiny
from mnergraph.graph import GraphBuilder, Object, Pair, Relation, Schema, collate
from mnergraph.insight import attention_graph, record_attention
from mnergraph.labels import Labels
from mnergraph.models import MODELS, Tagger
from mnergraph.pipelines import Pipeline
from mnergraph.posts import Post
from mnergraph.reading import pipeline
from mnergraph.training import Loop, Optimisation, evaluate, fit

load = Tagger.from_pretrained

__all__ = [
    "MODELS",
    "GraphBuilder",
    "Labels",
    "Loop",
    "Object",
    "Optimisation",
    "Pair",
    "Pipeline",
    "Post",
    "Relation",
    "Schema",
    "Tagger",
    "attention_graph",
    "collate",
    "evaluate",
    "fit",
    "load",
    "pipeline",
    "pretrained",
    "record_attention",
    "score",
    "tiny",
]
