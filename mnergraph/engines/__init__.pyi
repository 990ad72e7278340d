from .jobs import BuildContext as BuildContext
from .jobs import ExtractFeatures as ExtractFeatures
from .jobs import PredictEntities as PredictEntities
