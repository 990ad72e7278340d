"""Inference: from posts to entities, with the processor that the model was trained with."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
