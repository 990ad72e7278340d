"""WHAT THE MODEL SAW: recorded attention, networkx graphs, and questions put to a model."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
