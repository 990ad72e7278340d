"""Where pairs come from: files of posts, the Twitter benchmarks, and evidence about images."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
