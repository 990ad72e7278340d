from .config import (
    OptimizerConfig as OptimizerConfig,
)
from .config import (
    TrainerConfig as TrainerConfig,
)
from .evaluate import (
    Evaluation as Evaluation,
)
from .evaluate import (
    evaluate as evaluate,
)
from .evaluate import (
    evaluate_in_detail as evaluate_in_detail,
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
