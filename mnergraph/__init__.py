"""mnergraph: a sentence-image pair becomes a graph; every step takes a graph and returns a graph.

The public names below are imported when first used (PEP 562). Packages, from the pair to the prediction: `graph`
(node and edge types), `features` (tensors of words and images), `data` (posts), `nn` (operators, layers, heads),
`models` (the papers), `metrics`, `training`, `explain`, `inference`, `cli`.
"""

import warnings as _warnings
from importlib.metadata import version as _version

import lazy_loader as _lazy

# said by torch of torch-geometric's own use of torch.jit, when torch-geometric is imported
_warnings.filterwarnings("ignore", message="`torch.jit")

__version__ = _version("mnergraph")

__getattr__, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)
