from .convert import (
    attention_graph as attention_graph,
)
from .convert import (
    from_networkx as from_networkx,
)
from .convert import (
    plain as plain,
)
from .convert import (
    to_networkx as to_networkx,
)
from .metrics import (
    Faithfulness as Faithfulness,
)
from .metrics import (
    PictureChange as PictureChange,
)
from .metrics import (
    faithfulness as faithfulness,
)
from .metrics import (
    what_the_picture_changes as what_the_picture_changes,
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
    silenced as silenced,
)
from .pyg_explainer import (
    Explainable as Explainable,
)
from .record import (
    Call as Call,
)
from .record import (
    NodeGates as NodeGates,
)
from .record import (
    PostRecord as PostRecord,
)
from .record import (
    Record as Record,
)
from .record import (
    Weights as Weights,
)
from .recorder import (
    record_attention as record_attention,
)
