from .image_urls import ImageURLError as ImageURLError
from .output import NERResult as NERResult
from .pipeline import NERPipeline as NERPipeline
from .pipeline import pipeline as pipeline
from .predictor import Predictor as Predictor
