"""Layers from GraphState to GraphState."""
