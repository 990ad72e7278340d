from .convert import (
    attention_graph as attention_graph,
)
from .convert import (
    from_networkx as from_networkx,
)
from .convert import (
    graphml_safe as graphml_safe,
)
from .convert import (
    to_networkx as to_networkx,
)
from .metrics import (
    Faithfulness as Faithfulness,
)
from .metrics import (
    ImageEffect as ImageEffect,
)
from .metrics import (
    faithfulness as faithfulness,
)
from .metrics import (
    image_ablation as image_ablation,
)
from .occlusion import (
    Effect as Effect,
)
from .occlusion import (
    Occlusion as Occlusion,
)
from .occlusion import (
    occlusion as occlusion,
)
from .occlusion import (
    without_relations as without_relations,
)
from .pyg_explainer import (
    PyGExplainerModel as PyGExplainerModel,
)
from .record import (
    AttentionRecord as AttentionRecord,
)
from .record import (
    EdgeWeights as EdgeWeights,
)
from .record import (
    ForwardRecord as ForwardRecord,
)
from .record import (
    NodeGates as NodeGates,
)
from .record import (
    PairRecord as PairRecord,
)
from .recorder import (
    record_attention as record_attention,
)
