from .builder import (
    GraphBuilder as GraphBuilder,
)
from .collate import (
    EdgeType as EdgeType,
)
from .collate import (
    collate as collate,
)
from .collate import (
    pair_of as pair_of,
)
from .collate import (
    with_pair as with_pair,
)
from .collate import (
    with_plain_pair as with_plain_pair,
)
from .context import (
    Agreement as Agreement,
)
from .context import (
    Context as Context,
)
from .context import (
    ContextWords as ContextWords,
)
from .edge_rules import (
    Complete as Complete,
)
from .edge_rules import (
    EdgeRule as EdgeRule,
)
from .edge_rules import (
    EdgeSet as EdgeSet,
)
from .edge_rules import (
    Grounded as Grounded,
)
from .edge_rules import (
    InEntity as InEntity,
)
from .edge_rules import (
    Member as Member,
)
from .edge_rules import (
    NearestWordOf as NearestWordOf,
)
from .edge_rules import (
    Spatial as Spatial,
)
from .edge_rules import (
    Windowed as Windowed,
)
from .edge_rules import (
    edge_index_from as edge_index_from,
)
from .layout import (
    Edges as Edges,
)
from .layout import (
    Layout as Layout,
)
from .node_types import (
    CreatedNodes as CreatedNodes,
)
from .node_types import (
    Entities as Entities,
)
from .node_types import (
    Images as Images,
)
from .node_types import (
    NearestWordNodes as NearestWordNodes,
)
from .node_types import (
    NodeType as NodeType,
)
from .node_types import (
    Objects as Objects,
)
from .node_types import (
    Sentences as Sentences,
)
from .node_types import (
    Tokens as Tokens,
)
from .node_types import (
    add_subtokens as add_subtokens,
)
from .schema import (
    Relation as Relation,
)
from .schema import (
    Schema as Schema,
)
