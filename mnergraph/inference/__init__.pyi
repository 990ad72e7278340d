from .image_urls import ImageURLError as ImageURLError
from .output import NERResult as NERResult
from .pipeline import NERPipeline as NERPipeline
from .pipeline import pipeline as pipeline
from .predictor import Predictor as Predictor
from .spacy_docs import to_displacy as to_displacy
from .spacy_docs import to_spacy as to_spacy
