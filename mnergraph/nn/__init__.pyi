from .conv.additive_attention import (
    AdditiveAttention as AdditiveAttention,
)
from .conv.attention import (
    RelationAttention as RelationAttention,
)
from .conv.attention_message import (
    AttentionMessage as AttentionMessage,
)
from .conv.bilinear_attention import (
    BilinearAttention as BilinearAttention,
)
from .conv.gated_sum import (
    GatedSum as GatedSum,
)
from .conv.pair_scores import (
    PairScores as PairScores,
)
from .conv.pooling import (
    SpanPooling as SpanPooling,
)
from .conv.rgcn import (
    RelationalConvolution as RelationalConvolution,
)
from .encoders.characters import (
    CharacterCNN as CharacterCNN,
)
from .encoders.characters import (
    CharacterEncoder as CharacterEncoder,
)
from .encoders.characters import (
    CharacterLSTM as CharacterLSTM,
)
from .encoders.crops import (
    PixelEncoder as PixelEncoder,
)
from .encoders.prefix_encoder import (
    PrefixTextEncoder as PrefixTextEncoder,
)
from .encoders.pretrained import (
    TextEncoder as TextEncoder,
)
from .encoders.stored import (
    StoredFeatures as StoredFeatures,
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
from .heads.base import (
    Head as Head,
)
from .heads.contrast import (
    ContrastHead as ContrastHead,
)
from .heads.crf import (
    CRF as CRF,
)
from .heads.domain_adversary import (
    DomainAdversaryHead as DomainAdversaryHead,
)
from .heads.entities import (
    EntityHead as EntityHead,
)
from .heads.grounding import (
    EntityGrounding as EntityGrounding,
)
from .heads.grounding import (
    Grounding as Grounding,
)
from .heads.grounding import (
    GroundingHead as GroundingHead,
)
from .heads.independent import (
    IndependentTags as IndependentTags,
)
from .heads.matching import (
    MatchingHead as MatchingHead,
)
from .heads.post_label import (
    PostLabelHead as PostLabelHead,
)
from .heads.scheduled_sampling import (
    EpochAware as EpochAware,
)
from .heads.scheduled_sampling import (
    PredictedSpans as PredictedSpans,
)
from .heads.scheduled_sampling import (
    ProgressAware as ProgressAware,
)
from .heads.scheduled_sampling import (
    ScheduledSampling as ScheduledSampling,
)
from .heads.scheduled_sampling import (
    ScheduledSamplingConfig as ScheduledSamplingConfig,
)
from .heads.spans import (
    SpanHead as SpanHead,
)
from .heads.tagging import (
    LabelTransfer as LabelTransfer,
)
from .heads.tagging import (
    SpanDetectionHead as SpanDetectionHead,
)
from .heads.tagging import (
    TaggingHead as TaggingHead,
)
from .heads.tagging import (
    TaggingScores as TaggingScores,
)
from .heads.tagging import (
    conversion_matrix as conversion_matrix,
)
from .heads.tagging import (
    span_detection_scores as span_detection_scores,
)
from .layers.batch_norm import (
    AddBatchNorm as AddBatchNorm,
)
from .layers.entity_nodes import (
    EntityEdges as EntityEdges,
)
from .layers.entity_nodes import (
    EntityNodes as EntityNodes,
)
from .layers.gates import (
    Gate as Gate,
)
from .layers.gates import (
    GatedAdd as GatedAdd,
)
from .layers.gates import (
    GatedMix as GatedMix,
)
from .layers.gates import (
    LinearMix as LinearMix,
)
from .layers.gates import (
    VisualGate as VisualGate,
)
from .layers.gradient_reversal import (
    GradientReversal as GradientReversal,
)
from .layers.hetero import (
    Add as Add,
)
from .layers.hetero import (
    AddNorm as AddNorm,
)
from .layers.hetero import (
    CopyFeatures as CopyFeatures,
)
from .layers.hetero import (
    FeatureModule as FeatureModule,
)
from .layers.hetero import (
    FeedForward as FeedForward,
)
from .layers.hetero import (
    HeteroConvLayer as HeteroConvLayer,
)
from .layers.hetero import (
    HeteroLayer as HeteroLayer,
)
from .layers.hetero import (
    NodeTypeModule as NodeTypeModule,
)
from .layers.hetero import (
    PositionalEncoding as PositionalEncoding,
)
from .layers.hetero import (
    RelationModule as RelationModule,
)
from .layers.lstm import (
    BroadcastToTokens as BroadcastToTokens,
)
from .layers.lstm import (
    PackedLSTM as PackedLSTM,
)
from .layers.lstm import (
    SentenceLSTM as SentenceLSTM,
)
from .layers.lstm import (
    WordLSTM as WordLSTM,
)
from .layers.node_types import (
    Creation as Creation,
)
from .layers.node_types import (
    MergeNodeTypes as MergeNodeTypes,
)
from .layers.node_types import (
    SplitNodeTypes as SplitNodeTypes,
)
from .layers.post_gate import (
    ExchangeMessages as ExchangeMessages,
)
from .layers.post_gate import (
    PostGate as PostGate,
)
from .layers.transformer import (
    CoAttention as CoAttention,
)
from .layers.transformer import (
    TransformerConfig as TransformerConfig,
)
from .layers.transformer import (
    TransformerLayer as TransformerLayer,
)
from .state import (
    GraphState as GraphState,
)
