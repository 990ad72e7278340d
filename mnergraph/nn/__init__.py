"""HOW NODES SPEAK TO EACH OTHER: operators along a relation, layers from graph to graph, heads."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
