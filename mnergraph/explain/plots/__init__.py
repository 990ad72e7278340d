"""Plots of graphs, attention, detections, schemas and scores by matplotlib; each function returns its figure."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
