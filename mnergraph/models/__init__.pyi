from .adacan import (
    AdaCAN as AdaCAN,
)
from .base import (
    Tagger as Tagger,
)
from .gei.model import (
    GEI as GEI,
)
from .gvatt import (
    GVATT as GVATT,
)
from .hamlearning.model import (
    HamLearning as HamLearning,
)
from .mgcmt.model import (
    MGCMT as MGCMT,
)
from .mrc_mner.model import (
    MRCMNER as MRCMNER,
)
from .registry import (
    MODELS as MODELS,
)
from .registry import (
    SCHEMAS as SCHEMAS,
)
from .text_only import (
    BERT as BERT,
)
from .text_only import (
    BERTCRF as BERTCRF,
)
from .text_only import (
    BiLSTMCRF as BiLSTMCRF,
)
from .text_only import (
    CNNBiLSTMCRF as CNNBiLSTMCRF,
)
from .text_only import (
    HBiLSTMCRF as HBiLSTMCRF,
)
from .umgf.model import (
    UMGF as UMGF,
)
from .umt import (
    MTBERTCRF as MTBERTCRF,
)
from .umt import (
    UMT as UMT,
)
