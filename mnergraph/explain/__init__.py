"""Explanations: recorded attention, networkx graphs, occlusion, faithfulness of attention, plots and reports."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
