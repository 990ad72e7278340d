from .attention import (
    plot_attention_heads as plot_attention_heads,
)
from .attention import (
    plot_entity_object_attention as plot_entity_object_attention,
)
from .attention import (
    plot_image_attention as plot_image_attention,
)
from .detections import (
    plot_detections as plot_detections,
)
from .graph import (
    plot_graph as plot_graph,
)
from .grounding import (
    plot_grounding as plot_grounding,
)
from .schema import (
    plot_schema as plot_schema,
)
from .scores import (
    plot_errors as plot_errors,
)
from .scores import (
    plot_f1_by_type as plot_f1_by_type,
)
from .scores import (
    plot_reliability as plot_reliability,
)
from .scores import (
    plot_training_curves as plot_training_curves,
)
from .scores import (
    plot_type_confusion as plot_type_confusion,
)
