"""Reports: entities, errors and attention of posts as one HTML file that needs no network."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
