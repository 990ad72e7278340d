from .explain import attention_graph as attention_graph
from .explain import record_attention as record_attention
from .features.text.encoder import load_encoder as load_encoder
from .features.text.encoder import tiny_encoder as tiny_encoder
from .graph import GraphBuilder as GraphBuilder
from .graph import Relation as Relation
from .graph import Schema as Schema
from .graph import collate as collate
from .inference.pipeline import pipeline as pipeline
from .inference.predictor import Predictor as Predictor
from .labels import LabelSet as LabelSet
from .metrics.scores import score as score
from .models.base import Tagger as Tagger
from .models.base import load as load
from .models.batch_config import BatchConfig as BatchConfig
from .models.registry import MODELS as MODELS
from .pair import DetectedObject as DetectedObject
from .pair import Pair as Pair
from .training import OptimizerConfig as OptimizerConfig
from .training import TrainerConfig as TrainerConfig
from .training import evaluate as evaluate
from .training import fit as fit

__version__: str
