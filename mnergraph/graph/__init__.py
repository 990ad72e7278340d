"""From pairs to graphs: node types, schemas and edge rules. Nothing here has parameters."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
