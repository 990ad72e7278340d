"""WHAT IS CONNECTED TO WHAT. No parameters live here."""

from mnergraph.graph.batch import collate
from mnergraph.graph.builder import GraphBuilder
from mnergraph.graph.kinds import Connection, Kind, Relation, pairs
from mnergraph.graph.layout import Edges, Layout
from mnergraph.graph.pair import Box, Object, Pair
from mnergraph.graph.relations import Complete, EntityWords, Grounded, Member, Resembles, Spatial, Windowed
from mnergraph.graph.schema import Schema
from mnergraph.graph.stores import EdgeType

__all__ = [
    "Box",
    "Complete",
    "Connection",
    "EdgeType",
    "Edges",
    "EntityWords",
    "GraphBuilder",
    "Grounded",
    "Kind",
    "Layout",
    "Member",
    "Object",
    "Pair",
    "Relation",
    "Resembles",
    "Schema",
    "Spatial",
    "Windowed",
    "collate",
    "pairs",
]
