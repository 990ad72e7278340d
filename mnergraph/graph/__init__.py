"""WHAT IS CONNECTED TO WHAT. No parameters live here."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
