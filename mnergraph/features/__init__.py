"""PIXELS AND WORDS TO TENSORS, computed once."""
