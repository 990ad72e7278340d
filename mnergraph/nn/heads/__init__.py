"""Heads: loss and decoding of a task."""
