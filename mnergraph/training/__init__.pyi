from .config import (
    Loop as Loop,
)
from .config import (
    Optimisation as Optimisation,
)
from .evaluate import (
    evaluate as evaluate,
)
from .fit import (
    fit as fit,
)
from .lightning_module import (
    Training as Training,
)
from .loader import (
    Batches as Batches,
)
from .loader import (
    LengthBuckets as LengthBuckets,
)
