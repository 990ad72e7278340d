from .config import (
    OptimizerConfig as OptimizerConfig,
)
from .config import (
    TrainerConfig as TrainerConfig,
)
from .evaluate import (
    evaluate as evaluate,
)
from .fit import (
    fit as fit,
)
from .lightning_module import (
    LitTagger as LitTagger,
)
from .loader import (
    GraphLoader as GraphLoader,
)
from .loader import (
    LengthGroupedBatchSampler as LengthGroupedBatchSampler,
)
