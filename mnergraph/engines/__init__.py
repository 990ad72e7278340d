"""Jobs over columns of posts, one callable class each, and the engines that run them on many machines."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
