from .adacan import (
    AdaCAN as AdaCAN,
)
from .attr_mmkg_mner import (
    ATTRMMKGMNER as ATTRMMKGMNER,
)
from .base import (
    Tagger as Tagger,
)
from .captions import (
    Captions as Captions,
)
from .evg import (
    EVG as EVG,
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
from .hvpnet.model import (
    HVPNeT as HVPNeT,
)
from .ita import (
    ITA as ITA,
)
from .maf import (
    MAF as MAF,
)
from .mgcmt.model import (
    MGCMT as MGCMT,
)
from .mrc_mner.model import (
    MRCMNER as MRCMNER,
)
from .object_agban import (
    ObjectAGBAN as ObjectAGBAN,
)
from .ocsga import (
    OCSGA as OCSGA,
)
from .pgim import (
    PGIM as PGIM,
)
from .registry import (
    GROUNDERS as GROUNDERS,
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
