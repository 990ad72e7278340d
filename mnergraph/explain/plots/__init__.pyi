from .attention import (
    draw_heads as draw_heads,
)
from .attention import (
    draw_heard as draw_heard,
)
from .attention import (
    draw_picture as draw_picture,
)
from .detections import (
    draw_evidence as draw_evidence,
)
from .graph import (
    draw_graph as draw_graph,
)
from .schema import (
    draw_schema as draw_schema,
)
from .scores import (
    draw_confusion as draw_confusion,
)
from .scores import (
    draw_curves as draw_curves,
)
from .scores import (
    draw_types as draw_types,
)
