"""Neural network parts: encoders of node stores, operators along a relation, layers of graphs, heads."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
