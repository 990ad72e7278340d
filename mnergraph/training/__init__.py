"""Training with Lightning: batches of like length, checkpoints chosen on dev alone, runs that resume."""

import lazy_loader as _lazy

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
