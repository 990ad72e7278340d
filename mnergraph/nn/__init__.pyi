from .conv.additive_attention import (
    AdditiveAttention as AdditiveAttention,
)
from .conv.attention import (
    Attention as Attention,
)
from .conv.gated_sum import (
    GatedSum as GatedSum,
)
from .conv.pooling import (
    Pool as Pool,
)
from .conv.rgcn import (
    RelationalConvolution as RelationalConvolution,
)
from .encoders.characters import (
    CharacterCNN as CharacterCNN,
)
from .encoders.characters import (
    CharacterLSTM as CharacterLSTM,
)
from .encoders.characters import (
    Spelling as Spelling,
)
from .encoders.crops import (
    PixelEncoder as PixelEncoder,
)
from .encoders.pretrained import (
    TextEncoder as TextEncoder,
)
from .encoders.visual import (
    ImageEncoder as ImageEncoder,
)
from .encoders.visual import (
    ObjectEncoder as ObjectEncoder,
)
from .encoders.word_vectors import (
    WordEncoder as WordEncoder,
)
from .heads.crf import (
    CRF as CRF,
)
from .heads.independent import (
    Softmax as Softmax,
)
from .heads.scheduled_sampling import (
    Scheduled as Scheduled,
)
from .heads.scheduled_sampling import (
    ScheduledSampling as ScheduledSampling,
)
from .heads.tagging import (
    Emit as Emit,
)
from .heads.tagging import (
    Hint as Hint,
)
from .heads.tagging import (
    Task as Task,
)
from .heads.tagging import (
    conversion_matrix as conversion_matrix,
)
from .heads.tagging import (
    span_scores as span_scores,
)
from .heads.tagging import (
    span_task as span_task,
)
from .layers.entity_nodes import (
    GrowEntities as GrowEntities,
)
from .layers.entity_nodes import (
    JoinEntityWords as JoinEntityWords,
)
from .layers.gates import (
    Blend as Blend,
)
from .layers.gates import (
    Gate as Gate,
)
from .layers.gates import (
    Highway as Highway,
)
from .layers.gates import (
    VisualGate as VisualGate,
)
from .layers.hetero import (
    Add as Add,
)
from .layers.hetero import (
    AddNorm as AddNorm,
)
from .layers.hetero import (
    Along as Along,
)
from .layers.hetero import (
    Apply as Apply,
)
from .layers.hetero import (
    EachNode as EachNode,
)
from .layers.hetero import (
    FeedForward as FeedForward,
)
from .layers.hetero import (
    Positions as Positions,
)
from .layers.hetero import (
    PyGLayer as PyGLayer,
)
from .layers.hetero import (
    RelationalLayer as RelationalLayer,
)
from .layers.hetero import (
    Remember as Remember,
)
from .layers.lstm import (
    LSTM as LSTM,
)
from .layers.lstm import (
    SentenceQuery as SentenceQuery,
)
from .layers.lstm import (
    Spread as Spread,
)
from .layers.lstm import (
    WordLSTM as WordLSTM,
)
from .layers.node_types import (
    Merge as Merge,
)
from .layers.node_types import (
    Split as Split,
)
from .layers.transformer import (
    ThereAndBack as ThereAndBack,
)
from .layers.transformer import (
    TransformerBlock as TransformerBlock,
)
from .layers.transformer import (
    Transformers as Transformers,
)
from .state import (
    Graph as Graph,
)
