"""PICTURES of what a model saw and how it fared, by matplotlib; each function returns its figure."""

from mnergraph.pictures.evidence import draw_evidence
from mnergraph.pictures.graph import draw_graph
from mnergraph.pictures.heads import draw_heads
from mnergraph.pictures.heard import draw_heard, draw_picture
from mnergraph.pictures.schema import draw_schema
from mnergraph.pictures.scores import draw_confusion, draw_curves, draw_types

__all__ = [
    "draw_confusion",
    "draw_curves",
    "draw_evidence",
    "draw_graph",
    "draw_heads",
    "draw_heard",
    "draw_picture",
    "draw_schema",
    "draw_types",
]
